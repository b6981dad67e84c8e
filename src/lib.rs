//! wgpt trains and runs GPT-style language models with WGSL compute shaders, on any GPU that wgpu reaches (Vulkan, Metal, DX12, WebGPU).
//!
//! # Modules
//!
//! Dependencies point down: [`train`] and [`generate`] use [`model`], which records [`ops`], which dispatch kernels of [`gpu`]. [`text`]
//! (tokenizers, corpora, batches) and [`mod@reference`] (the f64 reference implementations that tests compare with) use no GPU.
//!
//! | module | contents |
//! |---|---|
//! | [`gpu`] | kernels reflected by naga, recorded plans, memory computed before allocation, replay in bounded submits |
//! | [`ops`] | one file per operation, named as its WGSL file in `shaders/` |
//! | [`model`] | config, parameter table, forward and backward pass |
//! | [`train`] | trainer, schedule, evaluation, checkpoints, metrics, presets |
//! | `files` | atomic replacement of files, checksums, folder locks |
//! | [`generate`] | logits, probabilities, decoding with a key/value cache |
//!
//! A model is a list of operations. Building it *records* a [`gpu::plan::Plan`]; compiling the plan selects each kernel's variant for the
//! adapter; replaying the compiled plan, once per step, allocates nothing.
//!
//! # A training step
//!
//! ```no_run
//! use wgpt::gpu::{Gpu, adapter::Request, options::Options, wait::block_on};
//! use wgpt::text::{Corpus, DataConfig};
//! use wgpt::train::{Trainer, presets};
//!
//! # fn main() -> wgpt::Result<()> {
//! let mut config = presets::preset("toy")?;
//! let (tokenizer, corpus) = Corpus::build(&config.data, &[presets::TOY_TEXT], &config.tokenizer, None)?;
//! config.model = config.model.with_vocab(tokenizer.vocab_size())?;
//! let gpu = pollster::block_on(Gpu::request(&Request::default()))?;
//! println!("{} bytes in all", Trainer::memory(&gpu, &config, &Options::default())?.total);
//! let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default()))?;
//! for _ in 0..config.train.steps {
//!     trainer.step(&corpus.train, false, &|| false)?;
//! }
//! for report in trainer.finish()? {
//!     println!("step {} loss {:.4}", report.step, report.loss);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A host application passes its own device to [`gpu::Gpu::from_wgpu`]. Only [`gpu::wait`] blocks, and only the command line prints.
//!
//! # Features
//!
//! The core (`default-features = false`) is everything except file access: it takes and returns bytes, starts no threads unless asked to,
//! and builds for the web. `files` adds checkpoints, runs and memory-mapped corpora, `bpe` byte-level BPE, `plot` loss curves; `cli`, the
//! default, enables all of them and the program.
#![deny(unsafe_code)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod error;
#[cfg(feature = "files")]
pub mod files;
pub mod generate;
pub mod gpu;
pub mod model;
pub mod ops;
pub mod reference;
pub mod text;
pub mod train;

pub use error::{Error, Result};

/// Runs the guide's snippets as doctests.
#[cfg(doctest)]
#[doc = include_str!("../docs/EMBEDDING.md")]
pub mod embedding {}
