//! Mistakes of a host, in every order: an immediate error that names the mistake, and nothing lost, run twice or broken for others.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use wgpt::low_level::train::evaluate;

use super::*;

/// Trains to the end: every report and bit equals that of an undisturbed run.
fn goes_on(trainer: &mut Trainer, (expected, bits): &(Vec<StepReport>, Vec<Vec<u32>>)) {
    while trainer.step_count() < STEPS {
        assert!(trainer.step(&corpus(), false, &|| false).unwrap());
    }
    assert_eq!(trainer.finish().unwrap(), *expected);
    assert!(weights(trainer) == *bits, "weights or moments differ");
}

fn wait() {
    gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
}

/// Cuts at the beginning of a step, where inputs are uploaded, and in the middle of one; a slice may hold more than a step.
const CUTS: [(usize, usize); 4] = [(0, 3), (0, usize::MAX), (5, 3), (5, usize::MAX)];

fn cut(host: &Host, seed: u64, dispatches: usize) -> Trainer {
    let mut trainer = trainer(&config(seed), &fine());
    if dispatches > 0 {
        frame(host, &mut trainer, Budget::dispatches(dispatches), true);
    }
    trainer
}

/// Every call that cannot proceed returns an error at once: none blocks or spins.
#[test]
fn a_ticket_that_is_kept() {
    let host = Host::new(gpu());
    let (data, whole) = (corpus(), alone(&config(1)));
    let said = "the last slice is not settled: call `Ticket::submitted`";
    for (before, dispatches) in CUTS {
        let mut trainer = cut(&host, 1, before);
        let (mut first, budget) = (encoder(), Budget::dispatches(dispatches).steps(1));
        let ticket = trainer.encode(&mut first, &data, budget).unwrap();
        usage(trainer.encode(&mut encoder(), &data, budget).map(drop), said);
        usage(trainer.advance(&data, budget), said);
        usage(trainer.step(&data, false, &|| false), said);
        usage(trainer.step_on(&[], &[]), said);
        usage(trainer.end_step(&data), said);
        usage(trainer.finish(), said);
        usage(evaluate(&mut trainer.session, &data, 1, &|| false), said);
        assert!(trainer.poll().unwrap().is_none());
        drop(ticket);
        let said = "the ticket of the last slice was dropped, but its encoder still exists";
        usage(trainer.encode(&mut encoder(), &data, budget).map(drop), said);
        usage(trainer.step(&data, false, &|| false), said);
        usage(evaluate(&mut trainer.session, &data, 1, &|| false), said);
        drop(first);
        goes_on(&mut trainer, &whole);
    }
    host.check();
}

/// The commands have run once: this is reported once, and they count.
#[test]
fn a_dropped_ticket_whose_encoder_is_submitted() {
    let host = Host::new(gpu());
    let whole = alone(&config(1));
    for (before, dispatches) in CUTS {
        for polled in [false, true] {
            let mut trainer = cut(&host, 1, before);
            let mut first = encoder();
            drop(trainer.encode(&mut first, &corpus(), Budget::dispatches(dispatches).steps(2)).unwrap());
            if polled {
                assert!(trainer.poll().unwrap().is_none());
            }
            gpu().queue().submit([first.finish()]);
            wait();
            usage(trainer.poll(), "although its ticket was dropped: it counts as submitted");
            goes_on(&mut trainer, &whole);
        }
    }
    host.check();
}

/// A part of a step is missing: nothing continues from there, but a snapshot can be restored.
#[test]
fn a_submitted_ticket_whose_encoder_is_thrown_away() {
    let host = Host::new(gpu());
    let whole = alone(&config(1));
    for (before, dispatches) in CUTS {
        let mut trainer = trainer(&config(1), &fine());
        let start = block_on(gpu(), trainer.snapshot()).unwrap();
        if before > 0 {
            frame(&host, &mut trainer, Budget::dispatches(before), true);
        }
        let mut first = encoder();
        trainer.encode(&mut first, &corpus(), Budget::dispatches(dispatches).steps(2)).unwrap().submitted();
        drop(first);
        let said = "although `Ticket::submitted` was called: part of a step is missing";
        usage(block_on(gpu(), trainer.snapshot()), said);
        usage(trainer.poll(), said);
        usage(block_on(gpu(), trainer.snapshot()), said);
        usage(trainer.advance(&corpus(), Budget::default()), said);
        usage(trainer.step(&corpus(), false, &|| false), said);
        usage(trainer.finish(), said);
        block_on(gpu(), trainer.restore(&start)).unwrap();
        goes_on(&mut trainer, &whole);
    }
    host.check();
}

