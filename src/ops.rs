//! The operations of a language model. Each asserts shapes, states its extent and pushes its kernels; none allocates or runs anything.
//!
//! An operation is `shaders/<op>.wgsl` with the math in its header, `ops/<op>.rs`, and `reference/<op>.rs`, its f64 reference
//! implementation or "twin". A new one adds those three files, a line to [`SOURCES`], to [`crate::reference`] and to the cases of
//! src/selftest.

#![allow(clippy::new_without_default)] // `new` parses shaders, which `Default` should not do implicitly

pub mod adamw;
pub mod attention;
pub mod attention_map;
pub mod cached_attention;
pub mod cast;
pub mod cross_entropy;
pub mod cursor;
pub mod dropout;
pub mod embedding;
pub mod gradient_norm;
pub mod layer_norm;
pub mod loss;
pub mod matmul;
pub mod partial_sums;
pub mod position;
pub mod sample;
pub mod sgd;
pub mod step;
pub mod token_embedding;

use crate::error::{Error, Result, excerpt};
use crate::gpu::Traits;
use crate::gpu::kernel::{KernelFile, KernelSource, Variant};
use crate::gpu::tensor::Dtype;
use crate::gpu::variants::Choice;

/// Every WGSL file with its variants.
pub const SOURCES: &[&KernelSource] = &[
    &adamw::SOURCE,
    &attention::SOURCE,
    &attention_map::SOURCE,
    &cached_attention::SOURCE,
    &cast::SOURCE,
    &cross_entropy::SOURCE,
    &dropout::SOURCE,
    &embedding::SOURCE,
    &gradient_norm::SOURCE,
    &layer_norm::SOURCE,
    &loss::SOURCE,
    &matmul::SOURCE,
    &partial_sums::SOURCE,
    &position::SOURCE,
    &crate::gpu::probe::SOURCE,
    &sample::SOURCE,
    &sgd::SOURCE,
    &token_embedding::SOURCE,
];

/// The operations of training and evaluation, their shaders parsed once. [`crate::model::decode`] parses those of decoding only, and
/// [`attention_map`] is parsed by its users.
pub struct Ops {
    pub(crate) adamw: adamw::AdamW,
    pub(crate) attention: attention::Attention,
    pub(crate) cast: cast::Cast,
    pub(crate) cross_entropy: cross_entropy::CrossEntropy,
    pub(crate) dropout: dropout::Dropout,
    pub(crate) embedding: embedding::Embedding,
    pub(crate) gradient_norm: gradient_norm::GradientNorm,
    pub(crate) layer_norm: layer_norm::LayerNorm,
    pub(crate) loss: loss::Loss,
    pub(crate) matmul: matmul::Matmul,
    pub(crate) position: position::Position,
    pub(crate) sgd: sgd::Sgd,
}

impl Ops {
    /// `head_size` is D, the size of one attention head, which sizes the registers of that kernel; `activations` is the element type of
    /// activations and of the operands they are multiplied with.
    pub fn new(head_size: usize, activations: Dtype) -> Ops {
        Ops {
            adamw: adamw::AdamW::new(),
            attention: attention::Attention::new(head_size, activations),
            cast: cast::Cast::new(activations),
            cross_entropy: cross_entropy::CrossEntropy::new(activations),
            dropout: dropout::Dropout::new(activations),
            embedding: embedding::Embedding::new(activations),
            gradient_norm: gradient_norm::GradientNorm::new(),
            layer_norm: layer_norm::LayerNorm::new(activations),
            loss: loss::Loss::new(),
            matmul: matmul::Matmul::new(activations),
            position: position::Position::new(activations),
            sgd: sgd::Sgd::new(),
        }
    }
}

const STEP: &str = include_str!("../shaders/shared/step.wgsl");
const STATE: &str = include_str!("../shaders/shared/state.wgsl");
const ACTIVATION: &str = include_str!("../shaders/shared/activation.wgsl");
const RANDOM: &str = include_str!("../shaders/shared/random.wgsl");
const CURSOR: &str = include_str!("../shaders/shared/cursor.wgsl");
const SINE: &str = include_str!("../shaders/shared/sine.wgsl");

/// The number of invocations that share a row, and the code that reduces their values.
const LANES_8_BROADCAST: &str = include_str!("../shaders/shared/lanes_8_broadcast.wgsl");
const LANES_8: &str = concat!(include_str!("../shaders/shared/lanes_8.wgsl"), include_str!("../shaders/shared/lanes.wgsl"));
const LANES_32: &str = concat!(include_str!("../shaders/shared/lanes_32.wgsl"), include_str!("../shaders/shared/lanes.wgsl"));
const LANES_64: &str = concat!(include_str!("../shaders/shared/lanes_64.wgsl"), include_str!("../shaders/shared/lanes.wgsl"));
const LANES_256: &str = concat!(include_str!("../shaders/shared/lanes_256.wgsl"), include_str!("../shaders/shared/lanes.wgsl"));

const BROADCAST: Variant = Variant {
    name: "lanes_8_broadcast",
    text: LANES_8_BROADCAST,
    storages: &[],
    runs: |traits| traits.subgroup == Some(8),
    suits: |traits, _| traits.software,
};

