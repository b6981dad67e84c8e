//! `metrics.jsonl`: a run's measurements, one JSON object per line, readable while the run continues.

use serde::{Deserialize, Deserializer, Serialize};

use super::config::StorageDtype;
use super::reports::StepReport;

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
    /// Learning rate of this step, from the schedule.
    #[serde(default, deserialize_with = "number")]
    pub lr: f64,
    /// Euclidean norm of the whole gradient, before clipping; `null` if the step was skipped because gradients overflowed.
    #[serde(default, deserialize_with = "number")]
    pub grad_norm: f64,
    /// Factor on the loss while gradients are computed; present if activations are stored in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Tokens of one step per second of `ms`.
    #[serde(default, deserialize_with = "number")]
    pub tokens_per_second: f64,
    /// Milliseconds of a step: the mean over the steps that were reported together, measured between their ends on the device.
    #[serde(default, deserialize_with = "number")]
    pub ms: f64,
}

impl Record {
    /// The record of a step of `tokens` tokens that took `ms` milliseconds, with activations stored as `storage`; its validation loss is not
    /// known.
    pub fn of(report: &StepReport, storage: StorageDtype, tokens: u64, ms: f64) -> Record {
        let (loss, grad_norm) = (Some(f64::from(report.loss)), f64::from(report.grad_norm));
        let tokens_per_second = tokens as f64 * 1e3 / ms.max(1e-6);
        let loss_scale = (storage == StorageDtype::F16).then_some(f64::from(report.loss_scale));
        Record { step: report.step, loss, val_loss: None, lr: report.learning_rate, grad_norm, loss_scale, tokens_per_second, ms }
    }
}

/// JSON has no NaN or infinity, and serde_json writes `null` for both: read it back as NaN instead of refusing the file.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

#[cfg(feature = "files")]
pub use file::{METRICS, MetricsFile, cut_back, read, write};

#[cfg(feature = "files")]
mod file {
    use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
    use std::path::{Path, PathBuf};

    use super::Record;
    use crate::error::{Error, Result, brief};
    use crate::files::{self, disk, is_at};

    /// The name of the file in a run's folder.
    pub const METRICS: &str = "metrics.jsonl";

    /// A `metrics.jsonl` open for appending. Lines that cannot be written are kept, and written with the next ones.
    #[derive(Debug)]
    pub struct MetricsFile {
        path: PathBuf,
        file: disk::File,
        /// Bytes of whole lines in the file.
        len: u64,
        /// A write has failed: a part of a line may follow `len`.
        torn: bool,
        /// Lines not in the file yet.
        waiting: Vec<u8>,
    }

    impl MetricsFile {
        /// Opens `path` for appending, or creates it. First removes a last line torn by a kill.
        ///
        /// # Errors
        /// [`Error::File`] when it cannot be read or written, or holds something other than metrics.
        pub fn open(path: &Path) -> Result<MetricsFile> {
            cut_back(path, u64::MAX)?;
            let (file, len) = append_to(path).map_err(|e| Error::file(path, format!("cannot be opened: {e}")))?;
            Ok(MetricsFile { path: path.to_path_buf(), file, len, torn: false, waiting: vec![] })
        }

        /// Writes one line at once: a kill can tear this line, but loses no earlier one.
        ///
        /// # Errors
        /// [`Error::File`] when it cannot be written, for example to a full disk; the line is kept for the next call.
        pub fn append(&mut self, record: &Record) -> Result<()> {
            self.keep(record)?;
            self.flush()
        }

        /// Keeps one line for the next write.
        ///
        /// # Errors
        /// [`Error::File`] for a number that JSON cannot hold.
        pub fn keep(&mut self, record: &Record) -> Result<()> {
            self.waiting.extend(line(record, &self.path)?);
            Ok(())
        }

        /// Writes the pending lines. A file that was removed is recreated with all its lines.
        ///
        /// # Errors
        /// [`Error::File`]; the lines are kept.
        pub fn flush(&mut self) -> Result<()> {
            if self.waiting.is_empty() {
                return Ok(());
            }
            if !self.path.exists() {
                return self.move_to(&self.path.clone());
            }
            self.write().map_err(|e| Error::file(&self.path, format!("cannot be written: {e}")))
        }

