//! attention.forward, .backward_query, .backward_key_value

use wgpt::ops::attention::{Attention, Shape};
use wgpt::ops::step::Step;
use wgpt::reference::{attention as twin, dropout};

use crate::harness::{Trial, noise};

const STREAM: u32 = 7;

/// What |q|, |k| and |v| stay below, and the tolerance of y, lse and dqkv there.
struct Range {
    size: f64,
    abs: [f64; 3],
}

const USUAL: Range = Range { size: 2.0, abs: [1e-5, 1e-5, 2e-5] };
/// Scores of hundreds: one of them is off by some 1e-5 before the exponential, and gradients have the size of its operands.
const SHARP: Range = Range { size: 16.0, abs: [2e-3, 2e-4, 2e-2] };

fn trial(attention: &Attention, head_size: usize, shape: Shape, range: &Range) {
    let Shape { batch, time, heads, .. } = shape;
    let (rows, width) = (batch * time, heads * head_size);
    let mut t = Trial::new(format!("attention B {batch} T {time} H {heads} D {head_size} dropout {:?}", shape.dropout));
    let step = Step { seed: 1234, first_sample: 5, ..Step::default() }.with_dropout(0.3);
    let keep = |b: usize, h: usize, query: usize, key: usize| {
        let sample = step.first_sample as usize + b;
        let index = ((sample * heads + h) * time + query) * time + key;
        let factor = || dropout::keep_factor(index as u32, STREAM, step.seed, step.drop_below, f64::from(step.keep_scale));
        shape.dropout.map_or(1.0, |_| factor())
    };
    let qkv: Vec<f64> = noise(rows * 3 * width, 1).iter().map(|x| range.size * x).collect();
    let dy = noise(rows * width, 2);
    let (y, lse) = twin::forward(&qkv, batch, time, heads, head_size, &keep);
    let dqkv = twin::backward(&dy, &qkv, &y, &lse, batch, time, heads, head_size, &keep);

    let tstep = t.step("step", step);
    let tqkv = t.input("qkv", &[rows, 3 * width], &qkv);
    let tdy = t.input("dy", &[rows, width], &dy);
    let ty = t.output("y", &[rows, width]);
    let tlse = t.output("lse", &[batch, heads, time]);
    let tdqkv = t.output("dqkv", &[rows, 3 * width]);
    attention.forward(&mut t.plan, shape, &tstep, &tqkv, &ty, &tlse);
    attention.backward(&mut t.plan, shape, &tstep, &tdy, &tqkv, &ty, &tlse, &tdqkv);
    t.expect(&ty, &y, range.abs[0], 1e-5);
    t.expect(&tlse, &lse, range.abs[1], 1e-6);
    t.expect(&tdqkv, &dqkv, range.abs[2], 2e-5);
    t.run();
}

fn with_and_without_dropout(head_size: usize, shapes: &[(usize, usize, usize)]) {
    let attention = Attention::new(head_size);
    for &(batch, time, heads) in shapes {
        for dropout in [None, Some(STREAM)] {
            trial(&attention, head_size, Shape { batch, time, heads, dropout }, &USUAL);
        }
    }
}

#[test]
fn heads_of_1() {
    with_and_without_dropout(1, &[(1, 1, 1), (2, 63, 3), (1, 130, 2)]);
}

#[test]
fn heads_of_5() {
    with_and_without_dropout(5, &[(3, 1, 2), (2, 65, 3)]);
}

#[test]
fn heads_of_8() {
    with_and_without_dropout(8, &[(1, 1, 1), (2, 65, 3), (1, 130, 1)]);
}

#[test]
fn heads_of_20() {
    with_and_without_dropout(20, &[(1, 63, 3), (2, 130, 1)]);
}

#[test]
fn heads_of_64() {
    with_and_without_dropout(64, &[(2, 65, 1), (1, 130, 3)]);
}

#[test]
fn scores_of_hundreds() {
    let attention = Attention::new(8);
    trial(&attention, 8, Shape { batch: 2, time: 65, heads: 3, dropout: None }, &SHARP);
}

#[test]
fn more_rows_than_65_535() {
    let attention = Attention::new(1);
    trial(&attention, 1, Shape { batch: 21_847, time: 1, heads: 3, dropout: None }, &USUAL);
    trial(&attention, 1, Shape { batch: 5_042, time: 13, heads: 1, dropout: Some(STREAM) }, &USUAL);
}
