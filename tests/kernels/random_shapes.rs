//! Kernels against their reference implementations at random shapes, the same in every run. `PROPTEST_CASES=200` tries more of them;
//! proptest shrinks a failure to the smallest shape that fails.

use proptest::collection::vec;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops::STORAGES;
use wgpt::low_level::ops::attention::{Attention, Shape};
use wgpt::low_level::ops::matmul::Activation;
use wgpt::low_level::selftest::{attention, cross_entropy, embedding, layer_norm, matmul};

use crate::cases::{check, run};

/// Shapes of a trial unless `PROPTEST_CASES` says how many.
const CASES: u32 = 6;

fn each<S: Strategy>(shapes: S, trial: impl Fn(S::Value)) {
    let cases = std::env::var("PROPTEST_CASES").map_or(CASES, |cases| cases.parse().expect("PROPTEST_CASES is a number"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 64, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let tried = runner.run(&shapes, |shape| {
        trial(shape);
        Ok(())
    });
    tried.unwrap_or_else(|problem| panic!("{problem}"));
}

/// Whole quads, up to so many elements.
fn quads(most: usize) -> impl Strategy<Value = usize> {
    (1..=most / 4).prop_map(|quads| 4 * quads)
}

fn storages() -> impl Strategy<Value = Dtype> {
    (0..STORAGES.len()).prop_map(|index| STORAGES[index])
}

#[test]
fn linear_layers() {
    each((1usize..150, quads(150), 1usize..150, storages()), |(rows, inner, cols, dtype)| check(&matmul::linear(rows, inner, cols, dtype)));
}

#[test]
fn fused_linear_layers() {
    let kinds = proptest::bool::ANY.prop_map(|relu| if relu { Activation::Relu } else { Activation::Gelu });
    let drops = (0u32..3).prop_map(|tenths| f64::from(tenths) / 10.0);
    each(
        (1usize..100, quads(100), quads(100), kinds, proptest::bool::ANY, drops, storages()),
        |(rows, inner, cols, kind, bias, p, dtype)| {
            check(&matmul::fused(rows, inner, cols, kind, bias, p, dtype));
        },
    );
}

#[test]
fn layer_norms() {
    each((1usize..200, quads(600), proptest::bool::ANY, storages()), |(rows, cols, bias, dtype)| {
        check(&layer_norm::trial(rows, cols, bias, dtype))
    });
}

#[test]
fn attention_of_small_heads() {
    let kernels = [4, 12].map(|size| Attention::new(size, Dtype::F32));
    each((0usize..2, 1usize..4, 1usize..90, 1usize..4, proptest::bool::ANY), |(index, batch, time, heads, drops)| {
        let shape = Shape { batch, time, heads, dropout: drops.then_some(attention::STREAM) };
        check(&attention::trial(&kernels[index], [4, 12][index], shape, Dtype::F32, &attention::USUAL));
    });
}

#[test]
fn losses() {
    let rows = (1usize..70, 0usize..5, 0usize..5).prop_map(|(rows, first, behind)| (first + rows + behind, first, rows));
    each((rows, 1usize..600), |((all, first, rows), cols)| run(|c| cross_entropy::odd(c, all, first, rows, cols)));
}

#[test]
fn embeddings_of_tables_in_parts() {
    each((1usize..200, vec(1usize..60, 1..4), quads(140)), |(rows, parts, cols)| {
        let ids = embedding::ids(rows, parts.iter().sum::<usize>() as u32);
        run(|c| embedding::trial(c, &format!("parts {parts:?}"), &ids, &parts, cols));
    });
}
