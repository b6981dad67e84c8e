//! The stored result of a self-test, which later commands read: what failed on one adapter, driver and version of the shaders.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{TestRow, Verdict};
use crate::error::{Error, Result, brief};
use crate::files;
use crate::gpu::tune::file::TuneKey;
use crate::gpu::variants::Choice;

/// A file with the result of one self-test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelftestFile {
    /// The version of this layout.
    pub version: u32,
    /// Where it was made; it says nothing about any other.
    pub key: TuneKey,
    /// Variants of kernel files that are right, each with all kernels of its file.
    #[serde(default)]
    pub passed: Vec<Choice>,
    /// Variants that are wrong.
    #[serde(default)]
    pub failed: Vec<Choice>,
    /// What is wrong beside them: probes, gradients, determinism.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// The layout that this version writes and reads.
const VERSION: u32 = 1;

impl SelftestFile {
    /// The result of all rows of a self-test.
    pub fn new(key: TuneKey, rows: &[TestRow]) -> SelftestFile {
        let choices = |wrong: bool| rows.iter().filter(|row| row.problem().is_some() == wrong).filter_map(TestRow::choice).collect();
        let others = rows.iter().filter(|row| row.choice().is_none());
        let problem = |row: &TestRow| match &row.verdict {
            Verdict::Failed(problem) => Some(format!("{}: {problem}", row.test)),
            _ => None,
        };
        SelftestFile {
            version: VERSION,
            key,
            passed: choices(false),
            failed: choices(true),
            problems: others.filter_map(problem).collect(),
        }
    }

    /// This result with that of some kernels in place of what it says about their files.
    pub fn updated(mut self, some: &SelftestFile) -> SelftestFile {
        let tested = |choice: &Choice| some.passed.iter().chain(&some.failed).any(|other| other.kernel == choice.kernel);
        for (own, new) in [(&mut self.passed, &some.passed), (&mut self.failed, &some.failed)] {
            own.retain(|choice| !tested(choice));
            own.extend(new.iter().cloned());
        }
        self
    }

    /// The kernel files of which no variant is right.
    pub fn wrong_files(&self) -> Vec<&str> {
        let right = |file: &str| self.passed.iter().any(|choice| choice.kernel == file);
        let mut files: Vec<&str> = self.failed.iter().map(|choice| choice.kernel.as_str()).filter(|file| !right(file)).collect();
        files.dedup();
        files
    }

    /// The failed variants of kernel files that have another one, which is right.
    pub fn avoidable(&self) -> Vec<Choice> {
        let wrong = self.wrong_files();
        self.failed.iter().filter(|choice| !wrong.contains(&choice.kernel.as_str())).cloned().collect()
    }

    /// # Errors
    /// [`Error::File`] when the file cannot be read or was not written by `wgpt selftest`.
    pub fn read(path: &Path) -> Result<SelftestFile> {
        let text = files::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => Error::file(path, "is no result of `wgpt selftest`: it is not UTF-8"),
            _ => Error::file(path, e),
        })?;
        let problem = |e: toml::de::Error| Error::file(path, format!("is no result of `wgpt selftest`: {}", brief(e.message())));
        let found: SelftestFile = toml::from_str(&text).map_err(problem)?;
        if found.version != VERSION {
            return Err(Error::file(path, format!("has version {}, this program reads version {VERSION}", found.version)));
        }
        Ok(found)
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`]; an existing file is then unchanged.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::file(path, e))?;
        files::write(path, |out| out.write_all(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key() -> TuneKey {
        let [adapter, driver] = ["Card", "maker 1.2"].map(str::to_owned);
        TuneKey { adapter, driver, device_type: "DiscreteGpu".into(), backend: "vulkan".into(), subgroup: 0, shaders: "00ff".into() }
    }

    fn row(part: &'static str, test: &str, of: &str, verdict: Verdict) -> TestRow {
        TestRow { part, test: test.to_owned(), of: of.to_owned(), cases: 1, time: Duration::ZERO, verdict }
    }

    #[test]
    fn what_failed_is_avoided_where_something_else_is_right() {
        let wrong = || Verdict::Failed("y[0]: got 1, want 2".to_owned());
        let rows = [
            row("probe", "loops", "", Verdict::KnownFault("short".to_owned())),
            row("probe", "barriers", "", wrong()),
            row("kernel", "matmul", "fast", wrong()),
            row("kernel", "matmul", "plain", Verdict::Passed),
            row("kernel", "sgd", "plain", wrong()),
            row("model", "gradients", "pre", Verdict::Skipped("none left".to_owned())),
        ];
        let found = SelftestFile::new(key(), &rows);
        assert_eq!(found.avoidable().iter().map(Choice::to_string).collect::<Vec<_>>(), ["matmul=fast"]);
        assert_eq!(found.wrong_files(), ["sgd"]);
        assert_eq!(found.problems, ["barriers: y[0]: got 1, want 2"]);

        let again = SelftestFile::new(key(), &[row("kernel", "sgd", "plain", Verdict::Passed)]);
        let updated = found.clone().updated(&again);
        assert!(updated.wrong_files().is_empty() && updated.avoidable().len() == 1 && updated.problems == found.problems, "{updated:?}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        found.write(&path).unwrap();
        assert_eq!(SelftestFile::read(&path).unwrap(), found);
    }

    #[test]
    fn damaged_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            SelftestFile::read(&path).unwrap_err().to_string()
        };
        assert!(refused("version = ").contains("is no result of `wgpt selftest`"));
        let whole = toml::to_string(&SelftestFile::new(key(), &[])).unwrap();
        assert!(refused(&whole.replace("version = 1", "version = 2")).contains("has version 2"));
    }
}
