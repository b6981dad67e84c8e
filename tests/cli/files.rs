//! The files that commands write, and what they read of them: nothing is replaced unasked, nothing damaged is used.

use std::fs;

use crate::support::{Folder, small, text};

#[test]
fn nothing_is_replaced_unless_asked() {
    let folder = Folder::new("replaced");
    folder.write("text.txt", text());
    folder.ok(&["tokenizer", "train", "--size", "260", "--out", "bpe.json", "text.txt"]);
    let made: [(&str, &[&str]); 5] = [
        ("b.json", &["tokenizer", "train", "--size", "260", "text.txt", "--out", "b.json"]),
        ("a.tokens", &["tokenizer", "encode", "--tokenizer", "bpe.json", "--file", "text.txt", "--out", "a.tokens"]),
        ("a.trace", &["profile", "--preset=toy", "--steps=1", "--trace", "a.trace"]),
        ("a.svg", &["profile", "--preset=toy", "--steps=1", "--plot", "a.svg"]),
        ("out/sgd.apply.plain.wgsl", &["shaders", "sgd", "--target", "wgsl", "--out", "out"]),
    ];
    for (file, command) in made {
        folder.ok(command);
        folder.write(file, "mine");
        folder.refused(1, command, &[file, "already exists", "--overwrite", "--"]);
        folder.ok(&[command, &["--overwrite"]].concat());
        assert_ne!(fs::read(folder.path(file)).unwrap(), b"mine", "{command:?} --overwrite");
    }
    let names =
        |at: &str| fs::read_dir(folder.path(at)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    assert!(!names(".").iter().chain(&names("out")).any(|name| name.contains("wgpt-tmp")), "{:?}", names("."));
}

/// A command never replaces a file that it reads, `--overwrite` or not.
#[test]
fn texts_are_not_replaced_by_what_is_made_of_them() {
    let folder = Folder::new("own_text");
    folder.write("text.txt", text());
    folder.ok(&["tokenizer", "train", "--size", "260", "--out", "bpe.json", "text.txt"]);
    let here = folder.path("text.txt");
    for to in ["text.txt", "./text.txt", here.to_str().unwrap()] {
        let train = ["tokenizer", "train", "--size", "260", "--overwrite", "--out", to, "text.txt"];
        folder.refused(1, &train, &["text.txt: is one of the texts", "name another file"]);
        let encode = ["tokenizer", "encode", "--tokenizer=bpe.json", "--file=text.txt", "--overwrite", "--out", to];
        folder.refused(1, &encode, &["text.txt: is the text itself", "name another file"]);
    }
    folder.refused(1, &["shaders", "sgd", "--target=wgsl", "--out=text.txt"], &["text.txt: is not a folder", "--out"]);
}

/// A socket stands for everything that is not a regular file, devices and pipes too: a rename would replace it by a file.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let (folder, elsewhere) = (Folder::new("no_regular_file"), tempfile::tempdir().unwrap());
    folder.write("text.txt", text());
    let socket = elsewhere.path().join("socket");
    let _open = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (to, words) = (socket.to_str().unwrap(), ["socket", "not a regular file"]);
    folder.refused(1, &["tokenizer", "train", "--size", "260", "--out", to, "--overwrite", "text.txt"], &words);
    folder.refused(1, &["profile", "--preset=toy", "--trace", to, "--overwrite"], &words);
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
}

#[cfg(unix)]
#[test]
fn all_files_of_a_run_have_the_mode_of_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("modes");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out", "run", "--steps", "3"]));
    let wanted = fs::metadata(folder.path("text.txt")).unwrap().permissions().mode();
    let files: Vec<_> =
        folder.files().into_iter().filter(|(path, content)| content.is_some() && path.starts_with(folder.path("run"))).collect();
    assert!(files.len() >= 9, "{}", files.len());
    for (path, _) in files {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode(), wanted, "{}", path.display());
    }
}