        fn write(&mut self) -> std::io::Result<()> {
            if !is_at(self.file.inner(), &self.path) {
                // An editor or a copy replaced the file.
                (self.file, self.len) = append_to(&self.path)?;
            } else if self.torn {
                self.file.set_len(self.len)?;
            }
            self.torn = true;
            self.file.write_all(&self.waiting)?;
            self.torn = false;
            self.len += self.waiting.len() as u64;
            self.waiting.clear();
            Ok(())
        }

        /// Whether lines are pending.
        pub fn is_behind(&self) -> bool {
            !self.waiting.is_empty()
        }

        /// All lines, including the pending ones. A file that was removed is still read through its open handle, where the system allows
        /// it.
        fn lines(&self) -> std::io::Result<Vec<u8>> {
            let (mut file, mut lines) = (self.file.inner(), vec![]);
            file.seek(SeekFrom::Start(0))?;
            file.take(self.len).read_to_end(&mut lines)?;
            lines.extend(&self.waiting);
            Ok(lines)
        }

        /// Continues in another file, to which it writes all lines, replacing its contents.
        ///
        /// # Errors
        /// [`Error::File`]; nothing has changed then.
        pub fn move_to(&mut self, path: &Path) -> Result<()> {
            let lines = self.lines().map_err(|e| Error::file(&self.path, format!("cannot be read: {e}")))?;
            self.replace(path, &lines)
        }

        /// Replaces the records of the same step.
        ///
        /// # Errors
        /// [`Error::File`]; the file is then unchanged, and the record is kept for the next call.
        pub fn amend(&mut self, record: &Record) -> Result<()> {
            let path = self.path.clone();
            let amended = || -> Result<Vec<u8>> {
                let lines = self.lines().map_err(|e| Error::file(&path, format!("cannot be read: {e}")))?;
                let kept = records(&lines, &path)?.into_iter().filter(|(_, found)| found.step != record.step);
                let mut lines: Vec<u8> = kept.flat_map(|(line, _)| [line, b"\n"].concat()).collect();
                lines.extend(line(record, &path)?);
                Ok(lines)
            };
            amended().and_then(|lines| self.replace(&path, &lines)).or_else(|e| self.keep(record).and(Err(e)))
        }

        fn replace(&mut self, path: &Path, lines: &[u8]) -> Result<()> {
            files::write(path, |out| out.write_all(lines))?;
            let (file, len) = append_to(path).map_err(|e| Error::file(path, format!("cannot be opened: {e}")))?;
            *self = MetricsFile { path: path.to_path_buf(), file, len, torn: false, waiting: vec![] };
            Ok(())
        }
    }

    fn append_to(path: &Path) -> std::io::Result<(disk::File, u64)> {
        let file = disk::File::append(path)?;
        let len = file.inner().metadata()?.len();
        Ok((file, len))
    }

    /// Formats a record as a line of the file.
    fn line(record: &Record, path: &Path) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(record).map_err(|e| Error::file(path, e))?;
        line.push(b'\n');
        Ok(line)
    }

    /// Replaces the file at `path` by these records.
    ///
    /// # Errors
    /// [`Error::File`]; the file is then unchanged.
    pub fn write(path: &Path, records: &[Record]) -> Result<()> {
        let lines = records.iter().map(|record| line(record, path)).collect::<Result<Vec<_>>>()?.concat();
        files::write(path, |out| out.write_all(&lines))
    }

    /// All records of `path`, in file order, without a last line torn by a kill.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, or naming the line that is not a record.
    pub fn read(path: &Path) -> Result<Vec<Record>> {
        let text = files::read(path).map_err(|e| Error::file(path, e))?;
        Ok(records(&text, path)?.into_iter().map(|(_, record)| record).collect())
    }

    /// Removes the records after `step` and a torn last line, so that a resumed run writes them once. The file is replaced by a rename, so
    /// a kill leaves the old one or the new one. A missing file is not an error.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read or replaced, or naming the line that is not a record.
    pub fn cut_back(path: &Path, step: u64) -> Result<()> {
        let text = match files::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::file(path, e)),
        };
        let kept = records(&text, path)?.into_iter().filter(|(_, record)| record.step <= step);
        let kept: Vec<u8> = kept.flat_map(|(line, _)| [line, b"\n"].concat()).collect();
        if kept == text { Ok(()) } else { files::write(path, |out| out.write_all(&kept)) }
    }

    /// Each line with the record that it holds. Bytes, not text: a torn line may end inside a character.
    fn records<'a>(text: &'a [u8], path: &Path) -> Result<Vec<(&'a [u8], Record)>> {
        let mut found = Vec::new();
        for (i, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
            let whole = line.strip_suffix(b"\n");
            match (serde_json::from_slice(whole.unwrap_or(line)), whole) {
                (Ok(record), _) => found.push((whole.unwrap_or(line), record)),
                (Err(_), None) => {} // only the last line can lack its end: its write was interrupted
                (Err(_), Some(blank)) if blank.trim_ascii().is_empty() => {}
                (Err(e), Some(_)) => {
                    let problem =
                        format!("line {} is not a record of metrics ({}): remove that line, or move the file away", i + 1, brief(e));
                    return Err(Error::file(path, problem));
                }
            }
        }
        Ok(found)
    }
}

