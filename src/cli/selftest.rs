//! `wgpt selftest`: whether this adapter and its driver compute what they should, and what later commands do about it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::output::{self, Output};
use super::variants::{cache_folder, key};
use super::{Context, Ended};
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Gpu;
use crate::ops;
use crate::selftest::result::SelftestFile;
use crate::selftest::{self, TestRow, Verdict};

/// Check this adapter: every kernel in every variant, a whole model's gradients, known faults of drivers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt selftest                      exit code 1 if anything is wrong
  wgpt selftest --json >report.json  everything that a bug report needs
  wgpt selftest --kernel matmul --kernel layer_norm.forward
  wgpt train --selftest              runs it first

Each kernel is compared with its reference implementation, in each variant that the adapter can run, between guard zones that reveal any \
access out of bounds. The gradients of a small model are compared with finite differences of its own loss, and a few steps are made twice \
and must have equal bits. A `known fault` is one that no kernel depends on; it does not fail.

The result is stored in your cache folder, for this adapter, driver and version of the shaders. Later commands do not use a variant that \
failed, and `train` refuses to start if nothing else is left.")]
pub struct SelftestArgs {
    /// Check only this kernel, or all kernels of this file; may be repeated (`wgpt shaders` lists them)
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
}

pub fn run(args: SelftestArgs, context: &Context) -> Result<Ended> {
    args.kernels.iter().try_for_each(|name| check_name(name))?;
    let gpu = context.gpu()?;
    let (out, began) = (&context.out, Instant::now());
    out.line(&title(&gpu));
    out.line("");
    out.line(&line("part", "test", "of", "cases", "time", "result"));
    let rows = test(&gpu, &args.kernels, &mut |row| out.line(&line_of(row)))?;
    let stored = store(&gpu, &rows, args.kernels.is_empty(), out);
    out.object(&report(&gpu, &rows, began.elapsed(), stored));
    out.line(&format!("\n{} in {}", counts(&rows), output::duration(began.elapsed())));
    match problems(&rows) {
        None => Ok(Ended::Done),
        Some(problems) => Err(Error::Device(format!("the self-test failed: {problems}"))),
    }
}

/// Runs the self-test before a training run, and stores its result. Shows only what is not as it must be.
///
/// # Errors
/// [`Error::DeviceLost`] when the device is lost; a test that fails is no error of this function.
pub fn first(gpu: &Gpu, out: &Output) -> Result<()> {
    let began = Instant::now();
    out.notice("selftest  checks every kernel of this adapter");
    let quiet = |row: &TestRow| matches!(row.verdict, Verdict::Passed | Verdict::Skipped(_));
    let rows = test(gpu, &[], &mut |row| {
        if !quiet(row) {
            out.notice(&format!("selftest  {}", line_of(row)));
        }
    })?;
    store(gpu, &rows, true, out);
    out.notice(&format!("selftest  {} in {}", counts(&rows), output::duration(began.elapsed())));
    Ok(())
}

/// The whole self-test, or that of some kernels.
fn test(gpu: &Gpu, kernels: &[String], show: &mut dyn FnMut(&TestRow)) -> Result<Vec<TestRow>> {
    if kernels.is_empty() { selftest::run(gpu, show) } else { selftest::run_kernels(gpu, kernels, show) }
}

/// The stored result for this adapter, driver and version of the shaders. A file that nobody named is no reason to fail: an `Err` is why it
/// is ignored.
pub fn stored(gpu: &Gpu) -> Result<Option<SelftestFile>, String> {
    let (Some(path), key) = (path(gpu).filter(|path| path.exists()), key(gpu)) else { return Ok(None) };
    let found = SelftestFile::read(&path).map_err(|e| format!("ignored: {e}"))?;
    let ignored = |difference| format!("{} is ignored: {difference}; `wgpt selftest` writes a new one", path.display());
    found.key.difference(&key).map_or(Ok(Some(found)), |difference| Err(ignored(difference)))
}

/// Refuses a kernel that is neither a file nor an entry point of one.
fn check_name(name: &str) -> Result<()> {
    ops::check_kernel(name).map(drop).map_err(|e| match e {
        Error::Usage(problem) => Error::usage(format!("--kernel: {problem}")),
        other => other,
    })
}

fn path(gpu: &Gpu) -> Option<PathBuf> {
    Some(cache_folder()?.join("selftest").join(key(gpu).file_name()))
}

/// Stores the result; that of some kernels is added to what is known of the others. Failing to is not a failure of the adapter.
fn store(gpu: &Gpu, rows: &[TestRow], whole: bool, out: &Output) -> Option<PathBuf> {
    let path = path(gpu)?;
    let found = SelftestFile::new(key(gpu), rows);
    let before = SelftestFile::read(&path).ok().filter(|before| !whole && before.key == found.key);
    let write = || {
        let folder = path.parent().unwrap_or(&path);
        files::disk::make_folders(folder).map_err(|e| Error::file(folder, format!("cannot be made: {e}")))?;
        before.map_or(found.clone(), |before| before.updated(&found)).write(&path)
    };
    match write() {
        Ok(()) => Some(path),
        Err(e) => {
            out.notice(&format!("note: the result is not stored: {e}"));
            None
        }
    }
}

