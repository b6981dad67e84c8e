//! Output that cannot be written.

use std::fs;
use std::process::Stdio;

use crate::support::{Done, Folder};

/// Every command, quick ones of it.
const COMMANDS: &[&[&str]] = &[
    &["--help"],
    &["help", "train"],
    &["--version"],
    &["train", "--help"],
    &["tokenizer", "encode", "--help"],
    &["devices"],
    &["predict", "hello world"],
    &["generate", "--prompt", "hello", "--tokens", "3"],
    &["eval", "--data", "text.txt"],
    &["tokenizer", "train", "--size=260", "--out=bpe.json", "--overwrite", "text.txt"],
    &["tokenizer", "encode", "hello world"],
    &["tokenizer", "decode", "0,1"],
    &["shaders", "loss"],
    &["shaders", "loss", "--target=wgsl", "--out=wgsl", "--overwrite"],
    &["tune", "--preset=toy", "--kernel=gradient_norm", "--rounds=1", "--out=toy.toml"],
    &["profile", "--preset=toy", "--steps=1"],
    &["train", "--preset=toy", "--steps=1", "--next-free"],
];

fn folder(name: &str) -> Folder {
    let folder = Folder::with_toy(name);
    folder.write("text.txt", "hello world how are you\nhello world how are you\n");
    folder
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_are_an_error() {
    let folder = folder("full_stdout");
    for args in COMMANDS {
        // `wgpt help --json` asks for a command of that name.
        for more in [&[][..], &["--json"]].iter().filter(|more| more.is_empty() || args[0] != "help") {
            let args = [*args, *more].concat();
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let done = Done::from(folder.command(&args).stdout(full).output().unwrap());
            assert!(done.code == 1 && done.stderr.contains("error: stdout: cannot be written: No space left"), "{args:?}: {done:?}");
        }
    }
}

/// As in `wgpt devices | head -0`: nobody has asked for more.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder("closed_stdout");
    for args in COMMANDS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = Done::from(folder.command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap());
        // A run that nobody listens to is stopped and saved.
        let stopped = args[0] == "train" && done.code == 130;
        assert!((done.code == 0 || stopped) && !done.stderr.contains("error: "), "{args:?}: {done:?}");
    }
}
