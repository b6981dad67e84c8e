//! What may distort a user's input: shells, terminals, hyphens, large numbers, files that are not text.

use std::process::Stdio;

use crate::support::{Done, Folder, small, text};

#[test]
fn printed_commands_work_as_they_are() {
    let folder = Folder::new("printed");
    folder.write("text.txt", text());
    let said = folder.ok(&small(&["--out", "it's my run", "--steps", "2"]));
    let commands: Vec<&str> = said.lines().filter_map(|line| Some(line.split_at(line.find("wgpt ")?).1)).collect();
    assert_eq!(commands.len(), 3, "{said}");
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_wgpt"));
    for command in commands.iter().map(|command| command.replace("\"...\"", "\"the sun\"")) {
        let mut shell = std::process::Command::new("bash");
        let script = format!("wgpt() {{ {} \"$@\" --quiet; }}; {command}", binary.display());
        let output = shell.args(["-c", &script]).current_dir(&folder.0).env("WGPT_CACHE", folder.path("cache")).output().unwrap();
        let done = Done::from(output);
        assert_eq!(done.code, 0, "{command}: {done:?}");
    }
    assert_eq!(folder.read("it's my run/checkpoints/latest").trim(), "step-4");
    let resume = ["train", "--out", "it's my run", "--resume", "--set", "train.seed=3"];
    folder.refused(2, &resume, &[r"--init 'it'\''s my run'"]);
}

#[test]
fn texts_that_begin_with_a_hyphen() {
    let folder = Folder::with_toy("hyphens");
    folder.refused(2, &["generate", "--prompt", "- x"], &["--prompt='- x'"]);
    folder.refused(2, &["generate", "--prompt", "-hello"], &["--prompt=-hello"]);
    folder.refused(2, &["predict", "- hello world"], &["-- '- hello world'"]);
    folder.ok(&["generate", "--prompt=- x", "--tokens", "1"]);
    folder.ok(&["predict", "--", "- hello world"]);
    // An unknown option is still reported as one.
    let done = folder.run(&["generate", "--promt", "x"]);
    assert!(!done.stderr.contains("begins with a hyphen"), "{done:?}");
}

#[test]
fn a_checkpoint_may_be_named_where_it_is_only_read() {
    let folder = Folder::with_toy("checkpoint");
    let at = "runs/toy/checkpoints/step-300";
    let greedy = |run: &str| folder.ok(&["generate", "--prompt", "hello", "--tokens", "4", "--greedy", "--run", run]);
    assert_eq!(greedy(at), greedy("runs/toy"));
    assert_eq!(
        folder.ok(&["tokenizer", "encode", "--run", at, "hello"]),
        folder.ok(&["tokenizer", "encode", "--run", "runs/toy", "hello"])
    );
    folder.ok(&["train", "--init", at, "--out", "mine", "--steps", "1", "--quiet"]);
    folder.refused(1, &["train", "--out", at, "--resume", "--steps", "301"], &[at, "is a checkpoint of the run in runs/toy"]);
}

#[test]
fn every_bit_of_a_seed_counts() {
    let folder = Folder::with_toy("seeds");
    let drawn = |seed: u64| {
        let seed = seed.to_string();
        folder.ok(&["generate", "--prompt", "hello", "--tokens", "40", "--temperature", "5", "--seed", &seed])
    };
    let texts: Vec<String> = [0, 1, 1 << 32, 1 + (1 << 32), 1 << 63, u64::MAX].map(drawn).to_vec();
    for (index, text) in texts.iter().enumerate() {
        assert!(!texts[..index].contains(text), "seed {index} repeats: {texts:?}");
    }
}