fn title(gpu: &Gpu) -> String {
    let software = if gpu.traits().software { ", a SOFTWARE adapter" } else { "" };
    let (name, backend, version) = (&gpu.info().name, gpu.info().backend, env!("CARGO_PKG_VERSION"));
    format!("wgpt {version} on {name}{software} ({backend}, driver {}, {})", gpu.driver(), system())
}

/// `linux x86_64, Linux (Debian GNU/Linux 12), kernel 6.1.0`.
fn system() -> String {
    let mut words = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    words.extend(sysinfo::System::long_os_version().map(|version| format!(", {version}")));
    words.extend(sysinfo::System::kernel_version().map(|version| format!(", kernel {version}")));
    words
}

fn line(part: &str, test: &str, of: &str, cases: &str, time: &str, result: &str) -> String {
    format!("{part:<7} {test:<23} {of:<28} {cases:>5} {time:>7}  {result}")
}

fn line_of(row: &TestRow) -> String {
    let (word, detail) = words(&row.verdict);
    let result = if detail.is_empty() { word.to_owned() } else { format!("{word}: {detail}") };
    line(row.part, &row.test, &row.of, &row.cases.to_string(), &format!("{:.1} s", row.time.as_secs_f64()), &result)
}

/// The result in a word or two, and what more there is to say.
fn words(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Passed => ("passed", ""),
        Verdict::KnownFault(how) => ("known fault", how),
        Verdict::Skipped(why) => ("not tested", why),
        Verdict::Failed(problem) => ("FAILED", problem),
    }
}

/// `52 passed, 1 known fault`.
fn counts(rows: &[TestRow]) -> String {
    let count = |word: &str| rows.iter().filter(|row| words(&row.verdict).0 == word).count();
    let counted = ["passed", "known fault", "not tested", "FAILED"].map(|word| (count(word), word));
    counted.iter().filter(|(n, word)| *n > 0 || *word == "passed").map(|(n, word)| format!("{n} {word}")).collect::<Vec<_>>().join(", ")
}

/// Every failure, if there is one. A kernel's names kernel and variant.
fn problems(rows: &[TestRow]) -> Option<String> {
    let failed: Vec<&TestRow> = rows.iter().filter(|row| row.problem().is_some()).collect();
    let said = |row: &&TestRow| {
        let problem = row.problem().unwrap_or_default();
        if row.part == "kernel" { problem.to_owned() } else { format!("{} {}: {problem}", row.part, row.test) }
    };
    (!failed.is_empty()).then(|| failed.iter().map(said).collect::<Vec<_>>().join("; "))
}

/// The version of wgpu in Cargo.lock, which a test compares; wgpu itself does not say it.
const WGPU: &str = "30.0.1";

/// What a bug report needs.
fn report(gpu: &Gpu, rows: &[TestRow], time: Duration, stored: Option<PathBuf>) -> serde_json::Value {
    let info = gpu.info();
    let row = |row: &TestRow| {
        let (word, detail) = words(&row.verdict);
        let (TestRow { part, test, of, cases, .. }, seconds) = (row, row.time.as_secs_f64());
        json!({ "part": part, "test": test, "of": of, "cases": cases, "seconds": seconds, "result": word.to_lowercase(), "detail": detail })
    };
    let of_kind = |wanted: &str| {
        rows.iter().filter(|row| words(&row.verdict).0 == wanted).map(line_of).map(|line| one_line(&line)).collect::<Vec<_>>()
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"), "wgpu": WGPU, "os": system(),
        "adapter": info.name, "backend": info.backend.to_string(), "driver": key(gpu).driver, "device_type": format!("{:?}", info.device_type),
        "software": gpu.traits().software, "subgroup": gpu.traits().subgroup, "shaders": key(gpu).shaders,
        "passed": problems(rows).is_none(), "seconds": time.as_secs_f64(),
        "faults": of_kind("known fault"), "problems": of_kind("FAILED"),
        "rows": rows.iter().map(row).collect::<Vec<_>>(), "file": stored.as_deref().map(output::path),
    })
}

/// A line of the table without its padding.
fn one_line(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_wgpu_is_that_of_the_lock_file() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wgpu\"\nversion = \"{WGPU}\"")), "the version of wgpu is no longer {WGPU}");
    }

    #[test]
    fn rows_read_well() {
        let row = |verdict| TestRow {
            part: "kernel",
            test: "matmul".to_owned(),
            of: "tile_shared".to_owned(),
            cases: 5,
            time: Duration::from_millis(1240),
            verdict,
        };
        let wrong = Verdict::Failed("matmul.forward[tile_shared] is wrong as shipped: y[3]: got 1, want 2".to_owned());
        let rows = [row(Verdict::Passed), row(Verdict::KnownFault("short".to_owned())), row(wrong)];
        assert_eq!(line_of(&rows[0]), "kernel  matmul                  tile_shared                      5   1.2 s  passed");
        assert_eq!(counts(&rows), "1 passed, 1 known fault, 1 FAILED");
        assert!(problems(&rows).unwrap().starts_with("matmul.forward[tile_shared] is wrong") && problems(&rows[..2]).is_none());
    }
}
