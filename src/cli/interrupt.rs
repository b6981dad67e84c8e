//! Ctrl-C: the first one asks a command to stop and keep what it has, the second one ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use super::output::Output;
use crate::error::{Error, Result};

/// The notice of a training run.
pub const SAVING: &str = "\nstopping and saving; Ctrl-C again exits at once and keeps only earlier checkpoints";

/// A static: signal handlers have no other place to write to.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C sets [`requested`] instead of ending the program, and prints `said`.
///
/// # Errors
/// [`Error::Device`] when the system refuses the handler.
pub fn listen(quiet: bool, said: &'static str) -> Result<()> {
    let handler = move || {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        // The handler runs on a thread of its own, so it may print.
        Output::new(false, quiet).notice(said);
    };
    ctrlc::set_handler(handler).map_err(|e| Error::Device(format!("the Ctrl-C handler cannot be installed: {e}")))
}

/// Whether Ctrl-C was pressed since [`listen`].
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