/// If the host records one invalid command, the device refuses the whole encoder, but calls back as if it had run: a part of a step is
/// missing.
#[test]
fn an_encoder_that_the_device_refuses() {
    let host = Host::new(gpu());
    let whole = alone(&config(1));
    let usages = wgpu::BufferUsages::COPY_DST;
    let small = gpu().device().create_buffer(&wgpu::BufferDescriptor { label: None, size: 4, usage: usages, mapped_at_creation: false });
    for (before, dispatches) in CUTS {
        let mut trainer = trainer(&config(1), &fine());
        let start = block_on(gpu(), trainer.snapshot()).unwrap();
        if before > 0 {
            frame(&host, &mut trainer, Budget::dispatches(before), true);
        }
        let mut refused = encoder();
        let ticket = trainer.encode(&mut refused, &corpus(), Budget::dispatches(dispatches).steps(2)).unwrap();
        refused.clear_buffer(&small, 0, Some(8));
        gpu().queue().submit([refused.finish()]);
        ticket.submitted();
        wait();
        assert!(!host.take_errors().is_empty(), "the device took the encoder");
        let said = "the device rejected it and told its error handler, although `Ticket::submitted` was called: part of a step is missing";
        usage(trainer.poll(), said);
        usage(block_on(gpu(), trainer.snapshot()), said);
        usage(trainer.advance(&corpus(), Budget::default()), said);
        usage(trainer.step(&corpus(), false, &|| false), said);
        block_on(gpu(), trainer.restore(&start)).unwrap();
        goes_on(&mut trainer, &whole);
    }
    host.check();
}

/// The device is idle, and what a blocking call waits for will not arrive: the call returns an error.
#[test]
fn a_submitted_ticket_whose_encoder_waits() {
    let host = Host::new(gpu());
    let whole = alone(&config(1));
    let mut trainer = cut(&host, 1, 5);
    let mut first = encoder();
    trainer.encode(&mut first, &corpus(), Budget::dispatches(7)).unwrap().submitted();
    let said = "its encoder was not submitted: submit it first";
    usage(trainer.finish(), said);
    usage(trainer.end_step(&corpus()), said);
    usage(trainer.step(&corpus(), false, &|| false), said);
    usage(evaluate(&mut trainer.session, &corpus(), 1, &|| false), "a step is under way");
    usage(block_on(gpu(), trainer.snapshot()), said);
    // Calls that do not block do nothing.
    trainer.advance(&corpus(), Budget::default()).unwrap();
    gpu().queue().submit([first.finish()]);
    goes_on(&mut trainer, &whole);
    host.check();
}

/// A report belongs to a step that has run: one that was requested too early is requested again.
#[test]
fn a_report_of_a_step_that_waits() {
    let host = Host::new(gpu());
    let (expected, bits) = alone(&config(1));
    let mut trainer = trainer(&config(1), &fine());
    let mut reports = vec![];
    for step in 1..=STEPS {
        while trainer.step_count() < step {
            let mut encoder = encoder();
            trainer.encode(&mut encoder, &corpus(), Budget::default().steps(1)).unwrap().submitted();
            for _ in 0..3 {
                // Polled before the submit, while the device is idle.
                reports.extend(trainer.poll().unwrap());
                wait();
            }
            gpu().queue().submit([encoder.finish()]);
            reports.extend(trainer.poll().unwrap());
            wait();
        }
    }
    for _ in 0..3 {
        reports.extend(trainer.poll().unwrap());
        wait();
    }
    assert_eq!(reports, expected);
    assert!(weights(&trainer) == bits, "weights or moments differ");
    host.check();
}

