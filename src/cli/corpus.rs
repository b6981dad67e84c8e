//! The text that settings name, as tokens.

use crate::error::{Error, Result};
use crate::text::{Corpus, Tokenizer};
use crate::train::config::RunConfig;
use crate::train::presets;

/// The text that a config names, bundled or in files, as tokens of the existing tokenizer or of a new one.
pub fn open_corpus(config: &RunConfig, existing: Option<Tokenizer>) -> Result<(Tokenizer, Corpus)> {
    match presets::embedded(&config.data.files) {
        Some(text) => Corpus::build(&config.data, &[text], &config.tokenizer, existing),
        None => match config.data.files.iter().find(|file| file.as_str() == presets::TOY_FILE) {
            Some(file) => Err(Error::usage(format!("data.files lists `{file}` with other files: it can only be used alone"))),
            None => Corpus::open(&config.data, &config.tokenizer, existing),
        },
    }
}
