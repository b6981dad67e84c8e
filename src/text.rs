//! Converts text to token ids and back, and selects the tokens of each training sample.
//!
//! - [`Tokenizer`]: words with `<UNK>`, characters, or byte-level BPE (feature `bpe`); saved as one `tokenizer.json`.
//! - [`Corpus`]: a text split into a training and a validation part; token ids live in memory or in a memory-mapped `.tokens` file
//!   (feature `files`), so a corpus may be larger than memory.
//! - [`Sampler`]: maps sample number s to a window of the training part; a pure function of (seed, s), so restarts, ranks and micro-batches
//!   cannot change it.
//! - The kind `auto` of a [`TokenizerConfig`] chooses a tokenizer that fits the text.
//! - [`Bigram`]: the smoothed bigram model that a trained GPT has to beat.
//!
//! Without features this module works on bytes and strings only and opens no file.

mod batch;
mod bigram;
#[cfg(feature = "bpe")]
mod bpe;
#[cfg(all(test, feature = "bpe"))]
mod bpe_tests;
#[cfg(feature = "bpe")]
mod bpe_train;
mod character;
mod config;
mod corpus;
mod decoder;
mod fit;
mod pieces;
#[cfg(feature = "files")]
mod reader;
#[cfg(feature = "files")]
mod source;
mod store;
#[cfg(feature = "files")]
mod token_file;
mod tokenizer;
mod vocabulary;
mod word;

pub use batch::{EvalWindow, IGNORED, Sampler, eval_windows, fill_eval, sort_order_into, sorted_order};
pub use bigram::Bigram;
#[cfg(feature = "bpe")]
pub use bpe::Bpe;
#[cfg(all(feature = "bpe", feature = "files"))]
pub use bpe_train::train_bpe_files;
pub use character::Character;
pub use config::{AUTO, TokenizerConfig};
pub use corpus::{Corpus, DataConfig};
pub use decoder::Decoder;
pub use pieces::text_from_bytes;
#[cfg(feature = "files")]
pub use reader::{TextReader, read_text};
#[cfg(feature = "files")]
pub use source::{TextSource, absolute};
pub use store::TokenStore;
#[cfg(feature = "files")]
pub use token_file::{encode_file_to_tokens, write_tokens};
pub use tokenizer::Tokenizer;
pub use vocabulary::UNKNOWN;
pub use word::Word;
