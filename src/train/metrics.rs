//! `metrics.jsonl`: what a run measured, one JSON object a line, readable while the run goes on.

use serde::{Deserialize, Deserializer, Serialize};

/// What was measured at one step. A line has `loss`, `val_loss` or both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Updates made so far: step 0 is before the first.
    pub step: u64,
    /// Mean training loss of this step's real targets, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Mean validation loss, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    pub lr: f64,
    /// Euclidean norm of the whole gradient, before clipping.
    #[serde(default, deserialize_with = "number")]
    pub grad_norm: f64,
    #[serde(default, deserialize_with = "number")]
    pub tokens_per_second: f64,
    /// Wall time of the step, in milliseconds.
    #[serde(default, deserialize_with = "number")]
    pub ms: f64,
}

/// JSON has no NaN or infinity, serde_json writes `null` for both: read it back as NaN rather than refuse the file.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

#[cfg(feature = "files")]
pub use file::{MetricsFile, cut_back, read};

#[cfg(feature = "files")]
mod file {
    use std::fs::{self, File, OpenOptions};
    use std::io::{ErrorKind, Write};
    use std::path::{Path, PathBuf};

    use super::Record;
    use crate::error::{Error, Result};

    /// A `metrics.jsonl` open for appending.
    #[derive(Debug)]
    pub struct MetricsFile {
        path: PathBuf,
        file: File,
    }

    impl MetricsFile {
        /// Opens `path` to append to, or makes it. A last line torn by a kill is removed first.
        ///
        /// # Errors
        /// [`Error::File`] when it cannot be read or written, or holds something other than metrics.
        pub fn open(path: &Path) -> Result<MetricsFile> {
            cut_back(path, u64::MAX)?;
            let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::file(path, e))?;
            Ok(MetricsFile { path: path.to_path_buf(), file })
        }

        /// Writes one line at once: after a kill the file ends with a whole line or a torn one, never with less.
        ///
        /// # Errors
        /// [`Error::File`] when the line cannot be written, for example to a full disk.
        pub fn append(&mut self, record: &Record) -> Result<()> {
            let mut line = serde_json::to_string(record).map_err(|e| Error::file(&self.path, e))?;
            line.push('\n');
            self.file.write_all(line.as_bytes()).map_err(|e| Error::file(&self.path, e))
        }
    }

    /// All records of `path`, in file order; a last line torn by a kill is left out.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, or names the line that is not a record.
    pub fn read(path: &Path) -> Result<Vec<Record>> {
        let text = fs::read(path).map_err(|e| Error::file(path, e))?;
        Ok(records(&text, path)?.into_iter().map(|(_, record)| record).collect())
    }

    /// Removes the records after `step` and a torn last line, so that a resumed run writes them once; replaces the
    /// file by a rename, so a kill leaves the old one or the new one. A missing file is nothing to cut.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read or replaced, or names the line that is not a record.
    pub fn cut_back(path: &Path, step: u64) -> Result<()> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::file(path, e)),
        };
        let kept = records(&text, path)?.into_iter().filter(|(_, record)| record.step <= step);
        let kept: Vec<u8> = kept.flat_map(|(line, _)| [line, b"\n"].concat()).collect();
        if kept == text { Ok(()) } else { replace(path, &kept).map_err(|e| Error::file(path, e)) }
    }

    /// Each line with the record it holds. Bytes, not text: a torn line may end inside a character.
    fn records<'a>(text: &'a [u8], path: &Path) -> Result<Vec<(&'a [u8], Record)>> {
        let mut found = Vec::new();
        for (i, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
            let whole = line.strip_suffix(b"\n");
            match (serde_json::from_slice(whole.unwrap_or(line)), whole) {
                (Ok(record), _) => found.push((whole.unwrap_or(line), record)),
                (Err(_), None) => {} // only the last line can lack its end: it was being written
                (Err(_), Some(blank)) if blank.trim_ascii().is_empty() => {}
                (Err(e), Some(_)) => {
                    let problem = format!("line {} is not a record of metrics ({e}): remove that line, or move the file away", i + 1);
                    return Err(Error::file(path, problem));
                }
            }
        }
        Ok(found)
    }

    fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(text)?;
        // A temporary file is private to its owner; the one it replaces may not have been.
        new.as_file().set_permissions(fs::metadata(path)?.permissions())?;
        new.as_file().sync_all()?;
        new.persist(path)?;
        Ok(())
    }
}

#[cfg(all(test, feature = "files"))]
mod tests {
    use std::fs;

    use super::*;

    fn record(step: u64) -> Record {
        let val_loss = step.is_multiple_of(2).then_some(2.5);
        Record { step, loss: Some(1.0 / (step as f64 + 3.0)), val_loss, lr: 1e-3, grad_norm: 0.7, tokens_per_second: 1e6, ms: 12.5 }
    }

    #[test]
    fn appends_reads_and_cuts_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut file = MetricsFile::open(&path).unwrap();
        let all: Vec<Record> = (0..7).map(record).collect();
        all.iter().for_each(|r| file.append(r).unwrap());
        assert_eq!(read(&path).unwrap(), all);
        assert!(!fs::read_to_string(&path).unwrap().lines().nth(1).unwrap().contains("val_loss"));
        cut_back(&path, 4).unwrap();
        MetricsFile::open(&path).unwrap().append(&record(5)).unwrap();
        assert_eq!(read(&path).unwrap(), all[..6]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn a_torn_last_line_is_dropped_wherever_it_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let lines = format!("{}\n{}\n", serde_json::to_string(&record(1)).unwrap(), serde_json::to_string(&record(2)).unwrap());
        let first = lines.find('\n').unwrap() + 1;
        for end in first..lines.len() {
            fs::write(&path, &lines[..end]).unwrap();
            // The line lacks only its end: it is whole.
            let expected = if end == lines.len() - 1 { vec![record(1), record(2)] } else { vec![record(1)] };
            assert_eq!(read(&path).unwrap(), expected);
            MetricsFile::open(&path).unwrap().append(&record(3)).unwrap();
            assert_eq!(read(&path).unwrap(), [expected, vec![record(3)]].concat());
        }
    }

    #[test]
    fn what_is_not_metrics_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        assert!(read(&path).unwrap_err().to_string().contains("metrics.jsonl: No such file"));
        cut_back(&path, 3).unwrap();
        fs::write(&path, "{\"step\":1,\"loss\":2.0}\nnonsense\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: line 2 is not a record of metrics") && error.contains("remove that line"), "{error}");
        assert!(cut_back(&path, 0).is_err());
        assert!(fs::read_to_string(&path).unwrap().ends_with("nonsense\n"), "a refused file was changed");
        assert!(MetricsFile::open(&path.join("below-a-file")).is_err());
    }

    #[test]
    fn blank_lines_are_no_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "\n{\"step\":1,\"loss\":2.0}\n  \r\n\n{\"step\":2,\"loss\":1.0}\n\n").unwrap();
        assert_eq!(read(&path).unwrap().iter().map(|r| r.step).collect::<Vec<_>>(), [1, 2]);
        MetricsFile::open(&path).unwrap().append(&record(3)).unwrap();
        assert_eq!(read(&path).unwrap().iter().map(|r| r.step).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn numbers_that_json_lacks_survive() {
        let line = serde_json::to_string(&Record { ms: f64::NAN, ..record(1) }).unwrap();
        assert!(serde_json::from_str::<Record>(&line).unwrap().ms.is_nan());
    }

    #[cfg(unix)]
    #[test]
    fn cutting_keeps_the_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"step\":2}\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        cut_back(&path, 1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n");
    }
}
