//! The only module that writes files: it replaces a file or folder as a whole and durably, or leaves it unchanged.
//!
//! | part | what it gives |
//! |---|---|
//! | [`write`](fn@write), [`Replacement`] | a file that is written beside its place, synced, and renamed over it |
//! | [`disk`] | every primitive operation that changes a file; in debug builds each can be made to fail or to abort the process |
//! | [`NewFolder`], [`remove_made`], [`remove_unfinished`] | a folder of files with a manifest, whole or absent; removed only if unchanged |
//! | [`Manifest`] | which files a folder has, with their lengths and checksums |
//! | [`Marker`] | marks a folder as made by this program, with a unique id |
//! | [`Lock`] | one process at a time, released by the system when the process dies |
//! | [`open`], [`read()`], [`read_to_string`] | only regular files are opened: opening a pipe would block |
//! | [`struct@Hash`] | the checksum of bytes, of a file or of a writer's output (XXH3, 128 bits) |
//!
//! Apart from tests, no other code of this crate calls the functions of `std::fs` that change files.

pub mod disk;
mod fault;
mod folder;
mod hash;
mod lock;
mod manifest;
mod marker;
mod read;
mod replace;

pub use folder::{NewFolder, remove_made, remove_unfinished};
pub use hash::{Hash, Hasher};
pub(crate) use lock::FOLDER_GONE;
pub use lock::{Holder, Lock, lock};
pub use manifest::{Entry, MANIFEST, Manifest};
pub use marker::{MARKER, Marker};
pub use read::{is_at, open, read, read_to_string};
pub use replace::{Replacement, check_place, write, write_by_path};

use std::path::Path;

/// The parent folder of a file: `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
