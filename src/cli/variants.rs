//! The kernel variants that a command uses: named by hand, from the file that `wgpt tune` wrote, or those of a resumed run.

use std::path::{Path, PathBuf};

use super::output::Output;
use super::selftest;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::tune::file::{TuneKey, Tuning};
use crate::gpu::variants::{Choice, layered};
use crate::ops;
use crate::selftest::result::SelftestFile;

/// Options of every command that runs a model.
#[derive(Debug, Default, clap::Args)]
pub struct VariantArgs {
    /// Use this variant of a kernel, as in matmul=tile_shared; may be repeated (`wgpt shaders` lists them)
    #[arg(long = "variant", value_name = "KERNEL=VARIANT")]
    variants: Vec<String>,
    /// Use the variants in this file of `wgpt tune`, or `none` [default: what was tuned for this adapter, if anything]
    #[arg(long, value_name = "FILE")]
    tuning: Option<PathBuf>,
    /// Use every kernel and variant, even those that `wgpt selftest` found wrong on this adapter
    #[arg(long)]
    pub ignore_selftest: bool,
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
        let manual = self.manual(gpu)?;
        Ok(options(layered(&tuned, &manual), self.avoid(&manual, gpu, out)))
    }

    /// As [`VariantArgs::options`], for a resumed run: its own choices, if they run here, overridden by those that the user names now.
    pub fn resumed(&self, recorded: &[Choice], gpu: &Gpu, out: &Output) -> Result<Options> {
        let able: Vec<Choice> = recorded.iter().filter(|choice| ops::check(choice, gpu.traits()).is_ok()).cloned().collect();
        let manual = self.manual(gpu)?;
        let asked = layered(&self.tuned(gpu, out)?, &manual);
        Ok(options(layered(&able, &asked), self.avoid(&manual, gpu, out)))
    }

    /// Refuses to train on an adapter that the self-test found wrong in a way that no choice of variants avoids.
    ///
    /// # Errors
    /// [`Error::Device`] that names the kernels, or what else is wrong.
    pub fn check_selftest(&self, gpu: &Gpu) -> Result<()> {
        let Ok(Some(found)) = selftest::stored(gpu) else { return Ok(()) };
        if self.ignore_selftest {
            return Ok(());
        }
        let Some(wrong) = unavoidable(&found) else { return Ok(()) };
        let adapter = &gpu.info().name;
        Err(Error::Device(format!(
            "{wrong} on {adapter}, driver {}: `wgpt selftest` says how, --ignore-selftest trains anyway",
            gpu.driver()
        )))
    }

    /// The variants that the self-test found wrong here, except those that the user names. Prints a notice of them.
    fn avoid(&self, manual: &[Choice], gpu: &Gpu, out: &Output) -> Vec<Choice> {
        if self.ignore_selftest {
            return vec![];
        }
        let found = match selftest::stored(gpu) {
            Ok(Some(found)) => found,
            Ok(None) => return vec![],
            Err(why) => {
                out.notice(&format!("selftest  {why}"));
                return vec![];
            }
        };
        if let Some(wrong) = unavoidable(&found) {
            out.notice(&format!("WARNING   {wrong} on this adapter: `wgpt selftest` says how"));
        }
        let (used, avoided): (Vec<Choice>, Vec<Choice>) = found.avoidable().into_iter().partition(|choice| is_named(choice, manual));
        for (choices, what) in [(&avoided, "not used, as it failed here"), (&used, "used as you wish, although it failed here")] {
            if !choices.is_empty() {
                let list: Vec<String> = choices.iter().map(Choice::to_string).collect();
                out.notice(&format!("selftest  {what}: {} (`wgpt selftest` says how)", list.join(", ")));
            }
        }
        avoided
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

/// Whether the user names this variant of a file, for one of its kernels at least.
pub fn is_named(variant: &Choice, manual: &[Choice]) -> bool {
    manual.iter().any(|named| named.file() == variant.kernel && named.variant == variant.variant)
}

/// The options that all plans of a command are compiled with.
fn options(variants: Vec<Choice>, avoid: Vec<Choice>) -> Options {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Options { variants, avoid, threads, ..Options::default() }
}

/// What a self-test found wrong that no choice of variants avoids.
fn unavoidable(found: &SelftestFile) -> Option<String> {
    let files = found.wrong_files();
    let kernels = (!files.is_empty()).then(|| format!("the kernels of {} are wrong in every variant", files.join(", ")));
    let parts: Vec<String> = kernels.into_iter().chain(found.problems.iter().cloned()).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
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
