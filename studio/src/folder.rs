//! What a folder has to open: runs, texts, and folders to look into.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wgpt::low_level::train::checkpoint;

/// Endings of the files that are listed; a text of any other name is opened by its path.
const TEXTS: [&str; 3] = ["txt", "text", "md"];

/// What is at a path; in the order in which a list shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Folder,
    Run,
    /// A text of this many bytes.
    Text(u64),
}

/// The visible folders, runs and texts in a folder, by kind, then by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> std::io::Result<Vec<(Kind, PathBuf)>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // Follows links; one that leads nowhere is left out.
        let Some(about) = path.metadata().ok().filter(|_| !hidden) else { continue };
        let is_text = path.extension().is_some_and(|end| TEXTS.iter().any(|text| end.eq_ignore_ascii_case(text)));
        let kind = match about.is_dir() {
            true if checkpoint::any(&path) => Kind::Run,
            true => Kind::Folder,
            false if is_text => Kind::Text(about.len()),
            false => continue,
        };
        found.push((kind, path));
    }
    let order = |(kind, path): &(Kind, PathBuf)| {
        (if let Kind::Text(_) = kind { Kind::Text(0) } else { *kind }, path.file_name().unwrap_or_default().to_ascii_lowercase())
    };
    found.sort_by_cached_key(order);
    Ok(found)
}

/// The runs in a folder with the steps of their latest checkpoints, newest checkpoint first.
pub fn runs(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(SystemTime, PathBuf, u64)> = entries
        .filter_map(|run| {
            let latest = checkpoint::find(&run, checkpoint::Which::Latest).ok()?;
            let saved = std::fs::metadata(latest.path()).and_then(|found| found.modified()).ok()?;
            Some((saved, run, checkpoint::read_meta(&latest.verify(false)).ok()?.step))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().rev().map(|(_, run, step)| (run, step)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_no_run_is_not_offered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(runs(&folder.path().join("none")), []);
        fs::create_dir_all(folder.path().join("begun/checkpoints")).unwrap();
        fs::create_dir_all(folder.path().join("damaged/checkpoints/step-3")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(runs(folder.path()), []);
    }

    #[test]
    fn a_folder_lists_folders_runs_and_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for run in ["b/checkpoints/step-3", "empty", "Also", ".hidden"] {
            fs::create_dir_all(path(run)).unwrap();
        }
        for text in ["z.txt", "A.TXT", "notes.md", ".hidden.txt", "picture.png", "noend"] {
            fs::write(path(text), "four").unwrap();
        }
        let listed = list(folder.path()).unwrap();
        let names: Vec<(Kind, &str)> = listed.iter().map(|(kind, path)| (*kind, path.file_name().unwrap().to_str().unwrap())).collect();
        let text = Kind::Text(4);
        let expected =
            [(Kind::Folder, "Also"), (Kind::Folder, "empty"), (Kind::Run, "b"), (text, "A.TXT"), (text, "notes.md"), (text, "z.txt")];
        assert_eq!(names, expected);
        assert!(list(&path("none")).is_err() && list(&path("z.txt")).is_err());
    }
}
