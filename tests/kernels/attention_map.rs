//! attention_map.forward

use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops::STORAGES;
use wgpt::low_level::ops::attention::{Attention, Shape};
use wgpt::low_level::ops::attention_map::AttentionMap;
use wgpt::low_level::ops::step::Step;
use wgpt::low_level::reference::{attention, attention_map as twin};

use crate::harness::{Trial, noise, stored};

/// The bound of |q| and |k|, and the relative tolerance of probabilities: the error of the scores. It does not depend on the element type
/// of activations, as the map is f32.
struct Range {
    size: f64,
    rel: f64,
}

const USUAL: Range = Range { size: 2.0, rel: 1e-5 };
/// Scores of hundreds have errors of some 1e-5 before the exponential.
const SHARP: Range = Range { size: 16.0, rel: 3e-4 };

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
fn trial(head_size: usize, shape: Shape, dtype: Dtype, range: &Range, places: &[(usize, usize)]) {
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
    t.run();
}

#[test]
fn every_sample_and_head() {
    let places: Vec<(usize, usize)> = (0..6).map(|i| (i / 3, i % 3)).collect();
    for dtype in STORAGES {
        trial(4, shape(2, 63, 3), dtype, &USUAL, &places);
        trial(20, shape(2, 9, 3), dtype, &USUAL, &places);
    }
}

#[test]
fn odd_sizes() {
    for dtype in STORAGES {
        for (head_size, time) in [(4, 1), (8, 7), (12, 65), (32, 8), (64, 33), (128, 199)] {
            trial(head_size, shape(1, time, 1), dtype, &USUAL, &[(0, 0)]);
            trial(head_size, shape(3, time, 2), dtype, &USUAL, &[(2, 1), (0, 1), (1, 0)]);
        }
    }
}

#[test]
fn scores_of_hundreds() {
    for dtype in STORAGES {
        trial(8, shape(2, 65, 3), dtype, &SHARP, &[(1, 2)]);
    }
}

#[test]
fn more_elements_than_65_535() {
    trial(4, shape(2, 263, 1), Dtype::F32, &USUAL, &[(1, 0)]);
}

#[test]
fn more_rows_than_65_535() {
    trial(4, shape(21_847, 1, 3), Dtype::F32, &USUAL, &[(21_846, 2)]);
    trial(4, shape(5_042, 13, 1), Dtype::Bf16, &USUAL, &[(5_041, 0)]);
}

/// With the lse from every variant of the training forward pass. Dropout does not change lse or map.
#[test]
fn of_what_the_forward_leaves() {
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
        t.run();
    }
}
