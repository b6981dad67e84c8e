//! Reads a checkpoint: every file is verified against the manifest before it is used.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::tensors::{self, Reader};
use super::{Meta, VERSION, steps};
use crate::error::{Advice, Error, Result, brief, shell_word};
use crate::files::{self, MANIFEST, Manifest};
use crate::model::params::Param;
use crate::text::Tokenizer;
use crate::train::config::RunConfig;

/// A checkpoint's folder. Its files are verified against its manifest when they are read, so that no damaged file and no file of another
/// checkpoint is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    path: PathBuf,
    /// The one-line file of the run that names it: `latest` or `best`.
    pointer: Option<&'static str>,
    verify: bool,
}

impl Checkpoint {
    /// The checkpoint in a folder.
    pub fn at(path: impl Into<PathBuf>) -> Checkpoint {
        Checkpoint { path: path.into(), pointer: None, verify: true }
    }

    pub(super) fn named(path: PathBuf, pointer: &'static str) -> Checkpoint {
        Checkpoint { pointer: Some(pointer), ..Checkpoint::at(path) }
    }

    /// Whether its files are verified against its manifest; false is for files that were edited on purpose.
    #[must_use]
    pub fn verify(self, verify: bool) -> Checkpoint {
        Checkpoint { verify, ..self }
    }

    /// Reads everything but the tensors.
    ///
    /// # Errors
    /// [`Error::File`] naming the file that is missing, damaged, of another version, or does not match the others.
    pub fn open(self) -> Result<OpenCheckpoint> {
        let (meta, config, tokenizer) = (read_meta(&self)?, read_config(&self)?, read_tokenizer(&self)?);
        check_vocabulary(&self.path, &config, &tokenizer)?;
        Ok(OpenCheckpoint { files: self, config, tokenizer, meta })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a small file.
    fn read(&self, name: &str) -> Result<String> {
        let path = self.path.join(name);
        let bytes = files::read(&path).map_err(|e| self.with_advice(Error::file(&path, e), false))?;
        self.check(|manifest| manifest.check(&self.path, name, &bytes))?;
        String::from_utf8(bytes).map_err(|e| Error::file(&path, format!("is not text: {e}")))
    }

    /// Opens a file of tensors.
    fn tensors(&self, name: &str) -> Result<Reader<BufReader<File>>> {
        if let Err(e) = files::open(&self.path.join(name)) {
            return Err(self.with_advice(Error::file(self.path.join(name), e), false));
        }
        self.check(|manifest| manifest.check_file(&self.path, name))?;
        Reader::open(&self.path.join(name)).map_err(|e| self.with_advice(e, false))
    }

    fn check(&self, of: impl FnOnce(&Manifest) -> Result<()>) -> Result<()> {
        if !self.verify {
            return Ok(());
        }
        let checked = Manifest::find(&self.path).and_then(|manifest| match manifest {
            Some(manifest) => of(&manifest),
            None => {
                Err(Error::file(self.path.join(MANIFEST), "is missing, as in checkpoints of early versions: the files cannot be verified"))
            }
        });
        checked.map_err(|e| self.with_advice(e, true))
    }

    /// Adds to the error of an unusable file what can be used instead; `edited` if the file may have been edited on purpose.
    fn with_advice(&self, error: Error, edited: bool) -> Error {
        let Error::File { path, problem } = error else { return error };
        if !self.path.exists() {
            let why = "was removed while it was read: another process trains this run and has newer ones, so repeat the command";
            return Error::file(&self.path, why);
        }
        let advice = match (self.other(), self.pointer) {
            (Some((name, other)), Some(pointer)) => {
                let pointer = shell_word(self.path.with_file_name(pointer));
                format!("{} is intact, use it with: echo {} >{pointer}", other.display(), shell_word(name))
            }
            (Some((_, other)), None) => format!("{} is intact", other.display()),
            (None, _) => "no other checkpoint of this run is intact".to_owned(),
        };
        let problem = format!("{problem}; {advice}");
        if edited { Error::file(path, problem + "; ").advised(Advice::ReadUnverified) } else { Error::file(path, problem) }
    }

    /// The next older intact checkpoint of the same run, or else the newest intact one: its name and its path.
    fn other(&self) -> Option<(String, PathBuf)> {
        let all: Vec<PathBuf> = steps(self.path.parent()?).into_iter().map(|(_, path)| path).collect();
        let place = all.iter().position(|path| *path == self.path).map_or(0, |place| place + 1);
        let mut candidates = all[place..].iter().chain(&all[..place]).filter(|path| **path != self.path);
        let whole = candidates.find(|path| matches!(Manifest::find(path), Ok(Some(found)) if found.check_all(path).is_ok()))?;
        Some((whole.file_name()?.display().to_string(), whole.clone()))
    }
}

/// A checkpoint with everything but its tensors in memory.
#[derive(Debug, Clone)]
pub struct OpenCheckpoint {
    /// Where the tensors are read from, see [`read_weights`] and [`read_moments`].
    pub files: Checkpoint,
    /// All settings of the run, as they were when it was saved.
    pub config: RunConfig,
    /// Encodes the text of the run.
    pub tokenizer: Tokenizer,
    /// The contents of `state.json`.
    pub meta: Meta,
}

/// Refuses a tokenizer with more tokens than the model, whose files cannot be of one run.
pub(in crate::train) fn check_vocabulary(path: &Path, config: &RunConfig, tokenizer: &Tokenizer) -> Result<()> {
    let (tokens, rows) = (tokenizer.vocab_size(), config.model.vocab_size);
    if tokens > rows {
        return Err(Error::file(path, format!("its tokenizer has {tokens} tokens, but its model has only {rows} rows for them")));
    }
    Ok(())
}

/// The config in a checkpoint.
///
/// # Errors
/// [`Error::File`] when it is missing, damaged, or holds settings that cannot be trained with.
pub fn read_config(checkpoint: &Checkpoint) -> Result<RunConfig> {
    let (path, text) = (checkpoint.path.join("config.toml"), checkpoint.read("config.toml")?);
    let config = RunConfig::from_toml(&text, &path)?;
    // A missing key takes its default; a missing section means that the file was truncated.
    let found: toml::Table = toml::from_str(&text).map_err(|e| Error::file(&path, brief(e)))?;
    let whole = toml::Table::try_from(&config).map_err(|e| Error::file(&path, e))?;
    if let Some(section) = whole.keys().find(|section| !found.contains_key(*section)) {
        return Err(Error::file(&path, format!("has no section [{section}]: it is truncated")));
    }
    config.validate().map_err(|e| Error::file(&path, e))?;
    Ok(config)
}

/// The tokenizer in a checkpoint.
///
/// # Errors
/// [`Error::File`] when it is missing, damaged, or not a tokenizer.
pub fn read_tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let path = checkpoint.path.join("tokenizer.json");
    Tokenizer::from_json(&checkpoint.read("tokenizer.json")?, &path.display().to_string())
}

