//! Generating as a guest: in slices, beside blocking calls.

use super::*;

/// The tokens are the same however the budget cuts the passes and whichever slices are discarded, over more than one context.
#[test]
fn a_generator_in_slices_draws_what_it_draws_alone() {
    let host = Host::new(gpu());
    let mut trainer = trainer(&config(7), &fine());
    (0..3).for_each(|_| assert!(trainer.step(&corpus(), false, &|| false).unwrap()));
    let weights = trainer.shared_weights();
    let generator = || block_on(gpu(), Generator::sharing(gpu(), &weights, &fine())).unwrap();
    let before = gpu().created();
    let mut sliced = generator();
    assert_eq!(sliced.last_slice(), None);
    let predicted = Generator::memory_sharing(gpu(), &weights, &fine()).unwrap();
    assert_eq!(gpu().created().bytes - before.bytes, predicted);
    let mut alone = generator();
    let sampling = Sampling { temperature: 0.9, seed: 3, ..Sampling::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for prompt in [&[1u32, 2, 3][..], &[4; 40][..]] {
        alone.prompt(prompt, &sampling).unwrap();
        let expected = alone.next_tokens(50).unwrap();
        let waits = wait::waits();
        let (mut drawn, mut frames) = (vec![], 0);
        sliced.begin(prompt, &sampling, 50).unwrap();
        while drawn.len() < 50 {
            let mut encoder = gpu().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let ticket = sliced.encode(&mut encoder, Budget::dispatches(rng.random_range(0..40))).unwrap();
            host.draw(&mut encoder);
            if rng.random_range(0..3) > 0 {
                gpu().queue().submit([encoder.finish()]);
                ticket.submitted();
            }
            drawn.extend(sliced.poll().unwrap());
            frames += 1;
            assert!(frames < 100_000, "no progress after {} tokens", drawn.len());
        }
        assert_eq!(drawn, expected);
        assert!(sliced.is_idle() && sliced.slides() > 0 && sliced.slides() == alone.slides());
        assert!(sliced.last_slice().is_some_and(|took| !took.is_zero()));
        // Another prompt begins while tokens of this one may still be in flight.
        let logits = alone.logits(&[5, 6]).unwrap();
        let waits_of_alone = wait::waits() - waits;
        block_on(gpu(), sliced.begin_logits(&[5, 6])).unwrap();
        let come = loop {
            sliced.advance(Budget::dispatches(7)).unwrap();
            if let Some(come) = sliced.poll_logits().unwrap() {
                break come;
            }
        };
        assert!(come == logits);
        assert_eq!(wait::waits() - waits, waits_of_alone, "a guest waited");
    }
    host.check();
}

/// A blocking call finishes a token that a budget has cut and that was not drawn yet. At every cut it returns as many tokens as requested;
/// tokens that arrived too early are returned next.
#[test]
fn a_blocking_call_draws_exactly_what_is_asked_for() {
    let host = Host::new(gpu());
    let trainer = trainer(&config(9), &fine());
    let generator = || block_on(gpu(), Generator::sharing(gpu(), &trainer.shared_weights(), &fine())).unwrap();
    let (mut whole, mut cut) = (generator(), generator());
    whole.prompt(&[1, 2], &Sampling::default()).unwrap();
    let expected = whole.next_tokens(9).unwrap();
    assert_eq!(expected.len(), 9);
    for dispatches in (1..40).chain([usize::MAX]) {
        for (wanted, waits) in [(2, false), (3, false), (3, true)] {
            cut.begin(&[1, 2], &Sampling::default(), wanted).unwrap();
            for _ in 0..3 {
                cut.advance(Budget::dispatches(dispatches)).unwrap();
                if waits {
                    gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
                }
            }
            let mut drawn = cut.poll().unwrap();
            for count in [1, 2, 0, 3] {
                if waits {
                    gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
                }
                let next = cut.next_tokens(count).unwrap();
                assert_eq!(next.len(), count, "{wanted} wanted, cut after {dispatches} dispatches");
                drawn.extend(next);
            }
            assert_eq!(drawn, expected[..drawn.len()], "{wanted} wanted, cut after {dispatches} dispatches");
        }
    }
    host.check();
}