#[cfg(all(test, feature = "files"))]
mod tests {
    use std::fs;

    use super::*;

    fn record(step: u64) -> Record {
        let val_loss = step.is_multiple_of(2).then_some(2.5);
        let (loss, loss_scale) = (Some(1.0 / (step as f64 + 3.0)), step.is_multiple_of(3).then_some(2048.0));
        Record { step, loss, val_loss, lr: 1e-3, grad_norm: 0.7, loss_scale, tokens_per_second: 1e6, ms: 12.5 }
    }

    #[test]
    fn a_record_of_a_report_has_no_validation() {
        let report = StepReport { step: 13, loss: 0.5, grad_norm: 2.0, loss_scale: 1.0, learning_rate: 1e-3, missed: 0 };
        let record = Record::of(&report, StorageDtype::F32, 64, 1000.0);
        assert_eq!((record.step, record.loss, record.val_loss, record.lr, record.tokens_per_second), (13, Some(0.5), None, 1e-3, 64.0));
        assert_eq!(record.loss_scale, None);
        assert_eq!(Record::of(&report, StorageDtype::F16, 64, 1000.0).loss_scale, Some(1.0));
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
            // Only the line's end is missing: the record is complete.
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

    #[test]
    fn a_file_that_was_removed_or_replaced_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("metrics.jsonl"), dir.path().join("other.jsonl"));
        let mut file = MetricsFile::open(&path).unwrap();
        (1..4).for_each(|step| file.append(&record(step)).unwrap());
        if cfg!(unix) {
            fs::remove_file(&path).unwrap();
            file.append(&record(4)).unwrap();
            assert_eq!(read(&path).unwrap(), [1, 2, 3, 4].map(record), "with what it had");
            // An editor saves a file by renaming another one over it.
            fs::write(&other, fs::read(&path).unwrap()).unwrap();
            fs::rename(&other, &path).unwrap();
            file.append(&record(5)).unwrap();
            assert_eq!(read(&path).unwrap(), [1, 2, 3, 4, 5].map(record));
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            assert!(file.append(&record(6)).is_err() && file.append(&record(7)).is_err() && file.is_behind());
            fs::remove_dir(&path).unwrap();
            file.flush().unwrap();
            assert_eq!(read(&path).unwrap(), [1, 2, 3, 4, 5, 6, 7].map(record));
        }
        let (before, mut file) = (read(&path).unwrap(), file);
        file.move_to(&other).unwrap();
        file.append(&record(8)).unwrap();
        assert_eq!(read(&other).unwrap(), [before.clone(), vec![record(8)]].concat());
        assert_eq!(read(&path).unwrap(), before, "the old file stays");
        let amended = Record { val_loss: Some(9.0), ..record(8) };
        if cfg!(unix) {
            // It cannot be written now, and is written with the next record.
            fs::rename(&other, dir.path().join("away")).unwrap();
            fs::create_dir(&other).unwrap();
            assert!(file.amend(&amended).is_err() && file.is_behind());
            fs::remove_dir(&other).unwrap();
            fs::rename(dir.path().join("away"), &other).unwrap();
        }
        file.amend(&amended).unwrap();
        file.append(&record(9)).unwrap();
        assert_eq!(read(&other).unwrap(), [before, vec![amended, record(9)]].concat());
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