/// `state.json` of a checkpoint.
///
/// # Errors
/// [`Error::File`] when it is missing, damaged, or of another version.
pub fn read_meta(checkpoint: &Checkpoint) -> Result<Meta> {
    let (path, text) = (checkpoint.path.join("state.json"), checkpoint.read("state.json")?);
    let meta: Meta = serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("is not a checkpoint's state: {}", brief(e))))?;
    if meta.version != VERSION {
        return Err(Error::file(&path, format!("has version {}, this program reads version {VERSION}", meta.version)));
    }
    Ok(meta)
}

/// The weights of a checkpoint in the table's order.
///
/// # Errors
/// [`Error::File`] naming the tensor that is missing or unknown, has another shape, or has a value that is not finite.
pub fn read_weights(checkpoint: &Checkpoint, table: &[Param]) -> Result<Vec<Vec<f32>>> {
    let mut file = checkpoint.tensors(tensors::FILES[0])?;
    file.holds_only(table)?;
    table.iter().map(|param| file.read(param, None)).collect()
}

/// All optimizer moments of a checkpoint: by moment, then in the table's order.
///
/// # Errors
/// As [`read_weights`].
pub fn read_moments(checkpoint: &Checkpoint, table: &[Param], moments: usize) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut file = checkpoint.tensors(tensors::FILES[1])?;
    (0..moments).map(|moment| table.iter().map(|param| file.read(param, Some(moment))).collect()).collect()
}
