//! Runs all cases of src/selftest: each kernel against its reference implementation, at odd sizes, as shipped between poisoned guard zones, with
//! wgpu's checks, in every variant, and in slices (see `low_level::selftest::trial`).

use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops::{self, SOURCES};
use wgpt::low_level::selftest;
use wgpt::low_level::selftest::trial::{Checked, Checker, Trial};

use crate::common::{gpu, root};

/// Runs a case, or another function that checks trials.
pub fn run(case: impl FnOnce(&mut Checker) -> Checked) {
    case(&mut Checker::new(gpu(), &mut |trial| checked(&trial))).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Runs one trial.
pub fn check(trial: &Trial) {
    checked(trial).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Runs a trial in every way; if the environment variable VARIANTS holds a part of variants' names, once in each of these, and prints them.
fn checked(trial: &Trial) -> Checked {
    let Ok(part) = std::env::var("VARIANTS") else { return trial.run(gpu()) };
    for choice in trial.run_in(gpu(), &part)? {
        println!("checked {}[{}]", choice.kernel, choice.variant);
    }
    Ok(())
}

/// A test for each case of a file.
macro_rules! cases {
    ($file:ident: $($case:ident),*) => {
        mod $file {
            $(#[test] fn $case() { super::run(super::selftest::$file::$case); })*
        }
    };
}

cases!(adamw: odd_sizes_from_the_first_update_on, later_updates_clipped, more_elements_than_65_535, nothing_is_touched_when_state_does_not_apply);
cases!(attention: heads_of_4, heads_of_20, heads_of_32, heads_of_128, heads_in_matrices, scores_of_hundreds, more_rows_than_65_535, dropout_counts_beyond_32_bits);
cases!(attention_map: every_sample_and_head, odd_sizes, scores_of_hundreds, more_elements_than_65_535, more_rows_than_65_535, of_what_the_forward_leaves);
cases!(cached_attention: one_token_at_odd_places, chunks_of_a_prompt_with_padding, no_rows_and_no_room, a_context_of_65_536);
cases!(cast: odd_sizes, more_elements_than_65_535, ties_go_to_the_even, overflow_and_nan_are_kept);
cases!(cross_entropy: odd_sizes, a_vocabulary_of_one, a_vocabulary_of_thousands, chunks_of_all_rows, more_rows_than_65_535, sums_of_more_than_65_536, extreme_logits);
cases!(dropout: odd_sizes, nothing_dropped, indices_of_more_than_32_bits, more_elements_than_65_535);
cases!(embedding: odd_sizes, tables_in_parts, only_foreign_ids, more_rows_than_65_535, a_run_of_more_than_65_536);
cases!(gradient_norm: odd_sizes_with_and_without_clipping, sums_of_more_than_65_536, more_than_65_536_partials, what_is_not_finite_is_skipped, the_loss_scale_follows_the_gradients);
cases!(layer_norm: odd_sizes, more_rows_than_one_grid_has, a_sum_of_more_than_65_536);
cases!(loss: odd_sizes_fresh_and_not, sums_of_more_than_65_536);
cases!(matmul: odd_sizes, fused_odd_sizes, sums_of_more_than_65_536, a_bias_of_more_than_65_536_rows, blocks, sums_beyond_f16_are_infinite);
cases!(partial_sums: odd_sizes, more_elements_than_65_535);
cases!(position: sinusoidal_at_odd_sizes, sinusoidal_up_to_the_last_position, learned_at_odd_sizes, learned_at_more_than_65_535_positions, learned_summed_over_more_than_65_536);
cases!(probe: odd_sizes, more_elements_than_65_535, long_chains);
cases!(sample: the_likeliest, among_all, among_the_k_likeliest, among_those_that_reach_p, cuts_among_equals, more_ids_than_65_536, logits_that_are_not_finite);
cases!(sgd: odd_sizes, without_momentum_clipped, more_elements_than_65_535, nothing_is_touched_when_state_does_not_apply);
cases!(token_embedding: odd_sizes_and_places, more_rows_than_65_535);

/// `wgpt selftest` runs every kernel of every file.
#[test]
fn the_self_test_runs_every_kernel() {
    assert!(selftest::KERNELS.iter().map(|(source, _)| source.file).eq(SOURCES.iter().map(|source| source.file)));
    for (source, quick) in selftest::KERNELS {
        let mut missing = ops::load(source, 32, Dtype::F32).entries();
        let mut note = |trial: Trial| {
            missing.retain(|entry| !trial.has(&format!("{}.{entry}", source.file)));
            Ok(())
        };
        quick(&mut Checker::new(gpu(), &mut note)).unwrap();
        assert!(missing.is_empty(), "`quick` of src/selftest/{}.rs has no trial of {missing:?}", source.file);
    }
}

/// No case is forgotten: each `pub fn NAME(c: &mut Checker)` of src/selftest but `quick` is a test above.
#[test]
fn every_case_is_a_test() {
    let tests = include_str!("cases.rs");
    let mut seen = 0;
    let files = std::fs::read_dir(root().join("src/selftest")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    for path in files {
        let (file, text) = (path.file_stem().unwrap().to_str().unwrap(), std::fs::read_to_string(&path).unwrap());
        let is_case = |line: &str| line.strip_prefix("pub fn ")?.strip_suffix("(c: &mut Checker) -> Checked {").map(str::to_owned);
        for case in text.lines().filter_map(is_case).filter(|case| case != "quick") {
            let list = tests.split_once(&format!("\ncases!({file}:")).unwrap_or_else(|| panic!("no cases!({file}: …)")).1;
            let listed = list.split_once(')').unwrap().0.split(',').any(|listed| listed.trim() == case);
            assert!(listed, "cases!({file}: …) of tests/kernels/cases.rs does not list {case}");
            seen += 1;
        }
    }
    assert!(seen > 70, "{seen} cases");
}
