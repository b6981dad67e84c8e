//! Losses at submits, which are those of uploads, steps, snapshots, evaluations and read-backs.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use wgpt::low_level::train::config::StorageDtype;

use super::*;

#[test]
fn two_hundred_losses_in_three_hundred_steps_change_no_bit() {
    let (config, corpus) = toy(300);
    let expected = undisturbed(&config, &corpus);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut left = 200;
    // A snapshot needs a submit or two until it has arrived: a device that lives for these makes some progress.
    let prepare = |gpu: &Gpu| {
        if left > 0 {
            left -= 1;
            let (_, uploads) = gpu.fault_counts();
            gpu.lose_at_submits([uploads + rng.random_range(1..=LONGEST)]);
        }
    };
    let (found, recoveries) = Trial::new(&config, &corpus, prepare).outcome();
    assert_eq!(recoveries, 200);
    assert!(found == expected, "losses changed the training");
}

/// The loss scale is a part of the device's state.
#[test]
fn losses_in_half_precision_change_no_bit() {
    let (mut config, corpus) = toy(30);
    config.train.storage = StorageDtype::F16;
    let expected = undisturbed(&config, &corpus);
    assert!(expected.state.loss_scale > 1.0, "{:?}", expected.state);
    let mut left = 8;
    let prepare = |gpu: &Gpu| {
        if left > 0 {
            left -= 1;
            gpu.lose_at_submits([60 + 3 * left]);
        }
    };
    let (found, recoveries) = Trial::new(&config, &corpus, prepare).outcome();
    assert_eq!(recoveries, 8);
    assert!(found == expected, "losses changed the training");
}

/// Submits of a device's life: uploading takes about seventy of them, a step one, a snapshot one.
const LONGEST: u64 = 90;

#[test]
fn a_loss_at_any_submit_of_a_training() {
    let (config, corpus) = toy(4);
    let expected = undisturbed(&config, &corpus);
    let mut submits = 0;
    for at in 1.. {
        let mut first = true;
        let mut counted = None;
        let prepare = |gpu: &Gpu| {
            if std::mem::take(&mut first) {
                gpu.lose_at_submits([at]);
                counted = Some(gpu.clone());
            }
        };
        let (found, recoveries) = Trial::new(&config, &corpus, prepare).outcome();
        assert!(found == expected, "a loss at submit {at} changed the training");
        if recoveries == 0 {
            break;
        }
        submits = at;
    }
    println!("{submits} submits");
    assert!(submits > 50, "{submits} submits");
}
