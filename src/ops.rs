//! The operations of a language model: each asserts shapes, states its extent and pushes its kernels; nothing is allocated or run here.
//!
//! An operation is `shaders/<op>.wgsl` with the math in its header, `ops/<op>.rs`, and the f64 twin `reference/<op>.rs`. A new one adds
//! those three files, a line to [`SOURCES`], to [`crate::reference`] and to the cases of tests/kernels.

#![allow(clippy::new_without_default)] // `new` parses shaders: nothing that a `Default` should do unseen
pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gradient_norm;
pub mod layer_norm;
pub mod loss;
pub mod matmul;
pub mod position;
pub mod sgd;
pub mod step;

use crate::gpu::kernel::{Source, Variant};
use crate::gpu::tensor::Dtype;

/// Every WGSL file with its variants.
pub const SOURCES: &[&Source] = &[
    &adamw::SOURCE,
    &attention::SOURCE,
    &cross_entropy::SOURCE,
    &dropout::SOURCE,
    &embedding::SOURCE,
    &gradient_norm::SOURCE,
    &layer_norm::SOURCE,
    &loss::SOURCE,
    &matmul::SOURCE,
    &position::SOURCE,
    &sgd::SOURCE,
];

/// All operations, their shaders parsed once.
pub struct Ops {
    pub adamw: adamw::AdamW,
    pub attention: attention::Attention,
    pub cross_entropy: cross_entropy::CrossEntropy,
    pub dropout: dropout::Dropout,
    pub embedding: embedding::Embedding,
    pub gradient_norm: gradient_norm::GradientNorm,
    pub layer_norm: layer_norm::LayerNorm,
    pub loss: loss::Loss,
    pub matmul: matmul::Matmul,
    pub position: position::Position,
    pub sgd: sgd::Sgd,
}

impl Ops {
    /// `head_size` is D, the size of one attention head, which sizes that kernel's registers; `activations` is how activations, and what
    /// they are multiplied with, are stored.
    pub fn new(head_size: usize, activations: Dtype) -> Ops {
        Ops {
            adamw: adamw::AdamW::new(),
            attention: attention::Attention::new(head_size),
            cross_entropy: cross_entropy::CrossEntropy::new(activations),
            dropout: dropout::Dropout::new(),
            embedding: embedding::Embedding::new(),
            gradient_norm: gradient_norm::GradientNorm::new(),
            layer_norm: layer_norm::LayerNorm::new(activations),
            loss: loss::Loss::new(),
            matmul: matmul::Matmul::new(activations),
            position: position::Position::new(),
            sgd: sgd::Sgd::new(),
        }
    }
}

const STEP: &str = include_str!("../shaders/shared/step.wgsl");
const STATE: &str = include_str!("../shaders/shared/state.wgsl");
const ACTIVATION: &str = include_str!("../shaders/shared/activation.wgsl");
const RANDOM: &str = include_str!("../shaders/shared/random.wgsl");

const LANES: &str = include_str!("../shaders/shared/lanes.wgsl");
const LANES_64: &str = include_str!("../shaders/shared/lanes_64.wgsl");

/// Kernels whose workgroups share a row; they append [`LANES`] too.
const BY_ROW: &[Variant] = &[
    Variant { name: "lanes_8", text: include_str!("../shaders/shared/lanes_8.wgsl"), runs: |_| true, suits: |traits, _| traits.software },
    Variant { name: "lanes_64", text: LANES_64, runs: |_| true, suits: |_, _| true },
];

/// What is appended to kernels that touch activations: `Quad`, `unpack` and `pack` of a storage type.
pub fn storage(activations: Dtype) -> &'static str {
    match activations {
        Dtype::Bf16 => include_str!("../shaders/shared/store_bf16.wgsl"),
        Dtype::F32 | Dtype::U32 => include_str!("../shaders/shared/store_f32.wgsl"),
    }
}

/// Number of vec4 elements that hold `len` elements.
fn quads(len: usize) -> usize {
    len.div_ceil(4)
}
