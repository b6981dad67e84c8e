//! The kernel variants that a command uses: named by hand, from the file that `wgpt tune` wrote, or those of a resumed run.

use std::path::{Path, PathBuf};

use super::output::Output;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::tune::file::{TuneKey, Tuning};
use crate::gpu::variants::{Choice, layered};
use crate::ops;

/// Options of every command that runs a model.
#[derive(Debug, Default, clap::Args)]
pub struct VariantArgs {
    /// Use this variant of a kernel, as in matmul=tile_shared; may be repeated (`wgpt shaders` lists them)
    #[arg(long = "variant", value_name = "KERNEL=VARIANT")]
    variants: Vec<String>,
    /// Use the variants in this file of `wgpt tune`, or `none` [default: what was tuned for this adapter, if anything]
    #[arg(long, value_name = "FILE")]
    tuning: Option<PathBuf>,
}

impl VariantArgs {
    /// The options to compile with. Prints a notice of where variants come from.
    ///
    /// # Errors
    /// [`Error::Usage`] for a variant that is unknown or does not run here, [`Error::File`] for a file that cannot be read.
    pub fn options(&self, gpu: &Gpu, out: &Output) -> Result<Options> {
        let tuned = match &self.tuning {
            Some(_) => self.tuned(gpu, out)?,
            None => in_cache(gpu, out),
        };
        Ok(options(layered(&tuned, &self.manual(gpu)?)))
    }

    /// As [`VariantArgs::options`], for a resumed run: its own choices, if they run here, overridden by those that the user names now.
    pub fn resumed(&self, recorded: &[Choice], gpu: &Gpu, out: &Output) -> Result<Options> {
        let able: Vec<Choice> = recorded.iter().filter(|choice| ops::check(choice, gpu.traits()).is_ok()).cloned().collect();
        let asked = layered(&self.tuned(gpu, out)?, &self.manual(gpu)?);
        Ok(options(layered(&able, &asked)))
    }

    /// Whether the user names variants, so that a resumed run may not use its own.
    pub fn any(&self) -> bool {
        !self.variants.is_empty() || self.tuning.is_some()
    }

    /// Uses the tuning that was just made, unless a file is named.
    pub fn take(&mut self, file: &Path) {
        self.tuning.get_or_insert_with(|| file.to_path_buf());
    }

    fn manual(&self, gpu: &Gpu) -> Result<Vec<Choice>> {
        choices("--variant", &self.variants, gpu)
    }

    /// The choices of the file that --tuning names.
    fn tuned(&self, gpu: &Gpu, out: &Output) -> Result<Vec<Choice>> {
        match &self.tuning {
            Some(file) if file.as_os_str() != "none" => Ok(fitting(Tuning::read(file)?, file, gpu, out)),
            _ => Ok(vec![]),
        }
    }
}

/// The variants that a flag names.
///
/// # Errors
/// [`Error::Usage`], which names the flag, for one that is unknown or does not run here.
pub fn choices(flag: &str, texts: &[String], gpu: &Gpu) -> Result<Vec<Choice>> {
    let checked = |text: &String| {
        let choice: Choice = text.parse()?;
        ops::check(&choice, gpu.traits()).map(|()| choice)
    };
    let named = |e| match e {
        Error::Usage(problem) => Error::usage(format!("{flag}: {problem}")),
        other => other,
    };
    texts.iter().map(checked).collect::<Result<_>>().map_err(named)
}

/// The options that all plans of a command are compiled with.
fn options(variants: Vec<Choice>) -> Options {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Options { variants, threads, ..Options::default() }
}

/// The choices that `wgpt tune` last wrote for an adapter of this name. A file that nobody named is no reason to fail.
fn in_cache(gpu: &Gpu, out: &Output) -> Vec<Choice> {
    let Some(path) = path(&key(gpu)).filter(|path| path.exists()) else { return vec![] };
    match Tuning::read(&path) {
        Ok(tuning) => fitting(tuning, &path, gpu, out),
        Err(e) => {
            out.notice(&format!("tuning    ignored: {e}"));
            vec![]
        }
    }
}

/// The choices of a file, if they were made for this adapter, driver and program. Prints a notice either way.
fn fitting(tuning: Tuning, path: &Path, gpu: &Gpu, out: &Output) -> Vec<Choice> {
    if let Some(difference) = tuning.key.difference(&key(gpu)) {
        out.notice(&format!("tuning    {} is ignored: {difference}; `wgpt tune` writes a new one", path.display()));
        return vec![];
    }
    let able: Vec<Choice> = tuning.choices.into_iter().filter(|choice| ops::check(choice, gpu.traits()).is_ok()).collect();
    out.notice(&format!("tuning    variants from {}", path.display()));
    able
}

/// The key that a tuning for this device is stored under.
pub fn key(gpu: &Gpu) -> TuneKey {
    TuneKey::of(gpu, ops::fingerprint())
}

/// Where `wgpt tune` writes by default.
pub fn path(key: &TuneKey) -> Option<PathBuf> {
    Some(cache_folder()?.join("tuning").join(key.file_name()))
}

/// A folder of the user's whose contents can be recreated.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = if let Some(folder) = set("WGPT_CACHE") {
        folder
    } else if cfg!(windows) {
        set("LOCALAPPDATA")?.join("wgpt")
    } else if cfg!(target_os = "macos") {
        set("HOME")?.join("Library/Caches/wgpt")
    } else {
        // The specification requires relative paths to be ignored.
        set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| set("HOME").map(|home| home.join(".cache")))?.join("wgpt")
    };
    Some(cache)
}
