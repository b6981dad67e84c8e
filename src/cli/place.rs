//! Places that a command is asked to write to.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files;

/// Said before the work rather than after it: a file that cannot be written, or is there and nobody asked to replace it. `other` says
/// how to name another.
///
/// # Errors
/// [`Error::File`].
pub fn check(path: &Path, other: &str, overwrite: bool) -> Result<()> {
    files::check_place(path)?;
    if path.exists() && !overwrite {
        return Err(Error::file(path, format!("is there already: replace it with --overwrite, or name {other}")));
    }
    Ok(())
}