/// A snapshot cannot be restored while an encoder is pending that would run after it.
#[test]
fn a_restore_before_a_submit() {
    let host = Host::new(gpu());
    let whole = alone(&config(2));
    let mut trainer = trainer(&config(2), &fine());
    let start = block_on(gpu(), trainer.snapshot()).unwrap();
    let mut first = encoder();
    trainer.encode(&mut first, &corpus(), Budget::default()).unwrap().submitted();
    usage(block_on(gpu(), trainer.restore(&start)), "its encoder was not submitted: submit it first");
    gpu().queue().submit([first.finish()]);
    block_on(gpu(), trainer.restore(&start)).unwrap();
    goes_on(&mut trainer, &whole);
    host.check();
}

/// A mistake with one engine is an error of that engine only.
#[test]
fn others_do_not_suffer() {
    let host = Host::new(gpu());
    let whole = alone(&config(2));
    let (mut bad, mut good) = (cut(&host, 1, 5), cut(&host, 2, 5));
    let mut first = encoder();
    drop(bad.encode(&mut first, &corpus(), Budget::default().steps(2)).unwrap());
    gpu().queue().submit([first.finish()]);
    wait();
    usage(bad.poll(), "although its ticket was dropped");
    let mut second = encoder();
    bad.encode(&mut second, &corpus(), Budget::default()).unwrap().submitted();
    drop(second);
    usage(bad.poll(), "part of a step is missing");
    gpu().check().unwrap();
    goes_on(&mut good, &whole);
    goes_on(&mut trainer(&config(2), &fine()), &whole);
    usage(bad.poll(), "part of a step is missing");
    host.check();
}

#[test]
fn tickets_of_a_generator() {
    let host = Host::new(gpu());
    let trainer = trainer(&config(3), &fine());
    let generator = || block_on(gpu(), Generator::sharing(gpu(), &trainer.shared_weights(), &fine())).unwrap();
    let (mut whole, mut generator) = (generator(), generator());
    let (ids, sampling) = ([1u32, 2, 3], Sampling::default());
    whole.prompt(&ids, &sampling).unwrap();
    let expected = whole.next_tokens(6).unwrap();
    for dispatches in [3, usize::MAX] {
        let budget = Budget::dispatches(dispatches);
        let slice = |generator: &mut Generator| {
            generator.begin(&ids, &sampling, 6).unwrap();
            let mut encoder = encoder();
            let ticket = generator.encode(&mut encoder, budget).unwrap();
            (encoder, ticket)
        };
        // Kept, then dropped while its encoder exists.
        let (first, ticket) = slice(&mut generator);
        let mut ticket = Some(ticket);
        for said in ["the last slice is not settled", "its encoder still exists"] {
            usage(generator.encode(&mut encoder(), budget).map(drop), said);
            usage(generator.advance(budget), said);
            usage(generator.begin(&ids, &sampling, 6), said);
            usage(generator.prompt(&ids, &sampling), said);
            usage(generator.next_tokens(1), said);
            usage(generator.logits(&ids), said);
            assert!(generator.poll().unwrap().is_empty());
            ticket = None;
        }
        drop((ticket, first));
        assert_eq!(generator.next_tokens(6).unwrap(), expected);
        // Dropped, but its encoder is submitted.
        let (first, ticket) = slice(&mut generator);
        drop(ticket);
        gpu().queue().submit([first.finish()]);
        wait();
        usage(generator.poll(), "although its ticket was dropped: it counts as submitted");
        assert_eq!(generator.next_tokens(6).unwrap(), expected);
        // Marked as submitted, but its encoder is discarded: the next prompt is complete again.
        let (first, ticket) = slice(&mut generator);
        ticket.submitted();
        drop(first);
        usage(generator.poll(), "although `Ticket::submitted` was called");
        usage(generator.next_tokens(1), "although `Ticket::submitted` was called");
        generator.prompt(&ids, &sampling).unwrap();
        assert_eq!(generator.next_tokens(6).unwrap(), expected);
    }
    host.check();
}

