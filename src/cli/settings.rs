//! Settings as `train`, `tune` and `profile` read them: a preset, and the arguments that override it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::text::{AUTO, TokenizerConfig, absolute, read_text};
use crate::train::config::RunConfig;
use crate::train::presets::{self, PRESETS, TOY_FILE};

/// Sources of settings; each one overrides those before it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Settings {
    /// Settings to start from; `wgpt train --help` lists the presets
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A TOML file with some or all settings, in the format of a run's config.toml
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Texts (or .tokens files) to use instead of the bundled text
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<String>,
    /// Any setting by its name; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl Settings {
    /// The named preset, or the default one.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for an unknown preset.
    pub fn base(&self) -> Result<RunConfig> {
        presets::preset(self.preset.as_deref().unwrap_or(PRESETS[0].0))
    }

    /// Applies the arguments, key by key, to a preset or to a run's own settings. Also returns notes on settings that changed although they
    /// were not named. Files are stored as absolute paths, so that the run finds them from any folder.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] and [`crate::error::Error::File`] for invalid settings.
    pub fn over(&self, base: &RunConfig) -> Result<(RunConfig, Vec<String>)> {
        let mut config = base.clone();
        if let Some(path) = &self.config {
            config.overlay(&read_text(path)?, path)?;
        }
        if !self.data.is_empty() {
            config.data.files = self.data.clone();
        }
        for assignment in &self.set {
            config.set(assignment)?;
        }
        let named = config.data.files.iter_mut().filter(|file| *file != TOY_FILE && !file.is_empty());
        named.for_each(|file| *file = absolute(file));
        if !config.tokenizer.path.is_empty() {
            config.tokenizer.path = absolute(&config.tokenizer.path);
        }
        let notes = config.train.follow_peak(&base.train);
        Ok((config, notes.into_iter().collect()))
    }

    /// As [`Settings::over`], but with a `[tokenizer]` that suits the arguments. A user's own text gets a tokenizer that fits it, unless a
    /// preset or a kind is named. A preset's values for one kind of tokenizer do not apply to another kind, or to a tokenizer from a file.
    ///
    /// # Errors
    /// As [`Settings::over`].
    pub fn fitting(&self, base: &RunConfig) -> Result<(RunConfig, Vec<String>)> {
        let anew = |kind: &str| {
            let tokenizer = TokenizerConfig { kind: kind.to_owned(), ..TokenizerConfig::default() };
            self.over(&RunConfig { tokenizer, ..base.clone() })
        };
        let (config, notes) = self.over(base)?;
        let (fitting, _) = anew(AUTO)?;
        let own_text = presets::embedded(&config.data.files).is_none();
        let kind_is_free = fitting.tokenizer.kind == AUTO && self.preset.is_none();
        let tokenizer = if config.tokenizer.path != base.tokenizer.path || (own_text && kind_is_free) {
            fitting.tokenizer
        } else if config.tokenizer.kind != base.tokenizer.kind {
            anew(&config.tokenizer.kind)?.0.tokenizer
        } else {
            config.tokenizer
        };
        Ok((RunConfig { tokenizer, ..config }, notes))
    }

    /// The name of a run with these settings: that of the first one given of preset, config file and text.
    pub fn name(&self) -> Option<String> {
        let owned = |name: &OsStr| name.to_string_lossy().into_owned();
        let config = || self.config.as_deref().and_then(Path::file_stem).map(owned);
        let text = || self.own_text().as_deref().and_then(|file| Path::new(file).file_stem()).map(owned);
        self.preset.clone().or_else(config).or_else(text)
    }

    /// The first file named as data, if it is not a bundled one.
    fn own_text(&self) -> Option<String> {
        let mut config = RunConfig::default();
        config.data.files.clone_from(&self.data);
        // Invalid assignments are refused when the settings are built.
        self.set.iter().for_each(|assignment| drop(config.set(assignment)));
        let files = config.data.files;
        if presets::embedded(&files).is_some() { None } else { files.into_iter().next() }
    }
}
