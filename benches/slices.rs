//! Whether a guest keeps its budget: trains in slices on a device without any feature, for a host that waits for each slice.
//!
//!     cargo bench --bench slices
//!     cargo bench --bench slices -- S 8 30
//!
//! Arguments: a shape, the budget in milliseconds, and the number of steps that are measured after the first ten. Prints the times of the
//! slices, the share that took more than 1.5 times the budget, and the time of a step in slices and in one piece. On software adapters read
//! CPU time, and set LP_NUM_THREADS=1. The device has no timestamps, so the engine learns from when it notices the end of a slice.

#[path = "common/record.rs"]
mod record;
#[path = "common/shapes.rs"]
mod shapes;

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use record::Record;
use wgpt::low_level::gpu::{adapter, wait};
use wgpt::{Batch, Budget, Gpu, Options, Request, Trainer, block_on};

/// Steps before the measurement, in which drivers compile and the engine learns how long commands take.
const WARM_UP: u64 = 10;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let word = |index: usize, default: &str| words.get(index).cloned().unwrap_or(default.to_owned());
    let shape = word(0, "S");
    let config = shapes::config(&shape).expect("a shape");
    let budget = Duration::from_secs_f64(word(1, "8").parse::<f64>().expect("milliseconds") / 1e3);
    let steps: u64 = word(2, "20").parse().expect("a number of steps");
    let gpu = bare_device();
    let mut record = Record::new(&gpu, "slices");
    let options = Options { fine: true, ..Options::default() };
    let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &options)).expect("a trainer");
    let tokens = trainer.tokens_per_step() as usize;
    let ids: Vec<u32> = (0..tokens).map(|i| ((i * 2_654_435_761) >> 7) as u32 % config.model.vocab_size as u32).collect();
    let batch = Batch::Given { ids: &ids, targets: &ids };

    let waits = wait::waits();
    let mut slices = vec![];
    while trainer.step_count() < WARM_UP + steps {
        let slice = slice(&gpu, &mut trainer, batch, budget);
        if trainer.step_count() >= WARM_UP {
            slices.push(slice);
        }
    }
    assert_eq!(wait::waits(), waits, "the guest waited");
    let whole: Vec<f64> = (0..5).map(|_| whole_step(&gpu, &mut trainer, batch)).collect();

    let mut cpu: Vec<f64> = slices.iter().map(|slice| slice.0).collect();
    cpu.sort_by(f64::total_cmp);
    let bound = 1.5 * budget.as_secs_f64();
    let over = cpu.iter().filter(|&&seconds| seconds > bound).count() as f64 / cpu.len() as f64;
    let at = |share: f64| cpu[((cpu.len() - 1) as f64 * share) as usize] * 1e3;
    println!("{} slices of {shape} with a budget of {:.1} ms, CPU time of each:", cpu.len(), budget.as_secs_f64() * 1e3);
    println!(
        "  median {:.2} ms, 95 % below {:.2} ms, longest {:.2} ms; {:.1} % above {:.1} ms",
        at(0.5),
        at(0.95),
        at(1.0),
        over * 100.0,
        bound * 1e3
    );
    let sliced = cpu.iter().sum::<f64>() / steps as f64;
    let alone = middle(&whole);
    println!("  a step in slices takes {:.1} CPU-ms, in one piece {:.1}", sliced * 1e3, alone * 1e3);
    let case = format!("{shape} {} ms", budget.as_secs_f64() * 1e3);
    for (measure, value) in
        [("share_over", over), ("median_ms", at(0.5)), ("p95_ms", at(0.95)), ("step_ms", sliced * 1e3), ("whole_step_ms", alone * 1e3)]
    {
        record.add(&case, measure, value);
    }
    record.finish();
}

/// A device with the limits and features that egui requests.
fn bare_device() -> Gpu {
    let adapters = pollster::block_on(adapter::list(&Request::default()));
    let chosen = &adapters[adapter::choose(&adapters, &Request::default()).expect("an adapter")];
    let (device, queue) = pollster::block_on(chosen.request_device(&wgpu::DeviceDescriptor::default())).expect("the baseline limits");
    Gpu::from_wgpu(device, queue)
}

/// CPU and wall seconds of one slice; the host waits for it.
fn slice(gpu: &Gpu, trainer: &mut Trainer, batch: Batch, budget: Duration) -> (f64, f64) {
    let timed = (ProcessTime::now(), Instant::now());
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let ticket = trainer.encode(&mut encoder, batch, Budget::time(budget).steps(1)).expect("a slice");
    gpu.queue().submit([encoder.finish()]);
    ticket.submitted();
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).expect("a device");
    let seconds = (timed.0.elapsed().as_secs_f64(), timed.1.elapsed().as_secs_f64());
    while trainer.poll().expect("a report").is_some() {}
    seconds
}

fn whole_step(gpu: &Gpu, trainer: &mut Trainer, batch: Batch) -> f64 {
    let Batch::Given { ids, targets } = batch else { return 0.0 };
    let timed = ProcessTime::now();
    trainer.step_on(ids, targets).expect("a step");
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).expect("a device");
    timed.elapsed().as_secs_f64()
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
