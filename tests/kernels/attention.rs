//! attention.forward, .backward_query, .backward_key_value

use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops::attention::{Attention, Shape};
use wgpt::low_level::ops::step::Step;
use wgpt::low_level::reference::{attention as twin, dropout};

use crate::harness::{Trial, noise, stored};

pub const STREAM: u32 = 7;

/// The bound of |q|, |k| and |v|, and the tolerances of y, lse and dqkv.
pub struct Range {
    size: f64,
    abs: [f64; 3],
    rel: f64,
}

pub const USUAL: Range = Range { size: 2.0, abs: [1e-5, 1e-5, 2e-5], rel: 2e-5 };
/// Scores of hundreds have errors of some 1e-5 before the exponential, and gradients have the size of its operands.
const SHARP: Range = Range { size: 16.0, abs: [2e-3, 2e-4, 2e-2], rel: 2e-5 };
/// Results have 8 bits, a relative error of at most 2⁻⁹ each; delta, a sum of D products of dy and such a y, enters every gradient.
const BF16: Range = Range { size: 2.0, abs: [1e-5, 1e-5, 3e-2], rel: 4e-3 };
/// The same of f16, whose numbers have three bits more.
const F16: Range = Range { size: 2.0, abs: [1e-5, 1e-5, 4e-3], rel: 1e-3 };

pub fn trial(attention: &Attention, head_size: usize, shape: Shape, dtype: Dtype, range: &Range) {
    trial_from(5, attention, head_size, shape, dtype, range);
}

/// A trial in a step whose earlier micro-batches had `first_sample` samples.
fn trial_from(first_sample: u32, attention: &Attention, head_size: usize, shape: Shape, dtype: Dtype, range: &Range) {
    let Shape { batch, time, heads, .. } = shape;
    let (rows, width) = (batch * time, heads * head_size);
    let mut t = Trial::new(format!(
        "attention B {batch} T {time} H {heads} D {head_size} dropout {:?} {dtype:?} from {first_sample}",
        shape.dropout
    ));
    let step = Step { seed: 1234, first_sample, ..Step::default() }.with_dropout(0.3);
    let keep = |b: usize, h: usize, query: usize, key: usize| {
        let sample = step.first_sample as usize + b;
        let index = ((sample * heads + h) * time + query) * time + key;
        let factor = || dropout::keep_factor(index as u64, STREAM, step.seed, step.drop_below, f64::from(step.keep_scale));
        shape.dropout.map_or(1.0, |_| factor())
    };
    let qkv: Vec<f64> = noise(rows * 3 * width, 1).iter().map(|x| range.size * x).collect();
    let (qkv, dy) = (stored(&qkv, dtype), stored(&noise(rows * width, 2), dtype));
    let (y, lse) = twin::forward(&qkv, batch, time, heads, head_size, &keep);
    let dqkv = twin::backward(&dy, &qkv, &y, &lse, batch, time, heads, head_size, &keep);

    let tstep = t.step("step", step);
    let tqkv = t.activation("qkv", &[rows, 3 * width], dtype, &qkv);
    let tdy = t.activation("dy", &[rows, width], dtype, &dy);
    let ty = t.activation_output("y", &[rows, width], dtype);
    let tlse = t.output("lse", &[batch, heads, time]);
    let tdqkv = t.activation_output("dqkv", &[rows, 3 * width], dtype);
    attention.forward(&mut t.plan, shape, &tstep, &tqkv, &ty, &tlse);
    attention.backward(&mut t.plan, shape, &tstep, &tdy, &tqkv, &ty, &tlse, &tdqkv);
    t.expect(&ty, &y, range.abs[0], range.rel);
    t.expect(&tlse, &lse, range.abs[1], 1e-6);
    t.expect(&tdqkv, &dqkv, range.abs[2], range.rel);
    t.run();
}

/// All element types where software drivers compile the kernels in time; an odd number of quads and the largest head in f32 only.
fn all_ways(head_size: usize, shapes: &[(usize, usize, usize)]) {
    let all = [(Dtype::F32, &USUAL), (Dtype::Bf16, &BF16), (Dtype::F16, &F16)];
    for (dtype, range) in if [4, 32].contains(&head_size) { &all[..] } else { &all[..1] } {
        let attention = Attention::new(head_size, *dtype);
        for &(batch, time, heads) in shapes {
            for dropout in [None, Some(STREAM)] {
                trial(&attention, head_size, Shape { batch, time, heads, dropout }, *dtype, range);
            }
        }
    }
}

#[test]
fn heads_of_4() {
    all_ways(4, &[(1, 1, 1), (2, 63, 3), (1, 130, 2)]);
}

#[test]
fn heads_of_20() {
    all_ways(20, &[(1, 63, 3), (2, 97, 1)]);
}

#[test]
fn heads_of_32() {
    all_ways(32, &[(1, 1, 1), (2, 64, 1), (1, 71, 2)]);
}

#[test]
fn heads_of_128() {
    all_ways(128, &[(1, 9, 2), (1, 65, 1)]);
}

#[test]
fn scores_of_hundreds() {
    let attention = Attention::new(8, Dtype::F32);
    trial(&attention, 8, Shape { batch: 2, time: 65, heads: 3, dropout: None }, Dtype::F32, &SHARP);
}

#[test]
fn more_rows_than_65_535() {
    let attention = Attention::new(4, Dtype::F32);
    trial(&attention, 4, Shape { batch: 21_847, time: 1, heads: 3, dropout: None }, Dtype::F32, &USUAL);
    trial(&attention, 4, Shape { batch: 5_042, time: 13, heads: 1, dropout: Some(STREAM) }, Dtype::F32, &USUAL);
}

/// A step of GPT-2 has more than 2³² probabilities: the counter carries within a head and between heads, and its high word grows large.
#[test]
fn dropout_counts_beyond_32_bits() {
    let attention = Attention::new(4, Dtype::F32);
    let shape = Shape { batch: 2, time: 65, heads: 3, dropout: Some(STREAM) };
    for first_sample in [338_853, u32::MAX - 2] {
        trial_from(first_sample, &attention, 4, shape, Dtype::F32, &USUAL);
    }
    let whole = Shape { time: 64, heads: 1, ..shape };
    trial_from((1 << 20) - 1, &attention, 4, whole, Dtype::F32, &USUAL);
}
