//! A run whose device is lost or out of memory: it continues on another device, or ends with its last snapshot saved.

use std::time::Duration;

use super::{Event, Run};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::wait::block_on;
use crate::train::trainer::Trainer;

/// Opens devices for a run, a limited number of times.
pub struct Reopening<'a> {
    open: Option<&'a mut dyn FnMut() -> Result<Gpu>>,
    made: u64,
    most: u64,
}

/// A driver that was reset needs some time before it can open its adapter again.
const RESET: Duration = Duration::from_secs(1);

/// Whether another device may help.
pub(super) fn is_of_device(error: &Error) -> bool {
    matches!(error, Error::DeviceLost(_) | Error::OutOfMemory(_))
}

impl<'a> Reopening<'a> {
    /// Calls `open` at most `most` times.
    pub fn new(open: &'a mut dyn FnMut() -> Result<Gpu>, most: u64) -> Reopening<'a> {
        Reopening { open: Some(open), made: 0, most }
    }

    /// A lost device ends the run.
    pub fn never() -> Reopening<'static> {
        Reopening { open: None, made: 0, most: 0 }
    }

    /// `recovery 1 of 3`.
    pub(super) fn count(&self) -> String {
        format!("recovery {} of {}", self.made, self.most)
    }

    /// Another device after this error.
    ///
    /// # Errors
    /// The error itself if another device cannot help, or none may be opened any more; [`Error::DeviceLost`] if none can be opened.
    pub(super) fn open(&mut self, error: Error) -> Result<Gpu> {
        let Some(open) = self.open.as_mut().filter(|_| is_of_device(&error)) else { return Err(error) };
        let mut failed = None;
        while self.made < self.most {
            self.made += 1;
            match open() {
                Ok(gpu) => return Ok(gpu),
                Err(why) => failed = Some(why),
            }
            if self.made < self.most {
                std::thread::sleep(RESET);
            }
        }
        Err(match failed {
            Some(why) => Error::DeviceLost(format!("{error}, and the adapter cannot be opened again ({why})")),
            None => error,
        })
    }

    /// Moves a trainer to another device.
    ///
    /// # Errors
    /// As [`Reopening::open`].
    pub(super) fn recover(&mut self, trainer: &mut Trainer, mut error: Error) -> Result<()> {
        loop {
            let gpu = self.open(error)?;
            match block_on(&gpu, trainer.recover(&gpu)) {
                Ok(()) => return Ok(()),
                Err(why) => error = why,
            }
        }
    }
}

impl Run {
    /// Continues on another device, or saves the snapshot and returns the error to end the run with.
    pub(super) fn recover(&mut self, error: Error, again: &mut Reopening, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let problem = error.to_string();
        if let Err(last) = again.recover(&mut self.trainer, error) {
            return Err(self.give_up(last, again, observe));
        }
        let (step, limit) = (self.trainer.step_count(), self.trainer.session.guest.runner.limit().as_millis());
        let count = again.count();
        observe(Event::Trouble {
            problem: format!("{problem}; the run continues from step {step}: {count}, submits of {limit} ms at most"),
        });
        Ok(())
    }

    fn give_up(&mut self, error: Error, again: &Reopening, observe: &mut dyn FnMut(Event)) -> Error {
        self.trainer.report_kept();
        // A step that diverged ends its reports; the device's error takes precedence.
        let reports = self.trainer.reports.good().unwrap_or_default();
        let logged = self.take(reports, observe).and_then(|()| self.metrics.flush());
        if let Err(why) = logged.or_else(|why| self.rescue_metrics(why)) {
            observe(Event::Trouble { problem: why.to_string() });
        }
        let saved = match self.save_kept() {
            Ok(saved) => saved,
            Err(why) => why.to_string(),
        };
        let tried = if again.most > 0 { format!(" after {}", again.count()) } else { String::new() };
        match error {
            Error::OutOfMemory(problem) => Error::OutOfMemory(format!("{problem}{tried}; {saved}")),
            lost => Error::DeviceLost(format!("{lost}{tried}; {saved}")),
        }
    }
}
