//! Allocations that the device refuses: of a trainer that is created, and of one that recovers.

use super::*;

#[test]
fn no_memory_at_any_allocation() {
    let (config, corpus) = toy(3);
    let expected = undisturbed(&config, &corpus);
    let gpu = own();
    let mut refused = 0;
    for at in 1.. {
        gpu.refuse_allocations(at..=at);
        match block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())) {
            Ok(_) => break,
            Err(Error::OutOfMemory(said)) => assert!(said.contains(" is out of memory at ") && said.contains("a smaller model"), "{said}"),
            Err(other) => panic!("allocation {at}: {other}"),
        }
        refused = at;
    }
    println!("{refused} allocations");
    let memory = Trainer::memory(&gpu, &config, &Options::default()).unwrap();
    assert_eq!(refused, memory.buffers, "allocations of a trainer");
    gpu.refuse_allocations(0..=0);

    // Two steps, then recoveries on devices without memory; the last one has enough.
    let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).unwrap();
    let mut reports = vec![];
    for _ in 0..2 {
        trainer.step(&corpus.train, true, &|| false).unwrap();
    }
    reports.extend(trainer.finish().unwrap());
    let gpu = own();
    for at in 1.. {
        gpu.refuse_allocations(at..=at);
        match block_on(&gpu, trainer.recover(&gpu)) {
            Ok(()) => break,
            Err(Error::OutOfMemory(_)) => {
                let refusal = |error: Error| assert!(matches!(error, Error::DeviceLost(_) | Error::OutOfMemory(_)), "{error}");
                // Until it has recovered it refuses everything, and loses nothing.
                refusal(trainer.step(&corpus.train, true, &|| false).unwrap_err());
                refusal(trainer.poll().unwrap_err());
                refusal(trainer.finish().unwrap_err());
                refusal(block_on(&gpu, trainer.snapshot()).map(drop).unwrap_err());
                refusal(evaluate(&mut trainer.session, &corpus.train, 0, &|| false).map(drop).unwrap_err());
            }
            Err(other) => panic!("allocation {at} of a recovery: {other}"),
        }
    }
    gpu.refuse_allocations(0..=0);
    let mut trial = Trial::new(&config, &corpus, |_| {});
    (trial.gpu, trial.trainer, trial.reports) = (Some(gpu), Some(trainer), reports);
    assert!(trial.outcome().0 == expected, "recoveries changed the training");
}
