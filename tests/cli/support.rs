//! A folder for each test, the binary run in it, and its output.

#![allow(dead_code)] // each test crate uses some of it

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A folder for one test, empty at its start.
pub struct Folder(pub PathBuf);

/// The result of a command.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    /// Without the lines that drivers print.
    pub stderr: String,
}

impl Folder {
    pub fn new(test: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A folder with a copy of the toy run in `runs/toy`.
    pub fn with_toy(test: &str) -> Folder {
        let folder = Folder::new(test);
        copy(&toy_run().join("runs"), &folder.path("runs"));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wgpt"));
        // These tests must not read the user's tunings, nor write compiled pipelines into the user's cache.
        command.current_dir(&self.0).args(args).env("WGPT_CACHE", self.path("cache"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed. Returns its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
        done.stdout
    }

    /// The stdout of a command that must succeed, as JSON.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let stdout = self.ok(args);
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {stdout}"))
    }

    /// Runs a command that must fail with this code, print one line on stderr that contains all of `words`, and write or change nothing.
    pub fn refused(&self, code: i32, args: &[&str], words: &[&str]) {
        let before = self.files();
        let done = self.run(args);
        done.assert_refused(code, args, words);
        assert_eq!(before, self.files(), "{args:?} left something behind");
    }

    /// Every file and folder, with the files' contents.
    pub fn files(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                    found.insert(path, None);
                } else {
                    let content = fs::read(&path).unwrap();
                    found.insert(path, Some(content));
                }
            }
        }
        found
    }
}

impl Done {
    pub fn assert_refused(&self, code: i32, args: &[&str], words: &[&str]) {
        assert_eq!(self.code, code, "{args:?}: {self:?}");
        assert_eq!(self.stdout, "", "{args:?}: {self:?}");
        assert!(self.stderr.starts_with("error: ") && self.stderr.trim_end().lines().count() == 1, "{args:?}: {self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{args:?} does not say `{word}`: {}", self.stderr);
        }
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(!stderr.contains("panicked"), "{stderr}");
        let drivers = ["WARNING: ", "MESA", "libEGL", "error: XDG_RUNTIME_DIR"];
        let ours = stderr.lines().filter(|line| !drivers.iter().any(|driver| line.starts_with(driver)));
        Done { code: output.status.code().unwrap_or(-1), stdout, stderr: ours.map(|line| format!("{line}\n")).collect() }
    }
}

/// The folder in which `train --preset toy` ran once for all tests.
pub fn toy_run() -> &'static Path {
    static TOY: OnceLock<Folder> = OnceLock::new();
    let train = || {
        let folder = Folder::new("toy_run");
        let stdout = folder.ok(&["train", "--preset", "toy"]);
        fs::write(folder.path("stdout"), stdout).unwrap();
        folder
    };
    &TOY.get_or_init(train).0
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A text of some thousand characters with a pattern that can be learned.
pub fn text() -> String {
    let words = ["sun", "moon", "star", "sea", "wind"];
    let line = |i: usize| format!("the {} sees the {} and the {} sleeps.\n", words[i % 5], words[(i * i + 1) % 5], words[i * 3 % 5]);
    (0..100).map(line).collect()
}

/// Arguments of a small run on `text.txt`, with a validation split.
pub const SMALL: &[&str] = &[
    "train",
    "--preset=shakespeare-char",
    "--data=text.txt",
    "--set=model.n_layer=1",
    "--set=model.n_head=2",
    "--set=model.d_model=16",
    "--set=model.seq_len=16",
    "--set=train.batch_size=4",
    "--set=train.warmup_steps=0",
    "--set=train.eval_every=10",
    "--set=train.log_every=5",
    "--quiet",
];

/// [`SMALL`] with more arguments.
pub fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [SMALL, more].concat()
}
