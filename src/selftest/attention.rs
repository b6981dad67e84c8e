//! attention.forward, .backward_query, .backward_key_value

use crate::gpu::tensor::Dtype;
use crate::ops::attention::{Attention, Shape};
use crate::ops::step::Step;
use crate::reference::{attention as twin, dropout};

use super::trial::{Checked, Checker, Trial, noise, stored};

pub const STREAM: u32 = 7;

/// The bound of |q|, |k| and |v|, and the tolerances of y, lse and dqkv; `rounding` is added to those of y and dqkv where probabilities and
/// gradients of scores are rounded to f16, for cooperative matrices.
pub struct Tolerance {
    size: f64,
    abs: [f64; 3],
    rel: f64,
    rounding: [f64; 2],
}

pub const USUAL: Tolerance = Tolerance { size: 2.0, abs: [1e-5, 1e-5, 2e-5], rel: 2e-5, rounding: [0.0; 2] };
/// Scores of hundreds have errors of some 1e-5 before the exponential, and gradients have the size of its operands.
const SHARP: Tolerance = Tolerance { size: 16.0, abs: [2e-3, 2e-4, 2e-2], rel: 2e-5, rounding: [0.0; 2] };
/// Results have 8 bits, a relative error of at most 2⁻⁹ each; delta, a sum of D products of dy and such a y, enters every gradient.
const BF16: Tolerance = Tolerance { size: 2.0, abs: [1e-5, 1e-5, 3e-2], rel: 4e-3, rounding: [0.0; 2] };
/// The same of f16, whose numbers have three bits more.
const F16: Tolerance = Tolerance { size: 2.0, abs: [1e-5, 1e-5, 4e-3], rel: 1e-3, rounding: [1e-3, 4e-3] };

/// Scores of hundreds in f16: delta has errors of D · 16 · 2⁻¹¹, which enter gradients times operands of up to 16.
const F16_SHARP: Tolerance = Tolerance { size: 16.0, abs: [2e-3, 2e-4, 0.3], rel: 1e-3, rounding: [8e-3, 0.3] };

pub fn trial(attention: &Attention, head_size: usize, shape: Shape, dtype: Dtype, range: &Tolerance) -> Trial {
    trial_from(5, attention, head_size, shape, dtype, range)
}

/// A trial in a step whose earlier micro-batches had `first_sample` samples.
fn trial_from(first_sample: u32, attention: &Attention, head_size: usize, shape: Shape, dtype: Dtype, range: &Tolerance) -> Trial {
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
    t.expect_rounded(&ty, &y, range.abs[0], range.rel, range.rounding[0]);
    t.expect(&tlse, &lse, range.abs[1], 1e-6);
    t.expect_rounded(&tdqkv, &dqkv, range.abs[2], range.rel, range.rounding[1]);
    t
}

/// All element types where software drivers compile the kernels in time; an odd number of quads and the largest head in f32 only.
fn all_ways(c: &mut Checker, head_size: usize, shapes: &[(usize, usize, usize)]) -> Checked {
    let all = [(Dtype::F32, &USUAL), (Dtype::Bf16, &BF16), (Dtype::F16, &F16)];
    for (dtype, range) in if [4, 32].contains(&head_size) { &all[..] } else { &all[..1] } {
        let attention = Attention::new(head_size, *dtype);
        for &(batch, time, heads) in shapes {
            for dropout in [None, Some(STREAM)] {
                c.check(trial(&attention, head_size, Shape { batch, time, heads, dropout }, *dtype, range))?;
            }
        }
    }
    Ok(())
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    let shape = Shape { batch: 2, time: 71, heads: 1, dropout: Some(STREAM) };
    c.check(trial(&Attention::new(32, Dtype::F32), 32, shape, Dtype::F32, &USUAL))?;
    c.check_defaults(trial(&Attention::new(32, Dtype::Bf16), 32, shape, Dtype::Bf16, &BF16))?;
    let f16 = Attention::new(32, Dtype::F16);
    c.check_defaults(trial(&f16, 32, shape, Dtype::F16, &F16))?;
    if c.gpu.traits().cooperative.is_none() {
        return Ok(());
    }
    c.check_cooperative(trial(&f16, 32, shape, Dtype::F16, &F16))?;
    let sharp = Shape { batch: 1, time: 130, heads: 2, dropout: None };
    c.check_cooperative(trial(&f16, 32, sharp, Dtype::F16, &F16_SHARP))
}

pub fn heads_of_4(c: &mut Checker) -> Checked {
    all_ways(c, 4, &[(1, 1, 1), (2, 63, 3), (1, 130, 2)])
}

pub fn heads_of_20(c: &mut Checker) -> Checked {
    all_ways(c, 20, &[(1, 63, 3), (2, 97, 1)])
}

pub fn heads_of_32(c: &mut Checker) -> Checked {
    all_ways(c, 32, &[(1, 1, 1), (2, 64, 1), (1, 71, 2)])
}

pub fn heads_of_128(c: &mut Checker) -> Checked {
    all_ways(c, 128, &[(1, 9, 2), (1, 65, 1)])
}

/// What cooperative matrices add: padded heads, several passes of a head, many blocks, and sums that are scaled again and again.
pub fn heads_in_matrices(c: &mut Checker) -> Checked {
    if c.gpu.traits().cooperative.is_none() {
        return Ok(());
    }
    for (head_size, time, dropout) in [(20, 33, None), (64, 70, Some(STREAM)), (128, 35, None)] {
        let attention = Attention::new(head_size, Dtype::F16);
        c.check_cooperative(trial(&attention, head_size, Shape { batch: 2, time, heads: 2, dropout }, Dtype::F16, &F16))?;
    }
    let sharp = Shape { batch: 1, time: 201, heads: 3, dropout: None };
    c.check_cooperative(trial(&Attention::new(8, Dtype::F16), 8, sharp, Dtype::F16, &F16_SHARP))
}

pub fn scores_of_hundreds(c: &mut Checker) -> Checked {
    let attention = Attention::new(8, Dtype::F32);
    c.check(trial(&attention, 8, Shape { batch: 2, time: 65, heads: 3, dropout: None }, Dtype::F32, &SHARP))
}

pub fn more_rows_than_65_535(c: &mut Checker) -> Checked {
    let attention = Attention::new(4, Dtype::F32);
    c.check(trial(&attention, 4, Shape { batch: 21_847, time: 1, heads: 3, dropout: None }, Dtype::F32, &USUAL))?;
    c.check(trial(&attention, 4, Shape { batch: 5_042, time: 13, heads: 1, dropout: Some(STREAM) }, Dtype::F32, &USUAL))
}

/// A step of GPT-2 has more than 2³² probabilities: the counter carries within a head and between heads, and its high word grows large.
pub fn dropout_counts_beyond_32_bits(c: &mut Checker) -> Checked {
    let attention = Attention::new(4, Dtype::F32);
    let shape = Shape { batch: 2, time: 65, heads: 3, dropout: Some(STREAM) };
    for first_sample in [338_853, u32::MAX - 2] {
        c.check(trial_from(first_sample, &attention, 4, shape, Dtype::F32, &USUAL))?;
    }
    let whole = Shape { time: 64, heads: 1, ..shape };
    c.check(trial_from((1 << 20) - 1, &attention, 4, whole, Dtype::F32, &USUAL))
}
