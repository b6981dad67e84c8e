//! Checks of all kernels: baseline limits, translation to every backend, host structs and constants equal to the shaders'.

use std::mem::offset_of;
use std::sync::Arc;

use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::{ShaderStage, TypeInner};
use wgpt::low_level::gpu::kernel::{Access, KernelFile, KernelSource, Module, Parsed};
use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops;
use wgpt::low_level::ops::cursor::Cursor;
use wgpt::low_level::ops::step::{State, Step};
use wgpt::low_level::ops::{SOURCES, STORAGES, gradient_norm, layer_norm, sample, storage};

use crate::common::root;

/// All variants of a file, with f32 activations; naga parses and validates each.
fn load(source: &'static KernelSource) -> KernelFile {
    ops::load(source, 32, Dtype::F32)
}

/// All variants of all files, for all element types of activations.
pub fn modules() -> impl Iterator<Item = Arc<Module>> {
    let of = |source: &&'static KernelSource| {
        let both = STORAGES.map(|activations| ops::load(source, 32, activations));
        both.into_iter().flat_map(|file| file.modules().to_vec()).collect::<Vec<_>>()
    };
    SOURCES.iter().flat_map(of)
}

fn folder(path: &str) -> Vec<(String, String)> {
    let files = std::fs::read_dir(root().join(path)).unwrap().map(|entry| entry.unwrap().path());
    let wgsl = files.filter(|file| file.extension().is_some_and(|e| e == "wgsl"));
    wgsl.map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&file).unwrap())).collect()
}

/// The limits of `wgpu::Limits::default()`, with which a host application's device is usually created.
#[test]
fn stays_within_the_baseline() {
    for source in SOURCES {
        let file = load(source);
        for entry in file.entries() {
            for interface in file.kernel(entry.clone().leak()).interfaces() {
                let name = format!("{} {entry}", interface.module.label);
                let buffers = interface.bindings.iter().filter(|b| b.access != Access::Uniform).count();
                assert!(buffers <= 8, "{name} binds {buffers} storage buffers");
                let invocations: u32 = interface.workgroup_size.iter().product();
                assert!(invocations <= 256, "{name} has workgroups of {invocations}");
                let bytes = interface.module.workgroup_bytes(&entry);
                assert!(bytes <= 16 << 10, "{name} has {bytes} bytes of workgroup memory");
            }
        }
    }
}

#[test]
fn translates_to_spirv() {
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    for module in modules() {
        let parsed = module.parse();
        for entry_point in entries(&parsed) {
            let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point };
            let words = spv::write_vec(&parsed.naga, &parsed.info, &options, Some(&pipeline));
            words.unwrap_or_else(|e| panic!("{} {}: {e}", module.label, pipeline.entry_point));
        }
    }
}

#[test]
fn translates_to_msl() {
    let options = msl::Options { lang_version: (2, 1), ..msl::Options::default() };
    for module in modules().filter(|module| !module.variant.is_cooperative()) {
        let parsed = module.parse();
        for entry in entries(&parsed) {
            let pipeline =
                msl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry.clone())), ..msl::PipelineOptions::default() };
            let (_, translated) = msl::write_string(&parsed.naga, &parsed.info, &options, &pipeline)
                .unwrap_or_else(|e| panic!("{} {entry}: {e}", module.label));
            let failed = translated.entry_point_names.iter().find_map(|name| name.as_ref().err());
            assert!(failed.is_none(), "{} {entry}: {failed:?}", module.label);
        }
    }
}

#[test]
fn translates_to_hlsl() {
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..hlsl::Options::default() };
    for module in modules().filter(|module| !module.variant.is_cooperative()) {
        let parsed = module.parse();
        for entry in entries(&parsed) {
            let mut text = String::new();
            let pipeline = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry.clone())) };
            let translated = hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(&parsed.naga, &parsed.info, None)
                .unwrap_or_else(|e| panic!("{} {entry}: {e}", module.label));
            let failed = translated.entry_point_names.iter().find_map(|name| name.as_ref().err());
            assert!(failed.is_none(), "{} {entry}: {failed:?}", module.label);
        }
    }
}

#[test]
fn translates_to_glsl() {
    let options = glsl::Options { version: glsl::Version::Desktop(430), ..glsl::Options::default() };
    for module in modules().filter(|module| !module.variant.is_cooperative()) {
        let parsed = module.parse();
        for entry_point in entries(&parsed) {
            let mut text = String::new();
            let pipeline = glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point, multiview: None };
            let policies = BoundsCheckPolicies::default();
            let translated =
                glsl::Writer::new(&mut text, &parsed.naga, &parsed.info, &options, &pipeline, policies).and_then(|mut w| w.write());
            translated.unwrap_or_else(|e| panic!("{} {}: {e}", module.label, pipeline.entry_point));
        }
    }
}

fn entries(parsed: &Parsed) -> Vec<String> {
    parsed.naga.entry_points.iter().map(|e| e.name.clone()).collect()
}

