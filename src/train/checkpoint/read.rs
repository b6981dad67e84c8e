//! Reading a checkpoint: every file is compared with the manifest before it is used.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::tensors::{self, Reader};
use super::{Meta, VERSION, steps};
use crate::error::{Error, Result, brief, shell_word};
use crate::files::{self, MANIFEST, Manifest};
use crate::model::params::Param;
use crate::text::Tokenizer;
use crate::train::config::RunConfig;

/// What the error of a damaged file ends with. The command line puts in place of it the command that does so.
pub const TAKEN_AS_IT_IS: &str = "--no-verify takes it as it is";

/// A checkpoint's folder. Its files are compared with its manifest when they are read, so that no damaged file and none of another
/// checkpoint is taken.
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

    /// Whether its files are compared with its manifest; who has edited one on purpose says no.
    #[must_use]
    pub fn verify(self, verify: bool) -> Checkpoint {
        Checkpoint { verify, ..self }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A small file.
    fn read(&self, name: &str) -> Result<String> {
        let path = self.path.join(name);
        let bytes = files::read(&path).map_err(|e| self.with_advice(Error::file(&path, e), false))?;
        self.check(|manifest| manifest.check(&self.path, name, &bytes))?;
        String::from_utf8(bytes).map_err(|e| Error::file(&path, format!("is no text: {e}")))
    }

    /// A file of tensors.
    fn tensors(&self, name: &str) -> Result<Reader<BufReader<File>>> {
        self.check(|manifest| manifest.check_file(&self.path, name))?;
        Reader::open(&self.path.join(name)).map_err(|e| self.with_advice(e, false))
    }

    fn check(&self, of: impl FnOnce(&Manifest) -> Result<()>) -> Result<()> {
        if !self.verify {
            return Ok(());
        }
        let checked = Manifest::find(&self.path).and_then(|manifest| match manifest {
            Some(manifest) => of(&manifest),
            None => Err(Error::file(
                self.path.join(MANIFEST),
                "is not there, as in checkpoints of early versions: the files cannot be compared with what was written",
            )),
        });
        checked.map_err(|e| self.with_advice(e, true))
    }

    /// The error of a file that cannot be used, with what can be used instead; `edited` if the file may be as somebody wants it.
    fn with_advice(&self, error: Error, edited: bool) -> Error {
        let Error::File { path, problem } = error else { return error };
        let advice = match (self.other(), self.pointer) {
            (Some((name, other)), Some(pointer)) => {
                let pointer = shell_word(self.path.with_file_name(pointer));
                format!("{} is whole and is taken after: echo {} >{pointer}", other.display(), shell_word(name))
            }
            (Some((_, other)), None) => format!("{} is whole", other.display()),
            (None, _) => "no other checkpoint of this run is whole".to_owned(),
        };
        let edited = if edited { format!("; {TAKEN_AS_IT_IS}") } else { String::new() };
        Error::file(path, format!("{problem}; {advice}{edited}"))
    }

    /// The next older checkpoint of the same run that is whole, or else the newest of all: its name and its path.
    fn other(&self) -> Option<(String, PathBuf)> {
        let all: Vec<PathBuf> = steps(self.path.parent()?).into_iter().map(|(_, path)| path).collect();
        let place = all.iter().position(|path| *path == self.path).map_or(0, |place| place + 1);
        let mut candidates = all[place..].iter().chain(&all[..place]).filter(|path| **path != self.path);
        let whole = candidates.find(|path| matches!(Manifest::find(path), Ok(Some(found)) if found.check_all(path).is_ok()))?;
        Some((whole.file_name()?.display().to_string(), whole.clone()))
    }
}

/// The config in a checkpoint.
///
/// # Errors
/// [`Error::File`] when it is missing, damaged, or holds what cannot be trained with.
pub fn read_config(checkpoint: &Checkpoint) -> Result<RunConfig> {
    let (path, text) = (checkpoint.path.join("config.toml"), checkpoint.read("config.toml")?);
    let config = RunConfig::from_toml(&text, &path)?;
    // A key that is left out takes its default; a whole section that is missing was lost.
    let found: toml::Table = toml::from_str(&text).map_err(|e| Error::file(&path, brief(e)))?;
    let whole = toml::Table::try_from(&config).map_err(|e| Error::file(&path, e))?;
    if let Some(section) = whole.keys().find(|section| !found.contains_key(*section)) {
        return Err(Error::file(&path, format!("has no section [{section}]: it is cut short")));
    }
    config.validate().map_err(|e| Error::file(&path, e))?;
    Ok(config)
}

/// The tokenizer in a checkpoint.
///
/// # Errors
/// [`Error::File`] when it is missing, damaged, or no tokenizer.
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
/// [`Error::File`] that names the tensor which is missing, of another shape, or has a value that is not finite.
pub fn read_weights(checkpoint: &Checkpoint, table: &[Param]) -> Result<Vec<Vec<f32>>> {
    let mut file = checkpoint.tensors(tensors::FILES[0])?;
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