/// Polls a future once.
fn once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The staging buffers of a plan serve one transfer at a time: others wait for their turn, even if one is dropped half way.
#[test]
fn transfers_at_the_same_time() {
    let host = Host::new(gpu());
    let trainer = trainer(&config(4), &fine());
    let (session, pools) = (&trainer.session, &trainer.session.model.pools);
    let [wte] = &pools.weights("wte")[..] else { panic!("one table") };
    let [qkv] = &pools.weights("h.0.attn.qkv.weight")[..] else { panic!("one table") };
    let read = |tensor| block_on(gpu(), session.compiled.read::<f32>(tensor)).unwrap();
    let (old, other) = (read(wte), read(qkv));
    let new: Vec<f32> = old.iter().map(|value| value + 1.0).collect();
    for given_up in 0..4 {
        let mut a = std::pin::pin!(session.compiled.read::<f32>(wte));
        let mut b = Box::pin(session.compiled.read::<f32>(qkv));
        let mut c = std::pin::pin!(session.compiled.write(wte, &new));
        let mut d = std::pin::pin!(session.compiled.write(wte, &old));
        assert!(once(a.as_mut()).is_pending() && once(b.as_mut()).is_pending());
        assert!(once(c.as_mut()).is_pending() && once(d.as_mut()).is_pending());
        // One is dropped during its turn, before its turn, or after the device has answered.
        if given_up == 2 {
            wait();
        }
        if given_up > 0 {
            drop(b);
        } else {
            let both = block_on(gpu(), async { Ok((a.as_mut().await?, b.await?)) }).unwrap();
            assert!(both == (old.clone(), other.clone()));
            a.set(session.compiled.read::<f32>(wte));
        }
        if given_up == 3 {
            a.set(session.compiled.read::<f32>(wte));
            assert!(once(a.as_mut()).is_pending());
            wait();
            a.set(session.compiled.read::<f32>(wte));
        }
        assert!(block_on(gpu(), a).unwrap() == old);
        block_on(gpu(), c).unwrap();
        assert!(read(wte) == new);
        block_on(gpu(), d).unwrap();
        assert!(read(wte) == old && read(qkv) == other);
    }
    host.check();
}

/// An application's executor may move all of these between threads.
#[test]
fn what_is_made_or_awaited_is_send() {
    fn send<T: Send>(_: &T) {}
    let _host = Host::new(gpu());
    let (config, weights) = (config(5), vec![]);
    send(&Trainer::new(gpu(), &config, &fine()));
    send(&Generator::new(gpu(), &config.model, &weights, &fine()));
    let mut trainer = trainer(&config, &fine());
    send(&Generator::sharing(gpu(), &trainer.shared_weights(), &fine()));
    send(&trainer);
    send(&trainer.snapshot());
    send(&trainer.tap("wte", FORWARD));
    send(&trainer.show_attention(None));
    let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    send(&trainer.restore(&snapshot));
    send(&trainer.recover(gpu()));
    send(&trainer.keep());
}

/// Timing slices on the device needs buffers: they are counted in the memory plan, and allocated with the engine.
#[test]
fn timestamps_are_in_the_memory_plan() {
    let host = Host::new(gpu());
    let own = pollster::block_on(host::device_with(wgpu::Features::TIMESTAMP_QUERY));
    let created = own.created();
    let memory = Trainer::memory(&own, &config(6), &fine()).unwrap();
    let mut trainer = block_on(&own, Trainer::new(&own, &config(6), &fine())).unwrap();
    let made = own.created();
    assert_eq!((made.buffers - created.buffers, made.bytes - created.bytes), (memory.buffers, memory.total));
    let weights = trainer.shared_weights();
    let memory = Generator::memory_sharing(&own, &weights, &fine()).unwrap();
    let mut generator = block_on(&own, Generator::sharing(&own, &weights, &fine())).unwrap();
    assert_eq!(own.created().bytes - made.bytes, memory);
    let made = own.created();
    trainer.advance(&corpus(), Budget::default()).unwrap();
    generator.begin(&[1], &Sampling::default(), 2).unwrap();
    generator.advance(Budget::default()).unwrap();
    trainer.finish().unwrap();
    assert_eq!(own.created(), made, "a slice allocates");
    drop((trainer, generator));
    host.check();
}