#[test]
fn files_that_are_known_and_no_text() {
    let folder = Folder::new("kinds");
    // `echo hello world how are you | gzip -n`
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9W(\xcf/\xcaIQ\xc8\xc8/WH,JU\xa8\xcc/\xe5\x02\0\x80\xbb\x11\xf1\x1a\0\0\0";
    folder.write("a.txt.gz", gzip);
    folder.write("a.pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n");
    folder.write("a.docx", b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0");
    folder.write("a.txt", "\u{feff}hi".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    let train = |file: &'static str| ["train", "--quiet", "--data", file];
    folder.refused(1, &train("a.txt.gz"), &["a.txt.gz: is compressed by gzip", "gunzip"]);
    folder.refused(1, &train("a.pdf"), &["a.pdf: is a PDF"]);
    folder.refused(1, &train("a.docx"), &["a.docx: is a zip archive", ".docx"]);
    folder.refused(1, &train("a.txt"), &["a.txt: is UTF-16"]);
}

/// Naming the learning rate alone is enough: the end of the schedule follows a peak that falls below it, and a note says so.
#[test]
fn a_learning_rate_alone_is_enough() {
    let folder = Folder::new("rate");
    folder.write("text.txt", text());
    let args: Vec<&str> = small(&["--out", "a", "--steps", "2", "--set=train.learning_rate=1e-6"]);
    let done = folder.run(&args.into_iter().filter(|arg| *arg != "--quiet").collect::<Vec<_>>());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("note: train.min_learning_rate = ") && done.stderr.contains("train.learning_rate = 1e-6"), "{done:?}");
    let low = folder.read("a/config.toml").lines().find_map(|line| line.strip_prefix("min_learning_rate = ")?.parse::<f64>().ok());
    assert!(low.is_some_and(|low| low > 0.0 && low < 1e-6), "{low:?}");
    let both = ["--set=train.learning_rate=1e-6", "--set=train.min_learning_rate=1e-3", "--out=b"];
    folder.refused(2, &small(&both), &["train.min_learning_rate = 0.001: needs 0 to train.learning_rate = 1e-6"]);
}

/// A resumed run reads its text again, which a pipe provides only once.
#[cfg(target_os = "linux")]
#[test]
fn pipes_are_no_data() {
    let folder = Folder::new("pipes");
    folder.write("text.txt", text());
    for script in ["cat text.txt | wgpt train --data /dev/stdin", "wgpt train --data <(cat text.txt)", "wgpt train --data /dev/null"] {
        let script = format!("wgpt() {{ {} \"$@\"; }}; {script}", env!("CARGO_BIN_EXE_wgpt"));
        let output = std::process::Command::new("bash").args(["-c", &script]).current_dir(&folder.0).output().unwrap();
        Done::from(output).assert_refused(1, &[&script], &["/dev/", "a file is needed"]);
    }
    assert_eq!(folder.files().len(), 1);
}

/// If a driver is installed but cannot start, for example because memory is short, the message does not advise installing it.
#[cfg(target_os = "linux")]
#[test]
fn a_driver_that_fails_is_named() {
    let folder = Folder::new("driver");
    let manifest = r#"{"file_format_version": "1.0.0", "ICD": {"library_path": "./none.so", "api_version": "1.3.0"}}"#;
    folder.write("icd.json", manifest);
    let mut command = folder.command(&["devices", "--backend=vulkan"]);
    let command = command.env("VK_DRIVER_FILES", "icd.json").env("VK_ICD_FILENAMES", "icd.json");
    let done = Done::from(command.output().unwrap());
    done.assert_refused(1, &["icd.json"], &["the Vulkan driver of icd.json is installed but offers no adapter", "lack of memory"]);
}

/// Without the variable some drivers complain on stderr, but `--quiet` and the single line of an error must hold for their output too.
#[cfg(target_os = "linux")]
#[test]
fn drivers_keep_quiet_without_a_desktop() {
    let folder = Folder::with_toy("no_desktop");
    let said = |args: &[&str]| {
        let mut command = folder.command(args);
        command.env_remove("XDG_RUNTIME_DIR").env_remove("WAYLAND_DISPLAY").env_remove("DISPLAY");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(said(&["predict", "hello", "--quiet"]), "");
    assert!(!said(&["devices"]).contains("XDG_RUNTIME_DIR"));
}

#[cfg(unix)]
#[test]
fn a_text_stopped_by_ctrl_c_is_still_a_result() {
    let folder = Folder::with_toy("stopped_text");
    let args = ["generate", "--prompt", "hello world", "--tokens", "100000000", "--json"];
    let mut child = folder.command(&args[..5]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Its first words have been printed, so it handles Ctrl-C.
    let mut out = child.stdout.take().unwrap();
    let mut some = [0; 32];
    std::io::Read::read_exact(&mut out, &mut some).unwrap();
    interrupt(child.id());
    let rest = std::io::read_to_string(out).unwrap();
    assert!(rest.ends_with('\n'), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(130));

    let mut child = folder.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // This notice is printed once the text is longer than the context, so Ctrl-C is handled by then.
    let notes = std::io::BufReader::new(child.stderr.take().unwrap());
    assert!(std::io::BufRead::lines(notes).any(|line| line.unwrap().starts_with("note: the text is longer")));
    interrupt(child.id());
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!(done.code, 130, "{done:?}");
    let answer: serde_json::Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let (ids, text) = (answer["ids"].as_array().unwrap(), answer["text"].as_str().unwrap());
    assert!(!ids.is_empty() && !text.is_empty(), "{answer}");
}

#[cfg(unix)]
fn interrupt(id: u32) {
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -INT {id}")]).status().unwrap();
    assert!(sent.success());
}

/// A model that has learned escape sequences from its text, run on a terminal that `script` makes, and in a pipe.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_nothing_to_obey() {
    let folder = Folder::new("terminal");
    let coloured: String = text().lines().map(|line| format!("\x1b[31m{line}\x1b[0m\x07\n")).collect();
    folder.write("text.txt", &coloured);
    folder.ok(&small(&["--out", "a", "--steps", "1"]));
    let shown = |prompt: &str| {
        let wgpt = env!("CARGO_BIN_EXE_wgpt");
        let command = format!("{wgpt} generate --run a --tokens 200 --temperature 9 --prompt {prompt} 2>said");
        let mut script = std::process::Command::new("script");
        let output = script.args(["-qec", &command, "/dev/null"]).current_dir(&folder.0).env("WGPT_CACHE", folder.path("cache"));
        let output = output.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?} {}", folder.read("said"));
        String::from_utf8(output.stdout).unwrap()
    };
    let terminal = shown("\"$(printf '\\033[31mthe')\"");
    assert!(terminal.starts_with("␛[31mthe"), "{terminal:?}");
    assert!(!terminal.contains(['\x1b', '\x07']) && terminal.matches('␛').count() > 1, "{terminal:?}");
    let piped = folder.ok(&["generate", "--run", "a", "--tokens", "200", "--temperature", "9", "--prompt", "\x1b[31mthe"]);
    assert!(piped.starts_with("\x1b[31mthe") && !piped.contains('␛'), "{piped:?}");
    // File names reach a terminal too, in notices and errors.
    let named = folder.run(&["train", "--data", "\x1b[2J.txt"]);
    assert!(named.stderr.contains("␛[2J.txt") && !named.stderr.contains('\x1b'), "{named:?}");
}