#[cfg(unix)]
#[test]
fn a_damaged_checkpoint_is_refused_and_the_older_one_is_taken() {
    let folder = Folder::new("damaged_bit");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out", "my run", "--steps", "6", "--set=train.checkpoint_every=2", "--set=train.log_every=1"]));
    let file = |step: u64, name: &str| format!("my run/checkpoints/step-{step}/{name}");
    let damage = |name: &str| {
        let mut bytes = fs::read(folder.path(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        folder.write(name, bytes);
    };
    let resume = ["train", "--out", "my run", "--resume", "--steps", "8", "--quiet"];
    let (weights, older) = (file(6, "model.safetensors"), fs::read(folder.path(&file(4, "model.safetensors"))).unwrap());
    let whole = fs::read(folder.path(&weights)).unwrap();
    // A file of another step, or of another run, is refused like a damaged one.
    folder.write(&weights, older);
    folder.refused(1, &resume, &["step-6/model.safetensors: is damaged: its checksum is ", "step-4 is intact"]);
    folder.write(&weights, whole);
    damage(&weights);
    folder.refused(1, &["predict", "the", "--run", "my run"], &["step-6/model.safetensors: is damaged", "--no-verify"]);
    folder.ok(&["predict", "the", "--run", "my run", "--no-verify"]);
    let refused = folder.run(&resume);
    refused.assert_refused(1, &resume, &["step-6/model.safetensors: is damaged", "step-4 is intact"]);
    let advice = refused.stderr.split("is intact, use it with: ").nth(1).unwrap().split("; to read it").next().unwrap();
    let shell = std::process::Command::new("sh").args(["-c", advice]).current_dir(&folder.0).output().unwrap();
    assert!(shell.status.success() && shell.stderr.is_empty(), "{advice}: {shell:?}");
    folder.ok(&resume);
    let steps: Vec<u64> = folder
        .read("my run/metrics.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=8).collect::<Vec<u64>>());
    assert!(!folder.path("my run/checkpoints/step-6").exists(), "the damaged one is an old one now, and it was ours");
    fs::remove_file(folder.path(&file(8, "manifest.json"))).unwrap();
    // Step 6 was saved again while the damaged folder had its name.
    let words = ["step-8/manifest.json: is missing", "step-6-2 is intact", "echo step-6-2 >'my run/checkpoints/best'", "--no-verify"];
    folder.refused(1, &["generate", "--prompt", "the", "--run", "my run"], &words);
    folder.ok(&["eval", "--run", "my run", "--no-verify"]);
}

/// Checkpoints of early versions have no manifest. The command in the message works as printed.
#[test]
fn a_checkpoint_without_a_manifest_is_taken_by_the_command_that_is_named() {
    let folder = Folder::new("no_manifest");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out", "my run", "--steps", "2"]));
    for step in fs::read_dir(folder.path("my run/checkpoints")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        fs::remove_file(step.join("manifest.json")).unwrap();
    }
    let commands: [&[&str]; 5] = [
        &["predict", "--run", "my run", "--", "- the"],
        &["generate", "--run", "my run", "--prompt", "the sun", "--tokens=2"],
        &["eval", "--run", "my run", "--data", "text.txt"],
        &["tokenizer", "encode", "--run", "my run", "the"],
        &["train", "--out", "my run", "--resume", "--steps=4", "--quiet"],
    ];
    for args in commands {
        let refused = folder.run(args);
        refused.assert_refused(1, args, &["manifest.json: is missing", "early versions", "; to read it anyway: wgpt --no-verify "]);
        let command = refused.stderr.split("to read it anyway: ").nth(1).unwrap();
        let script = format!("wgpt() {{ {} \"$@\"; }}; {command}", env!("CARGO_BIN_EXE_wgpt"));
        let mut shell = std::process::Command::new("bash");
        let shell = shell.args(["-c", &script]).current_dir(&folder.0).env("WGPT_CACHE", folder.path("cache")).output().unwrap();
        assert!(shell.status.success(), "{command}: {shell:?}");
    }
    folder.ok(&["predict", "the", "--run", "my run"]);
    // A command that contains a whole text is not repeated.
    fs::remove_file(folder.path("my run/checkpoints/step-4/manifest.json")).unwrap();
    let long = "the ".repeat(1000);
    folder.refused(1, &["predict", &long, "--run", "my run"], &["to read it anyway: the same command with --no-verify"]);
}

/// A finite loss says nothing about the update that follows it.
#[test]
fn weights_that_are_not_finite_are_not_saved() {
    let folder = Folder::new("not_finite");
    folder.write("text.txt", text());
    let args = small(&[
        "--out=run",
        "--steps=1",
        "--set=data.val_fraction=0",
        "--set=train.learning_rate=3.4e38",
        "--set=train.min_learning_rate=3.4e38",
        "--set=train.weight_decay=0.9",
    ]);
    folder.run(&args).assert_refused(1, &args, &["step 1: `", "which is not a finite number", "smaller train.learning_rate"]);
    assert_eq!(folder.read("run/checkpoints/latest"), "step-0\n");
    let mut names: Vec<_> = fs::read_dir(folder.path("run/checkpoints")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["latest", "step-0"]);
    folder.ok(&["predict", "the", "--run", "run", "--quiet"]);
}
