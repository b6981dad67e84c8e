//! Where a trainer says it is, and what it reports: at any point of a slice, after a restore, and when a step diverges.

use super::*;

/// Submits one slice without polling.
fn submit(trainer: &mut Trainer, budget: Budget) {
    let mut encoder = encoder();
    let ticket = trainer.encode(&mut encoder, &corpus(), budget).unwrap();
    assert!(ticket.dispatches() > 0);
    gpu().queue().submit([encoder.finish()]);
    ticket.submitted();
}

fn plain(seed: u64) -> RunConfig {
    RunConfig { train: TrainConfig { grad_accumulation: 1, ..config(seed).train }, ..config(seed) }
}

#[test]
fn the_place_follows_a_submitted_ticket_at_once() {
    let host = Host::new(gpu());
    let (expected, bits) = alone(&config(1));
    let mut trainer = trainer(&config(1), &fine());
    submit(&mut trainer, Budget::default().steps(1).before(NORM));
    assert_eq!((trainer.step_count(), trainer.next_phase(), trainer.at_seam()), (0, Some(NORM), true));
    gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    submit(&mut trainer, Budget::default().steps(1));
    assert_eq!((trainer.step_count(), trainer.next_phase(), trainer.at_seam()), (1, None, false));
    let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    assert_eq!(snapshot.step, 1);
    // Another trainer continues from there, and no step is repeated.
    let mut other = self::trainer(&config(1), &fine());
    block_on(gpu(), other.restore(&snapshot)).unwrap();
    (1..STEPS).for_each(|_| assert!(other.step(&corpus(), false, &|| false).unwrap()));
    assert_eq!(other.finish().unwrap(), expected[1..]);
    assert!(weights(&other) == bits, "weights or moments differ");
    host.check();
}

#[test]
fn no_snapshot_while_a_host_may_submit() {
    let host = Host::new(gpu());
    let mut trainer = trainer(&config(2), &fine());
    let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    let mut encoder = encoder();
    let ticket = trainer.encode(&mut encoder, &corpus(), Budget::dispatches(3)).unwrap();
    usage(block_on(gpu(), trainer.snapshot()), "the last slice is not settled");
    usage(block_on(gpu(), trainer.restore(&snapshot)), "the last slice is not settled");
    usage(trainer.finish(), "the last slice is not settled");
    drop(ticket);
    usage(block_on(gpu(), trainer.snapshot()), "its encoder still exists");
    drop(encoder);
    assert!(block_on(gpu(), trainer.snapshot()).unwrap().weights == snapshot.weights);
    block_on(gpu(), trainer.restore(&snapshot)).unwrap();
    host.check();
}

/// The points between backward and the next step at which a slice may end, and those at which all state belongs to one step.
#[test]
fn norm_and_update_are_seams_and_no_snapshot_is_taken_between_them() {
    let host = Host::new(gpu());
    let (expected, bits) = alone(&plain(3));
    let mut trainer = trainer(&plain(3), &fine());
    submit(&mut trainer, Budget::default().steps(1).before(NORM));
    assert!(trainer.at_seam());
    let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    assert_eq!((snapshot.step, snapshot.state.updates), (0, 0));
    submit(&mut trainer, Budget::default().steps(1).before(UPDATE));
    assert_eq!((trainer.step_count(), trainer.next_phase(), trainer.at_seam()), (0, Some(UPDATE), false));
    // The state counts an update that the weights have not received.
    usage(block_on(gpu(), trainer.snapshot()), "the weights are half updated");
    submit(&mut trainer, Budget::default().steps(1));
    let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    assert_eq!((snapshot.step, snapshot.state.updates), (1, 1));
    (1..STEPS).for_each(|_| assert!(trainer.step(&corpus(), false, &|| false).unwrap()));
    assert_eq!(trainer.finish().unwrap(), expected);
    assert!(weights(&trainer) == bits, "weights or moments differ");
    host.check();
}

/// Reports of steps that a restore has undone are neither returned nor counted.
#[test]
fn a_restore_forgets_what_is_on_its_way() {
    let host = Host::new(gpu());
    let (expected, bits) = alone(&config(3));
    let mut trainer = trainer(&config(3), &fine());
    let start = block_on(gpu(), trainer.snapshot()).unwrap();
    // At each restore a report may be in flight; at the last one it certainly is.
    for undone in [3, 2, 1] {
        (0..undone).for_each(|_| assert!(trainer.step(&corpus(), true, &|| false).unwrap()));
        if undone == 3 {
            // Some have been read back and were not taken.
            gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
            assert_eq!(trainer.poll().unwrap().map(|report| report.step), Some(1));
        }
        block_on(gpu(), trainer.restore(&start)).unwrap();
    }
    let reports = frames_until(&host, &mut trainer, STEPS, || (Budget::dispatches(60), true));
    assert_eq!(reports, expected);
    assert!(weights(&trainer) == bits, "weights or moments differ");
    host.check();
}

/// A trainer whose third step has a NaN loss, and the reports of the two steps before it.
fn diverging() -> (Trainer, Vec<StepReport>) {
    let mut whole = trainer(&plain(4), &fine());
    let mut trainer = trainer(&plain(4), &fine());
    (0..2).for_each(|_| assert!(whole.step(&corpus(), false, &|| false).unwrap()));
    (0..2).for_each(|_| assert!(trainer.step(&corpus(), false, &|| false).unwrap()));
    let wte = trainer.session.model.pools.weights("wte");
    let poison = vec![f32::NAN; wte.iter().map(|tensor| tensor.len()).sum()];
    block_on(gpu(), trainer.session.write(&wte, &poison)).unwrap();
    (trainer, whole.finish().unwrap())
}