/// (name, type, offset) of the fields of a host struct; the compiler checks the types.
macro_rules! fields {
    ($block:ident { $($field:ident: $kind:ident),* }) => {{
        let _ = |block: &$block| { $(let _: $kind = block.$field;)* };
        vec![$((stringify!($field).to_owned(), stringify!($kind), offset_of!($block, $field))),*]
    }};
}

#[test]
fn host_structs_are_the_shaders_structs() {
    let step = fields!(Step {
        learning_rate: f32,
        target_scale: f32,
        seed: u32,
        drop_below: u32,
        keep_scale: f32,
        first_sample: u32,
        record: u32,
        fresh: u32
    });
    same_struct("Step", size_of::<Step>(), &step);
    let state = fields!(State { updates: u32, skipped: u32, apply: u32, clip: f32, loss_scale: f32, good: u32 });
    same_struct("State", size_of::<State>(), &state);
    let cursor = fields!(Cursor {
        position: u32,
        rows: u32,
        drawn: u32,
        failed: u32,
        seed: u32,
        top_k: u32,
        top_p: f32,
        sharpness: f32,
        seed_high: u32
    });
    same_struct("Cursor", size_of::<Cursor>(), &cursor);
}

fn same_struct(name: &str, size: usize, fields: &[(String, &'static str, usize)]) {
    let mut declared = 0;
    for module in modules() {
        let types = module.parse().naga.types;
        let Some((_, found)) = types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name)) else { continue };
        let TypeInner::Struct { ref members, span } = found.inner else { panic!("{}: {name} is not a struct", module.label) };
        let kind = |ty| match types[ty].inner {
            TypeInner::Scalar(naga::Scalar::F32) => "f32",
            TypeInner::Scalar(naga::Scalar::U32) => "u32",
            _ => "something else",
        };
        let read: Vec<_> = members.iter().map(|m| (m.name.clone().unwrap(), kind(m.ty), m.offset as usize)).collect();
        assert_eq!(read, fields, "{name} of {}", module.label);
        assert_eq!(span as usize, size, "the size of {name} of {}", module.label);
        declared += 1;
    }
    assert!(declared > 0, "no shader declares {name}");
}

#[test]
fn host_constants_are_the_shaders_constants() {
    for (source, constant, value) in [
        (&layer_norm::SOURCE, "CHUNK", layer_norm::CHUNK),
        (&layer_norm::SOURCE, "WEIGHT_QUADS", layer_norm::WEIGHT_QUADS),
        (&gradient_norm::SOURCE, "ROWS_PER_GROUP", gradient_norm::TILE),
        (&gradient_norm::SOURCE, "HIGHEST_SCALE", gradient_norm::HIGHEST_LOSS_SCALE as usize),
        (&sample::SOURCE, "RING", sample::RING),
    ] {
        for module in load(source).modules() {
            let naga = module.parse().naga;
            let found = naga.constants.iter().find(|(_, c)| c.name.as_deref() == Some(constant));
            let (_, found) = found.unwrap_or_else(|| panic!("{} has no {constant}", module.label));
            let literal = match naga.global_expressions[found.init] {
                naga::Expression::Literal(naga::Literal::U32(literal)) => literal as usize,
                naga::Expression::Literal(naga::Literal::F32(literal)) => literal as usize,
                _ => panic!("{constant} of {} is not a number", module.label),
            };
            assert_eq!(literal, value, "{constant} of {}", module.label);
        }
    }
}

#[test]
fn every_shader_is_in_the_list() {
    for (file, text) in folder("shaders") {
        let source = SOURCES.iter().find(|source| source.file == file);
        let source = source.unwrap_or_else(|| panic!("shaders/{file}.wgsl is not in ops::SOURCES"));
        assert!(source.text == text, "ops/{file}.rs includes another file than shaders/{file}.wgsl");
    }
    for (file, text) in folder("shaders/shared") {
        let stores = STORAGES.map(storage);
        let appended = |source: &KernelSource| {
            source.shared.iter().copied().chain(source.variants.iter().map(|v| v.text)).chain(stores).any(|t| t.contains(&text))
        };
        assert!(SOURCES.iter().any(|source| appended(source)), "nothing appends shaders/shared/{file}.wgsl");
    }
}

/// Every kernel file has a reference implementation, and a file of trials, whose header names all its kernels.
#[test]
fn every_kernel_has_a_reference_and_a_trial() {
    let root = root();
    for source in SOURCES {
        let file = source.file;
        // loss.wgsl sums the losses of cross_entropy; its trials add them up.
        let reference = root.join(format!("src/reference/{file}.rs"));
        assert!(reference.exists() || file == "loss", "there is no src/reference/{file}.rs");
        let trials = root.join(format!("src/selftest/{file}.rs"));
        let text = std::fs::read_to_string(trials).unwrap();
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let named: Vec<&str> = header.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for entry in load(source).entries() {
            assert!(named.contains(&entry.as_str()), "the first line of src/selftest/{file}.rs, `//! {file}.…`, does not name {entry}");
        }
    }
}
