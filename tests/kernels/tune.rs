//! Tuning: which variants are timed, and that a fast variant with a wrong result is not selected.

use wgpt::low_level::gpu::extent::Extent;
use wgpt::low_level::gpu::kernel::{KernelFile, KernelSource, Variant};
use wgpt::low_level::gpu::plan::{Phase, Plan};
use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::gpu::tune;

use crate::common;

const SOURCE: KernelSource = KernelSource { file: "scale", text: TEXT, shared: &[], variants: VARIANTS };

const TEXT: &str = "
struct Dims { first_group: u32, rows: u32 }
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const ROWS_PER_GROUP: u32 = 64u;
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (dims.first_group + workgroup.x) * 64u + lane;
    if i < dims.rows {
        y[i] = scaled(x[i]);
    }
}
@compute @workgroup_size(64)
fn forward_more(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (dims.first_group + workgroup.x) * 64u + lane;
    if i < dims.rows {
        y[i] = scaled(x[i]) + 1.0;
    }
}
";

const VARIANTS: &[Variant] = &[
    Variant { name: "elsewhere", text: "fn scaled(x: f32) -> f32 { return x; }", storages: &[], runs: |_| false, suits: |_, _| true },
    Variant { name: "wrong", text: "fn scaled(x: f32) -> f32 { return x; }", storages: &[], runs: |_| true, suits: |_, _| false },
    // The same code under another name is timed once.
    Variant {
        name: "alike",
        text: "fn scaled(x: f32) -> f32 { return x * 2.0; } const LANES: u32 = 8u;",
        storages: &[],
        runs: |_| true,
        suits: |_, _| false,
    },
    Variant { name: "added", text: "fn scaled(x: f32) -> f32 { return x + x; }", storages: &[], runs: |_| true, suits: |_, _| false },
    Variant { name: "plain", text: "fn scaled(x: f32) -> f32 { return x * 2.0; }", storages: &[], runs: |_| true, suits: |_, _| true },
];

#[test]
fn a_wrong_variant_is_out() {
    let kernel = KernelFile::load(&SOURCE).kernel("forward");
    let mut plan = Plan::new();
    plan.begin(Phase("trial"));
    for rows in [1000, 1001, 5000] {
        let [x, y] = ["x", "y"].map(|name| plan.kept(&format!("{name}{rows}"), &[rows], Dtype::F32, "trial"));
        plan.push(&kernel, Extent::rows(rows), 2 * rows as u64, &[("rows", rows.into())], &[("x", &x), ("y", &y)]);
    }
    let gpu = common::own();
    let before = gpu.created();
    let groups = tune::groups(&[&plan, &plan], &gpu);
    let calls: Vec<(String, usize)> = groups.iter().map(|group| (group.class.to_string(), group.calls)).collect();
    assert_eq!(calls, [("1024x1x1".to_owned(), 4), ("8192x1x1".to_owned(), 2)]);
    assert_eq!(gpu.created(), before, "grouping allocates nothing");
    for group in &groups {
        let row = group.measure(&gpu, 3, &|_| None, &[], &mut |_| {}).unwrap();
        let names: Vec<&str> = row.candidates.iter().map(|candidate| candidate.variant).collect();
        assert_eq!((names, row.default), (vec!["plain", "wrong", "added"], 0));
        let problem = row.candidates[1].seconds.clone().unwrap_err();
        assert!(problem.contains("disagrees with the default in `y`: element "), "{problem}");
        assert!(row.candidates[0].seconds.clone().unwrap() > 0.0 && row.candidates[2].seconds.clone().unwrap() > 0.0);
        assert_ne!(row.chosen, 1);
        assert_eq!(row.choice().kernel, "scale.forward");
    }
}

/// On software drivers, which take seconds to compile, a variant that was far slower in a related kernel is not compiled, and the row says
/// so; graphics cards time all.
#[test]
fn a_variant_that_was_far_behind_is_not_compiled() {
    let kernel = KernelFile::load(&SOURCE).kernel("forward_more");
    let mut plan = Plan::new();
    plan.begin(Phase("trial"));
    let [x, y] = ["x", "y"].map(|name| plan.kept(name, &[1000], Dtype::F32, "trial"));
    plan.push(&kernel, Extent::rows(1000), 2000, &[("rows", 1000_usize.into())], &[("x", &x), ("y", &y)]);
    let gpu = common::own();
    let groups = tune::groups(&[&plan], &gpu);
    let group = &groups[0];
    let candidate = |variant, seconds| tune::Candidate { variant, seconds: Ok(seconds) };
    let candidates = vec![candidate("plain", 1.0), candidate("wrong", 1.0), candidate("added", 5.0)];
    let before = tune::TuneRow { kernel: "scale.forward".into(), class: group.class, calls: 1, candidates, default: 0, chosen: 0 };
    let mut compiled = vec![];
    let row = group.measure(&gpu, 1, &|_| None, &[before], &mut |variant| compiled.push(variant.to_owned())).unwrap();
    let added = row.candidates.iter().find(|candidate| candidate.variant == "added").unwrap();
    if gpu.traits().software {
        assert_eq!(compiled, ["plain", "wrong"]);
        assert_eq!(added.seconds.clone().unwrap_err(), format!("5 times the fastest in scale.forward {}", group.class));
    } else {
        assert_eq!(compiled, ["plain", "wrong", "added"]);
        assert!(added.seconds.is_ok());
    }
    assert_eq!(row.chosen, 0);
}