#[test]
fn reports_in_front_of_an_error_are_not_lost() {
    let host = Host::new(gpu());
    let third = |result: Result<(), Error>| match result {
        Err(Error::Diverged(said)) => assert!(said.starts_with("step 3: the loss is NaN"), "{said}"),
        other => panic!("{other:?}"),
    };
    // By waiting: the error is returned at once, and the other reports can still be taken.
    let (mut trainer, expected) = diverging();
    trainer.step(&corpus(), false, &|| false).unwrap();
    third(trainer.finish().map(drop));
    assert_eq!(trainer.reports().unwrap(), expected);
    assert_eq!(trainer.finish().unwrap(), []);
    // As a list.
    let (mut trainer, expected) = diverging();
    trainer.step(&corpus(), true, &|| false).unwrap();
    gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!(trainer.reports().unwrap(), expected);
    third(trainer.reports().map(drop));
    assert_eq!(trainer.reports().unwrap(), []);
    // By polling one at a time, in order.
    let (mut trainer, expected) = diverging();
    trainer.step(&corpus(), true, &|| false).unwrap();
    gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let polled: Vec<_> = (0..2).map(|_| trainer.poll().unwrap().unwrap()).collect();
    assert_eq!(polled, expected);
    third(trainer.poll().map(drop));
    assert!(trainer.poll().unwrap().is_none());
    host.check();
}

/// The device keeps the records of 1,024 steps: those that were not read back in time are counted, not silently skipped.
#[test]
fn lost_reports_are_counted() {
    let host = Host::new(gpu());
    let model = ModelConfig { n_layer: 1, n_head: 1, d_model: 4, d_ff: 4, seq_len: 2, ..plain(5).model };
    let tiny = RunConfig { model, train: TrainConfig { batch_size: 1, ..plain(5).train }, ..plain(5) };
    let mut trainer = trainer(&tiny, &Options::default());
    (0..1030).for_each(|_| assert!(trainer.step(&corpus(), false, &|| false).unwrap()));
    let reports = trainer.finish().unwrap();
    assert_eq!((reports.len(), reports[0].step, reports[0].missed), (1024, 7, 6));
    assert!(reports.iter().skip(1).zip(8..).all(|(report, step)| report.step == step && report.missed == 0));
    host.check();
}

/// A learning rate that a host sets in the middle of a step applies from the next step on, in its weights and in its reports.
#[test]
fn a_step_under_way_keeps_its_learning_rate() {
    let host = Host::new(gpu());
    let mut whole = trainer(&config(6), &fine());
    let first = config(6).train.learning_rate;
    assert!(whole.step(&corpus(), false, &|| false).unwrap());
    whole.set_learning_rate(first / 2.0).unwrap();
    assert!(whole.step(&corpus(), false, &|| false).unwrap());
    let expected = whole.finish().unwrap();
    let rates: Vec<f64> = expected.iter().map(|report| report.learning_rate).collect();
    // The second step's rate is one millionth lower by schedule.
    assert!(rates[0] == first && (rates[1] * 2.0 / first - 1.0).abs() < 1e-3, "{rates:?}");
    let commands: usize = whole.session.compiled.len();
    for cut in [1, commands / 2, commands + 1, commands * 3 / 2] {
        let mut sliced = trainer(&config(6), &fine());
        submit(&mut sliced, Budget::dispatches(cut).steps(1));
        assert_eq!(sliced.step_count(), 0, "a step is under way");
        sliced.set_learning_rate(first / 2.0).unwrap();
        let reports = frames_until(&host, &mut sliced, 2, || (Budget::dispatches(70), true));
        assert_eq!(reports, expected, "cut after {cut} dispatches");
        assert!(weights(&sliced) == weights(&whole), "cut after {cut} dispatches");
    }
    host.check();
}

#[test]
fn ids_that_the_model_has_no_row_for_are_refused() {
    let host = Host::new(gpu());
    let mut trainer = trainer(&plain(7), &fine());
    let before = weights(&trainer);
    let (mut ids, targets) = (vec![3; 36], vec![99; 36]);
    ids[5] = 29;
    let part = "ids[5] = 29 is out of range: the vocabulary has ids 0 to 28";
    usage(trainer.step_on(&ids, &targets), part);
    usage(trainer.advance(Batch::Given { ids: &ids, targets: &targets }, Budget::default()), part);
    assert!((trainer.step_count(), trainer.next_phase()) == (0, None) && weights(&trainer) == before);
    host.check();
}

#[test]
fn weights_of_another_shape_are_refused_before_any_is_written() {
    let host = Host::new(gpu());
    let mut trainer = trainer(&config(8), &fine());
    let before = weights(&trainer);
    let snapshot = || block_on(gpu(), trainer.snapshot()).unwrap();
    let (mut short, mut fewer, mut moments, mut odd) = (snapshot(), snapshot(), snapshot(), snapshot());
    short.weights[2].pop();
    fewer.weights.pop();
    moments.moments.pop();
    odd.moments[1][0].push(0.0);
    let generator = |weights: &[Vec<f32>]| block_on(gpu(), Generator::new(gpu(), &config(8).model, weights, &fine()));
    let part = "weights of `h.0.attn.proj.weight`: 255 values were given, its shape [16, 16] needs 256";
    usage(generator(&short.weights), part);
    usage(generator(&fewer.weights), "parameters were given, this model has");
    usage(block_on(gpu(), trainer.restore(&short)), part);
    usage(block_on(gpu(), trainer.restore(&fewer)), "parameters were given, this model has");
    usage(block_on(gpu(), trainer.restore(&moments)), "has 1 moments of each weight, this optimizer has 2");
    usage(block_on(gpu(), trainer.restore(&odd)), "moment 2 of `wte`: 465 values were given, its shape [29, 16] needs 464");
    assert!(weights(&trainer) == before);
    host.check();
}
