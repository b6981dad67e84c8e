//! Saving: the weights are read over several frames while training pauses; a thread writes them as a run that `wgpt train --resume` reads.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wgpt::low_level::gpu::wait;
use wgpt::low_level::train::RunFiles;
use wgpt::low_level::train::folder::RunFolder;
use wgpt::low_level::train::metrics::Record;
use wgpt::phases::{NORM, UPDATE};
use wgpt::{Gpu, Result, Snapshot};

use crate::open::Opened;

/// The default folder of runs, as in `wgpt train`.
pub const RUNS: &str = "runs";

/// Saves one opened run or preset.
pub struct Saver {
    /// The folder of the first save, if it is free; else the first free of `out-2`, `out-3`, ...
    out: PathBuf,
    /// Locked since the first save.
    folder: Option<RunFolder>,
    stage: Stage,
    /// The last saved step; before the first save, the step at which training was opened.
    saved: u64,
    /// The result of the last save: the step and the run's folder.
    pub last: Option<Result<(u64, PathBuf), String>>,
    /// When the last save ended.
    pub ended: Instant,
}

enum Stage {
    Resting,
    /// Waits until no update has begun, so that weights and moments match, and all reports have arrived.
    Asked,
    Reading(Pin<Box<dyn Future<Output = Result<Snapshot>>>>),
    Writing(JoinHandle<Written>),
}

/// The thread's result: the step, and the folder unless it holds no checkpoint.
struct Written {
    folder: Option<RunFolder>,
    step: u64,
    saved: Result<()>,
}

impl Saver {
    /// Saves into `out`, or by default into a folder named after the text or preset; a run is saved beside itself and never overwritten.
    pub fn new(what: &Path, opened: &Opened, out: Option<&Path>) -> Saver {
        let own = if opened.is_run { what.to_path_buf() } else { Path::new(RUNS).join(&opened.name) };
        let out = out.map_or(own, Path::to_path_buf);
        Saver { out, folder: None, stage: Stage::Resting, saved: opened.trainer.step_count(), last: None, ended: Instant::now() }
    }

    /// Requests a save; does nothing while one is in progress.
    pub fn ask(&mut self) {
        if self.is_resting() {
            (self.stage, self.last) = (Stage::Asked, None);
        }
    }

    pub fn is_resting(&self) -> bool {
        matches!(self.stage, Stage::Resting)
    }

    pub fn is_writing(&self) -> bool {
        matches!(self.stage, Stage::Writing(_))
    }

    /// Whether no step may begin, because the weights will be read or are being read.
    pub fn holds(&self) -> bool {
        matches!(self.stage, Stage::Asked | Stage::Reading(_))
    }

    /// Number of steps since the last save.
    pub fn unsaved(&self, opened: &Opened) -> u64 {
        opened.trainer.step_count().saturating_sub(self.saved)
    }

    /// Continues a save for at most `budget`; `known` is the last step with a report, and `history` holds the reports up to it.
    ///
    /// # Errors
    /// Those of the device. If writing fails, the error is in `last`.
    pub fn poll(&mut self, gpu: &Gpu, opened: &Opened, (known, history): (u64, &[Record]), budget: Duration) -> Result<()> {
        if matches!(self.stage, Stage::Asked)
            && known == opened.trainer.step_count()
            && !matches!(opened.trainer.next_phase(), Some(NORM | UPDATE))
        {
            let trainer = Rc::clone(&opened.trainer);
            self.stage = Stage::Reading(Box::pin(async move { trainer.snapshot().await }));
        }
        if let Stage::Reading(reading) = &mut self.stage
            && let Some(snapshot) = ready_within(gpu, reading.as_mut(), budget)?
        {
            self.stage = Stage::Resting;
            self.write(opened, snapshot?, history)?;
        }
        self.take_written();
        Ok(())
    }

    fn write(&mut self, opened: &Opened, snapshot: Snapshot, history: &[Record]) -> Result<()> {
        let files = RunFiles::of(&opened.trainer, &snapshot, &opened.tokenizer, &opened.corpus)?;
        let (folder, out, history) = (self.folder.take(), self.out.clone(), history.to_vec());
        let write = move || write(folder, &out, &files, &snapshot, &history);
        match std::thread::Builder::new().name("save".into()).spawn(write) {
            Ok(thread) => self.stage = Stage::Writing(thread),
            Err(e) => self.last = Some(Err(format!("nothing is saved: no thread can be started for it ({e})"))),
        }
        Ok(())
    }

    /// Takes the result of the thread if it has ended; also called after training has failed.
    pub fn take_written(&mut self) {
        if !matches!(&self.stage, Stage::Writing(thread) if thread.is_finished()) {
            return;
        }
        self.ended = Instant::now();
        let Stage::Writing(thread) = std::mem::replace(&mut self.stage, Stage::Resting) else { return };
        let Ok(Written { folder, step, saved }) = thread.join() else {
            self.last = Some(Err("nothing is saved: the thread that writes has panicked".into()));
            return;
        };
        let path = folder.as_ref().map_or_else(|| self.out.clone(), |folder| folder.path().to_path_buf());
        self.folder = folder;
        self.last = Some(match saved {
            Ok(()) => {
                self.saved = self.saved.max(step);
                Ok((step, path))
            }
            Err(error) => Err(format!("step {step} is not saved: {error}")),
        });
    }
}

