//! Places that a command is asked to write to.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files;

/// Refuses to write to a file that the same command reads or writes as `other`, which is `what`.
///
/// # Errors
/// [`Error::File`].
pub fn apart(path: &Path, other: &Path, what: &str) -> Result<()> {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
    let same = whole(path).is_some_and(|path| whole(other) == Some(path));
    if same { Err(Error::file(path, format!("is {what}: name another file"))) } else { Ok(()) }
}

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
