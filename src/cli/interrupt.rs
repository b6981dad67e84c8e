//! Ctrl-C: the first asks a command to stop and keep what it has, the second ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use super::output::Output;
use crate::error::{Error, Result};

/// What a run says.
pub const SAVING: &str = "\nstopping and saving; Ctrl-C again ends at once, with what was saved before";

/// Signal handlers have nowhere else to write to.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C sets [`requested`] instead of ending the program, and says what comes of that.
///
/// # Errors
/// [`Error::Device`] when the system refuses the handler.
pub fn listen(quiet: bool, said: &'static str) -> Result<()> {
    let handler = move || {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        // On a thread of its own: it may print.
        Output::new(false, quiet).notice(said);
    };
    ctrlc::set_handler(handler).map_err(|e| Error::Device(format!("Ctrl-C cannot be listened for: {e}")))
}

/// Whether Ctrl-C was pressed since [`listen`].
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
