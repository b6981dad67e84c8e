//! Checks of paths that a command is asked to write to.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files;

/// Refuses to write to a file that the same command reads or writes as `other`. `what` describes that file.
///
/// # Errors
/// [`Error::File`].
pub fn apart(path: &Path, other: &Path, what: &str) -> Result<()> {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
    let same = whole(path).is_some_and(|path| whole(other) == Some(path));
    if same { Err(Error::file(path, format!("is {what}: name another file"))) } else { Ok(()) }
}

/// Refuses a file that cannot be written, or that exists while `overwrite` is not set. Called before the work rather than after it. `other`
/// says how to name another file.
///
/// # Errors
/// [`Error::File`].
pub fn check(path: &Path, other: &str, overwrite: bool) -> Result<()> {
    files::check_place(path)?;
    if path.exists() && !overwrite {
        return Err(Error::file(path, format!("already exists: replace it with --overwrite, or name {other}")));
    }
    Ok(())
}