const LANES_8_OF: Variant = Variant { name: "lanes_8", text: LANES_8, storages: &[], runs: |_| true, suits: |traits, _| traits.software };
// Selected only by tuning, on adapters where they are faster.
const LANES_32_OF: Variant = Variant { name: "lanes_32", text: LANES_32, storages: &[], runs: |_| true, suits: |_, _| false };
const LANES_256_OF: Variant = Variant { name: "lanes_256", text: LANES_256, storages: &[], runs: |_| true, suits: |_, _| false };
const LANES_64_OF: Variant = Variant { name: "lanes_64", text: LANES_64, storages: &[], runs: |_| true, suits: |_, _| true };

/// Variants of kernels with one workgroup per row.
const BY_ROW: &[Variant] = &[BROADCAST, LANES_8_OF, LANES_32_OF, LANES_256_OF, LANES_64_OF];

/// The same where rows may have tens of thousands of columns: from [`LONG_ROW`] on, an invocation of 256 still reads four quads.
const BY_LONG_ROW: &[Variant] = &[
    BROADCAST,
    LANES_8_OF,
    LANES_32_OF,
    Variant { suits: |traits, extent| !traits.software && extent.cols >= LONG_ROW, ..LANES_256_OF },
    LANES_64_OF,
];

const LONG_ROW: u64 = 4096;

/// Variants of kernels whose workgroups each reduce a range of elements.
const BY_STRETCH: &[Variant] = &[BROADCAST, LANES_64_OF];

/// The element types in which activations are stored.
pub const STORAGES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::F16];

/// The code appended to kernels that access activations: `Quad`, `unpack` and `pack` for an element type.
///
/// # Panics
/// For an element type that is not a number.
pub fn storage(activations: Dtype) -> &'static str {
    match activations {
        Dtype::Bf16 => include_str!("../shaders/shared/store_bf16.wgsl"),
        Dtype::F16 => include_str!("../shaders/shared/store_f16.wgsl"),
        Dtype::F32 => include_str!("../shaders/shared/store_f32.wgsl"),
        Dtype::U32 => panic!("activations are numbers, not words"),
    }
}

/// All texts of a file: its own, the shared ones appended to every variant, and those of the variants.
fn texts(source: &'static KernelSource) -> impl Iterator<Item = &'static str> {
    [source.text].into_iter().chain(source.shared.iter().copied()).chain(source.variants.iter().map(|variant| variant.text))
}

/// Every variant of a file in a module of its own, with the constants that its text uses: the size of an attention head, the element type
/// of activations.
pub fn load(source: &'static KernelSource, head_size: usize, activations: Dtype) -> KernelFile {
    let asks = |name: &str| texts(source).any(|text| text.contains(name));
    let size = if asks("HEAD_SIZE") { format!("const HEAD_SIZE: u32 = {head_size}u;\n") } else { String::new() };
    let store = if asks("Quad") { storage(activations) } else { "" };
    KernelFile::stored(source, activations, store, &size)
}

/// Rejects an unknown kernel, and a variant that is unknown or does not run on the adapter.
///
/// # Errors
/// [`Error::Usage`] that names it and lists the valid ones.
pub fn check(choice: &Choice, traits: &Traits) -> Result<()> {
    let source = check_kernel(&choice.kernel)?;
    choice.check(source.variants, &source.variants.iter().collect::<Vec<_>>(), traits)
}

/// The file of a kernel, which is named by it or by file and entry point.
///
/// # Errors
/// [`Error::Usage`] for an unknown one.
pub fn check_kernel(name: &str) -> Result<&'static KernelSource> {
    let file = name.split('.').next().unwrap_or_default();
    let source = SOURCES.iter().find(|source| source.file == file);
    let files: Vec<&str> = SOURCES.iter().map(|source| source.file).collect();
    let source = source.ok_or_else(|| Error::usage(format!("there is no kernel `{}`; there are {}", excerpt(name), files.join(", "))))?;
    let missing = |(_, entry): &(&str, &str)| !texts(source).any(|text| text.contains(&format!("\nfn {entry}(")));
    if let Some((_, entry)) = name.split_once('.').filter(missing) {
        return Err(Error::usage(format!(
            "there is no kernel `{}`: {}.wgsl has no entry point `{}`",
            excerpt(name),
            source.file,
            excerpt(entry)
        )));
    }
    Ok(source)
}

/// A hash (FNV-1a) of the WGSL text of all kernels in all variants: timings are valid for this text only.
pub fn fingerprint() -> u64 {
    let storages = STORAGES.map(storage);
    let named = |source: &&'static KernelSource| {
        let names = source.variants.iter().map(|variant| variant.name);
        [source.file].into_iter().chain(names).chain(texts(source)).collect::<Vec<_>>()
    };
    let texts = SOURCES.iter().flat_map(named);
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    // The byte 0xff, which no text contains, separates the texts, so that moving code between them changes the hash.
    texts.chain(storages).fold(0xcbf2_9ce4_8422_2325, |hash, text| add(text.bytes().fold(hash, add), 0xff))
}

/// Number of vec4 elements that hold `len` elements.
fn quads(len: usize) -> usize {
    len.div_ceil(4)
}