/// Writes into the folder of the earlier saves. Claims another if there is none or it was moved or removed.
fn write(folder: Option<RunFolder>, out: &Path, files: &RunFiles, snapshot: &Snapshot, history: &[Record]) -> Written {
    let step = snapshot.step;
    let kept = folder.filter(RunFolder::is_there);
    let mut folder = match kept.map_or_else(|| RunFolder::claim_next(out), Ok) {
        Ok(folder) => folder,
        Err(error) => return Written { folder: None, step, saved: Err(error) },
    };
    let saved = files.write(&mut folder, snapshot, Some(history)).map(drop);
    // A folder without a checkpoint is released, and the next save chooses its folder again.
    let has_checkpoint = wgpt::low_level::train::checkpoint::any(folder.path());
    Written { folder: has_checkpoint.then_some(folder), step, saved }
}

/// Polls a future that waits for the device, for at most `budget`: each of its many small reads takes less than a frame.
fn ready_within<T>(
    gpu: &Gpu,
    mut future: Pin<&mut (impl Future<Output = Result<T>> + ?Sized)>,
    budget: Duration,
) -> Result<Option<Result<T>>> {
    let begun = Instant::now();
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Ok(Some(result));
        }
        wait::look(gpu)?;
        if begun.elapsed() >= budget {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use wgpt::Request;
    use wgpt::low_level::train::metrics;
    use wgpt::low_level::train::metrics::METRICS;

    use super::*;

    const FRAME: Duration = Duration::from_millis(5);

    fn train(opened: &mut Opened, steps: u64) -> Vec<Record> {
        let trainer = Rc::get_mut(&mut opened.trainer).unwrap();
        (0..steps).for_each(|_| assert!(trainer.step(&opened.corpus.train, false, &|| false).unwrap()));
        let reports = trainer.finish().unwrap();
        reports.iter().map(|report| Record { step: report.step, loss: Some(f64::from(report.loss)), ..Record::default() }).collect()
    }

    /// Saves, in as many frames as that takes.
    fn save(gpu: &Gpu, saver: &mut Saver, opened: &Opened, history: &[Record]) -> Result<(u64, PathBuf), String> {
        saver.ask();
        while !saver.is_resting() {
            saver.poll(gpu, opened, (opened.trainer.step_count(), history), FRAME).unwrap();
        }
        saver.last.clone().unwrap()
    }

    #[test]
    fn a_save_holds_training_and_takes_a_place_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (gpu, out) = (pollster::block_on(Gpu::request(&Request::default())).unwrap(), folder.path().join("run"));
        let mut opened = crate::open::open(&gpu, "toy".as_ref()).unwrap();
        // A folder with someone's files must not be used.
        fs::create_dir(&out).unwrap();
        fs::write(out.join("letter.txt"), "mine").unwrap();
        let mut saver = Saver::new("toy".as_ref(), &opened, Some(&out));
        assert_eq!((saver.unsaved(&opened), saver.holds()), (0, false));
        let mut history = train(&mut opened, 3);
        assert_eq!(saver.unsaved(&opened), 3);

        // The save waits for the reports of all steps, then holds the only reference to the trainer.
        saver.ask();
        saver.poll(&gpu, &opened, (2, &history[..2]), FRAME).unwrap();
        assert!(saver.holds() && opened.trainer_mut().is_some());
        saver.poll(&gpu, &opened, (3, &history), Duration::ZERO).unwrap();
        assert!(saver.holds() && opened.trainer_mut().is_none());
        let beside = folder.path().join("run-2");
        assert_eq!(save(&gpu, &mut saver, &opened, &history).unwrap(), (3, beside.clone()));
        assert!(opened.trainer_mut().is_some() && saver.unsaved(&opened) == 0 && !saver.holds());
        assert_eq!(metrics::read(&beside.join(METRICS)).unwrap(), history);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "somebody else's folder was touched");

        // The next save goes to the same folder, which is locked against others; or to another if it is gone.
        history.extend(train(&mut opened, 2));
        assert_eq!(save(&gpu, &mut saver, &opened, &history).unwrap(), (5, beside.clone()));
        assert!(beside.join("checkpoints/step-3").is_dir() && beside.join("checkpoints/step-5").is_dir());
        assert!(RunFolder::claim(&beside, wgpt::low_level::train::folder::Start::Resume).unwrap_err().to_string().contains("is in use"));
        fs::rename(&beside, folder.path().join("moved")).unwrap();
        history.extend(train(&mut opened, 1));
        assert_eq!(save(&gpu, &mut saver, &opened, &history).unwrap(), (6, beside.clone()));
        assert_eq!(metrics::read(&beside.join(METRICS)).unwrap(), history);

        // A run opened from it has the history, and is saved beside it.
        drop(saver);
        let again = crate::open::open(&gpu, &beside).unwrap();
        assert!(again.is_run && again.trainer.step_count() == 6 && again.history == history);
        assert_eq!(Saver::new(&beside, &again, None).out, beside);
    }

    #[test]
    fn what_cannot_be_saved_is_said_and_can_be_saved_later() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = pollster::block_on(Gpu::request(&Request::default())).unwrap();
        let mut opened = crate::open::open(&gpu, "toy".as_ref()).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let mut saver = Saver::new("toy".as_ref(), &opened, Some(&file.join("run")));
        let history = train(&mut opened, 1);
        let problem = save(&gpu, &mut saver, &opened, &history).unwrap_err();
        assert!(problem.starts_with("step 1 is not saved: ") && problem.contains("is a file, not a folder"), "{problem}");
        assert_eq!(saver.unsaved(&opened), 1);
        fs::remove_file(&file).unwrap();
        assert_eq!(save(&gpu, &mut saver, &opened, &history).unwrap(), (1, file.join("run")));
        assert_eq!(saver.unsaved(&opened), 0);
    }
}
