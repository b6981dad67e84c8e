//! wgpt trains and runs GPT-style language models with WGSL compute shaders, on any GPU that wgpu supports (Vulkan, Metal, DX12, WebGPU).
//!
//! An application shares its device by [`Gpu::from_wgpu`], or opens one by [`Gpu::request`]. A [`Trainer`] trains a model on a [`Corpus`];
//! a [`Generator`] generates text with a trained model. Both encode *slices* of their work, each within a [`Budget`], into the application's
//! command encoder, without blocking. The docs of a call that blocks say that it does. The library prints nothing. The guide,
//! [docs/EMBEDDING.md], shows each use in a snippet that is compiled.
//!
//! # A training step
//!
//! ```no_run
//! use wgpt::{Corpus, DataConfig, Gpu, Options, Request, Trainer, block_on, presets};
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
//! # Features
//!
//! The core (`default-features = false`) is everything except file access: it takes and returns bytes, starts no threads unless
//! [`Options::threads`] asks for some, and builds for the web. `files` adds checkpoints, runs and memory-mapped corpora; `bpe` adds
//! byte-level BPE; `plot` adds loss curves. `cli`, the default, enables all of them and the `wgpt` program.
//!
//! # Under the root
//!
//! Every kernel, plan and table is reachable in [`low_level`], which any version may change. Dependencies point down there: `train` and
//! `generate` use `model`, which records `ops`, which dispatch kernels of `gpu`. A model is a list of operations. Building it *records* a
//! plan; compiling the plan selects each kernel's variant for the adapter; replaying the compiled plan, once per step, allocates nothing.
//!
//! [docs/EMBEDDING.md]: guide
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "cli")]
#[doc(hidden)] // the `wgpt` program
pub mod cli;
mod error;
#[cfg(feature = "files")]
mod files;
mod generate;
mod gpu;
mod model;
mod ops;
mod random;
mod reference;
#[cfg(feature = "cli")]
#[doc(hidden)] // cases of tests, each named by what it checks
mod selftest;
mod text;
mod train;

// An application needs these; tests/surface.rs holds the list.
pub use error::{Error, Result};
pub use generate::{Generator, Sampling};
pub use gpu::Gpu;
pub use gpu::adapter::Request;
pub use gpu::options::Options;
pub use gpu::slice::{Budget, Ticket};
pub use gpu::wait::block_on;
pub use model::ModelConfig;
pub use model::shared::SharedWeights;
pub use model::view::View;
pub use text::{Corpus, DataConfig, Decoder, Tokenizer, TokenizerConfig};
pub use train::{Batch, RunConfig, Snapshot, StepReport, TrainConfig, Trainer, presets};
#[cfg(feature = "files")]
pub use train::{Trained, save_run};
pub use wgpu;

/// The phases of a training step, for [`Budget::before`] and [`Trainer::tap`].
pub mod phases {
    pub use crate::model::{BACKWARD, CAST, FORWARD, HEAD, NORM, PREPARE, UPDATE};
}

/// The modules of the engine, for tools, tests and kernels of your own. **Unstable**: any version may change them.
pub mod low_level {
    /// Atomic replacement of files, checksums, safetensors, folder locks.
    #[cfg(feature = "files")]
    pub mod files {
        pub use crate::files::*;
    }
    /// Logits, sampling, decoding with a key/value cache.
    pub mod generate {
        pub use crate::generate::*;
    }
    /// Kernels reflected by naga, recorded plans, memory computed before allocation, replay in bounded submits, profiling, tuning.
    pub mod gpu {
        pub use crate::gpu::*;
    }
    /// The parameter table, the forward and backward pass, tensors by name.
    pub mod model {
        pub use crate::model::*;
    }
    /// One file per operation, named as its WGSL file in `shaders/`.
    pub mod ops {
        pub use crate::ops::*;
    }
    /// The f64 reference implementations that tests compare with.
    pub mod reference {
        pub use crate::reference::*;
    }
    /// The cases that kernels are checked with, by `wgpt selftest` and by the kernel tests.
    #[cfg(feature = "cli")]
    #[doc(hidden)]
    pub mod selftest {
        pub use crate::selftest::*;
    }
    /// Tokenizers, corpora, batches.
    pub mod text {
        pub use crate::text::*;
    }
    /// The training loop, schedule, evaluation, checkpoints, metrics.
    pub mod train {
        pub use crate::train::*;
    }
}

/// The guide is a page of the documentation, and its snippets are doctests.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/EMBEDDING.md")]
pub mod guide {}
