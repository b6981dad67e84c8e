//! attention_map.forward

use crate::gpu::tensor::Dtype;
use crate::ops::STORAGES;
use crate::ops::attention::{Attention, Shape};
use crate::ops::attention_map::AttentionMap;
use crate::ops::step::Step;
use crate::reference::{attention, attention_map as twin};

use super::trial::{Checked, Checker, Trial, noise, stored};

/// The bound of |q| and |k|, and the relative tolerance of probabilities: the error of the scores. It does not depend on the element type
/// of activations, as the map is f32.
struct MapTolerance {
    size: f64,
    rel: f64,
}

const USUAL: MapTolerance = MapTolerance { size: 2.0, rel: 1e-5 };
/// Scores of hundreds have errors of some 1e-5 before the exponential.
const SHARP: MapTolerance = MapTolerance { size: 16.0, rel: 3e-4 };

const fn shape(batch: usize, time: usize, heads: usize) -> Shape {
    Shape { batch, time, heads, dropout: None }
}

/// The qkv of a trial, rounded to `dtype`, and its lse.
fn attended(head_size: usize, shape: Shape, dtype: Dtype, size: f64) -> (Vec<f64>, Vec<f64>) {
    let Shape { batch, time, heads, .. } = shape;
    let qkv: Vec<f64> = noise(batch * time * 3 * heads * head_size, 1).iter().map(|x| size * x).collect();
    let qkv = stored(&qkv, dtype);
    let (_, lse) = attention::forward(&qkv, batch, time, heads, head_size, &|_, _, _, _| 1.0);
    (qkv, lse)
}

/// The maps of several (sample, head), computed by the same kernel one after another.
fn trial(head_size: usize, shape: Shape, dtype: Dtype, range: &MapTolerance, places: &[(usize, usize)]) -> Trial {
    let Shape { batch, time, heads, .. } = shape;
    let mut t = Trial::new(format!("attention_map B {batch} T {time} H {heads} D {head_size} of {places:?} {dtype:?}"));
    let (qkv, lse) = attended(head_size, shape, dtype, range.size);
    let tqkv = t.activation("qkv", &[batch * time, 3 * heads * head_size], dtype, &qkv);
    let tlse = t.input("lse", &[batch, heads, time], &lse);
    let op = AttentionMap::new(head_size, dtype);
    for &(sample, head) in places {
        let tmap = t.output(&format!("map of {sample}, {head}"), &[time, time]);
        op.forward(&mut t.plan, shape, sample, head, &tqkv, &tlse, &tmap);
        t.expect(&tmap, &twin::forward(&qkv, &lse, sample, head, time, heads, head_size), 1e-30, range.rel);
        t.expect_sums(&tmap, &vec![1.0; time], range.rel);
        for query in 0..time {
            t.expect_words(&tmap, query * time + query + 1, &vec![0; time - query - 1]);
        }
    }
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    for dtype in STORAGES {
        c.check(trial(32, shape(2, 33, 3), dtype, &USUAL, &[(1, 2)]))?;
    }
    Ok(())
}

pub fn every_sample_and_head(c: &mut Checker) -> Checked {
    let places: Vec<(usize, usize)> = (0..6).map(|i| (i / 3, i % 3)).collect();
    for dtype in STORAGES {
        c.check(trial(4, shape(2, 63, 3), dtype, &USUAL, &places))?;
        c.check(trial(20, shape(2, 9, 3), dtype, &USUAL, &places))?;
    }
    Ok(())
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for dtype in STORAGES {
        for (head_size, time) in [(4, 1), (8, 7), (12, 65), (32, 8), (64, 33), (128, 199)] {
            c.check(trial(head_size, shape(1, time, 1), dtype, &USUAL, &[(0, 0)]))?;
            c.check(trial(head_size, shape(3, time, 2), dtype, &USUAL, &[(2, 1), (0, 1), (1, 0)]))?;
        }
    }
    Ok(())
}

pub fn scores_of_hundreds(c: &mut Checker) -> Checked {
    for dtype in STORAGES {
        c.check(trial(8, shape(2, 65, 3), dtype, &SHARP, &[(1, 2)]))?;
    }
    Ok(())
}

pub fn more_elements_than_65_535(c: &mut Checker) -> Checked {
    c.check(trial(4, shape(2, 263, 1), Dtype::F32, &USUAL, &[(1, 0)]))
}

pub fn more_rows_than_65_535(c: &mut Checker) -> Checked {
    c.check(trial(4, shape(21_847, 1, 3), Dtype::F32, &USUAL, &[(21_846, 2)]))?;
    c.check(trial(4, shape(5_042, 13, 1), Dtype::Bf16, &USUAL, &[(5_041, 0)]))
}

/// With the lse from every variant of the training forward pass. Dropout does not change lse or map.
pub fn of_what_the_forward_leaves(c: &mut Checker) -> Checked {
    for dtype in STORAGES {
        let (head_size, shape) = (8, Shape { dropout: Some(7), ..shape(2, 33, 3) });
        let Shape { batch, time, heads, .. } = shape;
        let mut t = Trial::new(format!("attention_map after attention {dtype:?}"));
        let (qkv, lse) = attended(head_size, shape, dtype, 2.0);
        let tstep = t.step("step", Step { seed: 1234, ..Step::default() }.with_dropout(0.3));
        let tqkv = t.activation("qkv", &[batch * time, 3 * heads * head_size], dtype, &qkv);
        let ty = t.activation_output("y", &[batch * time, heads * head_size], dtype);
        let tlse = t.output("lse", &[batch, heads, time]);
        let tmap = t.output("map", &[time, time]);
        Attention::new(head_size, dtype).forward(&mut t.plan, shape, &tstep, &tqkv, &ty, &tlse);
        AttentionMap::new(head_size, dtype).forward(&mut t.plan, shape, 1, 2, &tqkv, &tlse, &tmap);
        t.expect(&tmap, &twin::forward(&qkv, &lse, 1, 2, time, heads, head_size), 1e-30, USUAL.rel);
        t.expect_sums(&tmap, &vec![1.0; time], 1e-6);
        c.check(t)?;
    }
    Ok(())
}
