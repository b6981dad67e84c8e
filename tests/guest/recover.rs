//! A host whose device is lost, between any two of its frames, opens another one and goes on without waiting.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use super::*;

/// A frame with a slice and a picture, on the host's current device.
fn frame(gpu: &Gpu, host: &Host, trainer: &mut Trainer, budget: Budget) -> wgpt::Result<Option<StepReport>> {
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let ticket = trainer.encode(&mut encoder, &corpus(), budget)?;
    host.draw(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    ticket.submitted();
    trainer.poll()
}

/// Recovers while the host goes on drawing: the future is polled once a frame.
fn recover(gpu: &Gpu, host: &Host, trainer: &mut Trainer) -> wgpt::Result<()> {
    let mut recovery = std::pin::pin!(trainer.recover(gpu));
    loop {
        if let Poll::Ready(recovered) = recovery.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return recovered;
        }
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        host.draw(&mut encoder);
        gpu.queue().submit([encoder.finish()]);
        gpu.device().poll(wgpu::PollType::Poll).unwrap();
    }
}

#[test]
fn a_host_recovers_between_any_two_frames() {
    let (mut expected, mut host) = (None, Some(Host::new(gpu())));
    for (seed, every) in [(0, 1e-9), (1, 1e-9), (2, 30.0), (3, 0.0)] {
        let mut config = config(1);
        config.train.snapshot_every = every;
        let (reports, bits) = expected.get_or_insert_with(|| alone(&config));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // One host at a time.
        drop(host.take());
        let mut own = pollster::block_on(host::bare_device());
        // A host that passes the loss on, or one that leaves it to the engine to find out.
        let tell = |own: &Gpu| {
            if seed % 2 == 0 {
                own.device().set_device_lost_callback(own.on_lost());
            }
        };
        tell(&own);
        let mut drawn = Host::new(&own);
        let mut trainer = block_on(&own, Trainer::new(&own, &config, &fine())).unwrap();
        let (mut found, mut losses, mut left) = (vec![], 0, rng.random_range(1..12));
        // Other tests run, and wait, while there is no host.
        let mut waits = wait::waits();
        while found.len() < STEPS as usize {
            left -= 1;
            if left == 0 && losses < 4 {
                own.device().destroy();
            }
            let budget = Budget::dispatches(rng.random_range(1..25)).steps(STEPS - trainer.step_count());
            match frame(&own, &drawn, &mut trainer, budget) {
                Ok(report) => {
                    found.extend(report);
                    std::thread::sleep(Duration::from_micros(300));
                }
                Err(Error::DeviceLost(_)) => {
                    assert_eq!(wait::waits(), waits, "a guest waited");
                    drop(drawn);
                    own = pollster::block_on(host::bare_device());
                    tell(&own);
                    drawn = Host::new(&own);
                    waits = wait::waits();
                    recover(&own, &drawn, &mut trainer).unwrap();
                    (losses, left) = (losses + 1, rng.random_range(1..20));
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(wait::waits(), waits, "a guest waited");
        assert_eq!(found, *reports, "seed {seed}");
        assert!(losses > 2, "{losses} losses");
        let snapshot = block_on(&own, trainer.snapshot()).unwrap();
        let all = snapshot.weights.iter().chain(snapshot.moments.iter().flatten());
        let own_bits: Vec<Vec<u32>> = all.map(|values| values.iter().map(|value| value.to_bits()).collect()).collect();
        assert!(own_bits == *bits, "seed {seed}: weights or moments differ after {losses} losses");
        drop(trainer);
        drawn.check();
        drop(drawn);
        host = Some(Host::new(gpu()));
    }
}
