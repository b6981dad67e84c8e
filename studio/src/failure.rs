//! The first error of the program, reported when it ends.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An error's message and exit code: 2 for a usage error, 1 for any other, as `wgpt` has them. Clones share one error.
#[derive(Debug, Clone, Default)]
pub struct Failure(Arc<Mutex<Option<(String, u8)>>>);

impl Failure {
    fn lock(&self) -> MutexGuard<'_, Option<(String, u8)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an error, unless there was one before.
    pub fn set(&self, message: impl Into<String>) {
        self.lock().get_or_insert_with(|| (message.into(), 1));
    }

    /// As [`Failure::set`], for an error of the engine.
    pub fn set_error(&self, error: &wgpt::Error) {
        let code = if matches!(error, wgpt::Error::Usage(_)) { 2 } else { 1 };
        self.lock().get_or_insert_with(|| (error.to_string(), code));
    }

    pub fn clear(&self) {
        *self.lock() = None;
    }

    /// Whether there is an error; also inside a panic hook, which may run while another thread holds the lock.
    pub fn is_set(&self) -> bool {
        self.0.try_lock().map_or(true, |error| error.is_some())
    }

    /// Prints the error, if there is one, and returns the program's exit code.
    pub fn report(&self) -> ExitCode {
        match self.lock().take() {
            None => ExitCode::SUCCESS,
            Some((message, code)) => {
                // A closed stderr is no error.
                let _ = writeln!(std::io::stderr(), "error: {message}");
                ExitCode::from(code)
            }
        }
    }
}
