//! Output that cannot be written, long values in errors, and files that may not grow.

use std::fs;
use std::process::Stdio;

use crate::support::{Done, Folder, small, text};

/// Every command, in a form that is quick.
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
        // `wgpt help --json` looks for a command of that name.
        for more in [&[][..], &["--json"]].iter().filter(|more| more.is_empty() || args[0] != "help") {
            let args = [*args, *more].concat();
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let done = Done::from(folder.command(&args).stdout(full).output().unwrap());
            assert!(done.code == 1 && done.stderr.contains("error: stdout: cannot be written: No space left"), "{args:?}: {done:?}");
        }
    }
}

/// As in `wgpt devices | head -0`: the reader wants no more.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder("closed_stdout");
    for args in COMMANDS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = Done::from(folder.command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap());
        // A training run without a reader is stopped and saved.
        let stopped = args[0] == "train" && done.code == 130;
        assert!((done.code == 0 || stopped) && !done.stderr.contains("error: "), "{args:?}: {done:?}");
    }
}

#[test]
fn long_values_are_not_repeated_whole() {
    let folder = folder("long_values");
    // The longest argument that Linux accepts, and a file, which has no such limit.
    let (long, file) = ("x".repeat(100_000), "x".repeat(1 << 20));
    let refused = |args: &[&str]| {
        let done = folder.run(args);
        let args: Vec<String> = args.iter().map(|arg| arg.chars().take(40).collect()).collect();
        assert!(done.code == 1 || done.code == 2, "{args:?}: {} {}", done.code, done.stderr.len());
        assert!(done.stderr.len() < 1000 && done.stderr.contains('…'), "{args:?}: {} bytes of stderr", done.stderr.len());
    };
    let option = |before: &str| format!("{before}{long}");
    for set in ["train.steps=", "train.", "", "tokenizer.kind=", "train.optimizer=", "model.bias="] {
        refused(&["train", "--set", &option(set)]);
    }
    for flag in ["steps", "preset", "data", "out", "config", "init", "backend"] {
        refused(&["train", &option(&format!("--{flag}="))]);
        refused(&["train", &format!("--{flag}"), &long]);
    }
    for flag in ["adapter", "variant", "tuning"] {
        refused(&["train", "--preset=toy", "--next-free", &option(&format!("--{flag}="))]);
    }
    refused(&["train", "--resume", "--out", &long]);
    refused(&["predict", "--ids", &long]);
    refused(&["predict", "--run", &long, "hello"]);
    refused(&["shaders", &long]);
    refused(&["tune", "--preset=toy", "--kernel", &long]);
    refused(&[&option("--")]);
    refused(&[&long]);
    for content in
        [format!("steps = \"{file}\""), format!("{file} = 1"), format!("seed = {}", "9".repeat(1 << 20)), format!("optimizer = '{file}'")]
    {
        folder.write("long.toml", format!("[train]\n{content}\n"));
        refused(&["train", "--config", "long.toml"]);
    }
    for content in [format!(r#"{{"type": "{file}"}}"#), format!(r#"{{"type": "wgpt-word", "tokens": "{file}"}}"#)] {
        folder.write("long.json", content);
        refused(&["tokenizer", "encode", "--tokenizer=long.json", "hello"]);
    }
    // A text that begins with a hyphen, and one that is only unknown.
    let hint = folder.run(&["generate", "--prompt", &option("- ")]);
    assert!(hint.code == 2 && hint.stderr.contains("--prompt=TEXT") && hint.stderr.len() < 1000, "{}", hint.stderr.len());
    let unknown = folder.run(&["predict", &long]);
    assert!(unknown.code == 0 && unknown.stderr.contains("xxx…\"") && unknown.stderr.len() < 1000, "{}", unknown.stderr.len());
    // Characters that a terminal, or a reader of lines, would interpret.
    folder.refused(2, &["train", "--steps", "a\x1b[2Jb\nc"], &[r"'a\u{1b}[2Jb\nc'"]);
    folder.refused(2, &["train", "--set", "train.steps=a\tb"], &[r"train.steps = a\tb: "]);
}

/// `ulimit -f`: without precautions the system's signal would end the process in the middle of a save. The limit is set while the run is in
/// progress, since some drivers keep their memory in a file.
#[cfg(target_os = "linux")]
#[test]
fn files_that_may_not_grow_are_like_a_full_disk() {
    let folder = Folder::new("file_limit");
    folder.write("text.txt", text());
    let args = small(&["--out=run", "--steps=100000000", "--json", "--set=train.checkpoint_every=0", "--set=train.eval_every=0"]);
    let mut child = folder.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert!(line.contains("\"loss\""), "{line}");
    let id = child.id().to_string();
    let sent = |program: &str, args: &[&str]| assert!(std::process::Command::new(program).args(args).status().unwrap().success());
    sent("prlimit", &["--fsize=4096", "--pid", &id]);
    sent("kill", &["-INT", &id]);
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    let done = Done::from(child.wait_with_output().unwrap());
    assert!(done.code == 1 && done.stderr.contains("cannot be saved") && done.stderr.contains("File too large"), "{done:?}");
    assert_eq!(folder.read("run/checkpoints/latest").trim(), "step-0");
    folder.ok(&["predict", "the", "--run=run", "--quiet"]);
    folder.ok(&["train", "--out=run", "--resume", "--steps=5", "--quiet"]);
    assert_eq!(folder.read("run/checkpoints/latest").trim(), "step-5");

    // The same for a result that is redirected to a file.
    let script = "ulimit -f 1; exec \"$0\" --help >out.txt";
    let output = std::process::Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_wgpt")]).current_dir(&folder.0).output();
    let done = Done::from(output.unwrap());
    assert!(done.code == 1 && done.stderr.contains("stdout: cannot be written: File too large"), "{done:?}");
}
