//! Runs that are missing, in use or damaged, places that cannot be written, and a disk that fills up.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use crate::support::{Done, Folder, small, text};

#[test]
fn runs_that_are_not_there() {
    let folder = Folder::new("no_runs");
    fs::create_dir_all(folder.path("runs/empty")).unwrap();
    fs::create_dir_all(folder.path("begun/checkpoints")).unwrap();
    folder.write("begun/config.toml", "");
    folder.refused(1, &["predict", "hello"], &["runs", "no run with a checkpoint", "wgpt train"]);
    folder.refused(1, &["predict", "--run", "nowhere", "hello"], &["nowhere", "no such run"]);
    folder.refused(1, &["generate", "--run", "runs/empty", "--prompt", "a"], &["runs/empty", "no checkpoint"]);
    folder.refused(1, &["eval", "--run", "begun"], &["begun: is not a run, it contains `checkpoints`"]);
    folder.refused(1, &["train", "--out", "begun", "--resume"], &["begun: is not a run, it contains `checkpoints`"]);
    folder.refused(1, &["train", "--out", "nowhere", "--resume"], &["nowhere", "no such run"]);
    folder.write("file", "");
    folder.refused(1, &["train", "--out", "file/run", "--resume"], &["file/run: cannot be made: file is a file, not a folder"]);
    folder.refused(1, &["train", "--init", "nowhere", "--out", "new"], &["nowhere", "no such run"]);
    for more in [&[][..], &["--overwrite"]] {
        folder.refused(
            1,
            &[&["train", "--out", "begun"], more].concat(),
            &["begun: is neither empty nor a run, it contains `checkpoints`", "--out"],
        );
    }
}

#[test]
fn runs_that_are_damaged() {
    let folder = Folder::with_toy("damaged");
    let at = |name: &str| format!("runs/toy/checkpoints/step-300/{name}");
    let predict = ["predict", "hello world"];
    let resume = ["train", "--quiet", "--out", "runs/toy", "--resume", "--steps", "310"];
    for name in ["model.safetensors", "optimizer.safetensors", "config.toml", "tokenizer.json", "state.json"] {
        let whole = fs::read(folder.path(&at(name))).unwrap();
        for length in [0, 7, whole.len() / 2, whole.len() - 3] {
            // A TOML file cut at the end of a line is valid; a missing key would take its default.
            if name == "config.toml" && length > 7 {
                continue;
            }
            folder.write(&at(name), &whole[..length]);
            folder.refused(1, &resume, &[name]);
            if name != "optimizer.safetensors" {
                folder.refused(1, &predict, &[name]);
            }
        }
        fs::remove_file(folder.path(&at(name))).unwrap();
        folder.refused(1, &resume, &[name]);
        folder.write(&at(name), &whole);
    }

    let config = folder.read(&at("config.toml"));
    let (predict, resume) = ([&predict[..], &["--no-verify"]].concat(), [&resume[..], &["--no-verify"]].concat());
    folder.write(&at("config.toml"), config.replace("d_model = 16", "d_model = 32"));
    folder.refused(1, &predict, &["model.safetensors", "`wte` is F32 [7, 16]", "needs F32 [7, 32]"]);
    folder.refused(1, &resume, &["model.safetensors", "`wte` is F32 [7, 16]", "needs F32 [7, 32]"]);
    folder.write(&at("config.toml"), config.replace("n_layer = 1", "n_layer = 2"));
    folder.refused(1, &predict, &["model.safetensors", "has no tensor `h.1."]);
    folder.write(&at("config.toml"), config.replace("\neps = ", "\neps = -"));
    folder.refused(1, &predict, &["config.toml: train.eps = -", "needs a number above 0"]);
    folder.refused(1, &resume, &["config.toml: train.eps = -", "needs a number above 0"]);
    folder.write(&at("config.toml"), config.replace("vocab_size = 7", "vocab_size = 6"));
    folder.refused(1, &predict, &["tokenizer has 7 tokens", "only 6"]);
    folder.write(&at("config.toml"), config);
    assert_eq!(folder.run(&predict[..2]).code, 0, "what was damaged is whole again");

    let init = ["train", "--quiet", "--preset", "toy", "--init", "runs/toy", "--out", "runs/new", "--set", "model.d_model=32"];
    folder.refused(1, &init, &["model.safetensors", "`wte` is F32 [7, 16]", "needs F32 [7, 32]"]);
}

#[test]
fn a_run_that_is_there_is_not_touched() {
    let folder = Folder::with_toy("taken");
    folder.refused(2, &["train", "--preset", "toy"], &["runs/toy holds a run", "--resume", "--overwrite", "--out"]);
    let resume = |set: &'static str| ["train", "--preset", "toy", "--resume", "--set", set];
    folder.refused(2, &resume("train.seed=3"), &["train.seed = 3", "the run has 1337", "--init"]);
    folder.refused(2, &resume("train.seed=1"), &["train.seed = 1"]);
    folder.refused(2, &resume("train.steps=200"), &["train.steps = 200", "300 steps already"]);
    folder.write("other.txt", "hello world how are you");
    folder.refused(1, &["train", "--quiet", "--preset", "toy", "--resume", "--data", "other.txt"], &["other.txt is not what", "--init"]);
    // The same file with other text in it.
    folder.write("text.txt", text());
    folder.ok(&small(&["--steps", "1", "--out", "mine"]));
    folder.write("text.txt", text().replace("star", "tars"));
    folder.refused(
        1,
        &["train", "--quiet", "--out", "mine", "--resume", "--steps", "2"],
        &["mine", "text.txt is not what the run was trained on", "--init"],
    );
}

#[test]
fn places_that_cannot_be_written() {
    let folder = Folder::new("unwritable");
    folder.write("text.txt", text());
    folder.refused(1, &small(&["--out", "text.txt"]), &["text.txt", "is a file, the run needs a folder"]);
    folder.refused(1, &small(&["--out", "text.txt/a/run"]), &["text.txt/a/run", "text.txt is a file"]);
    let encode = ["tokenizer", "encode", "--tokenizer", "bpe.json", "--file", "text.txt", "--out"];
    folder.ok(&["tokenizer", "train", "--size", "260", "--out", "bpe.json", "text.txt"]);
    folder.refused(1, &[&encode[..], &["text.txt/a.tokens"]].concat(), &["text.txt/a.tokens", "cannot be written"]);
    folder.refused(1, &[&encode[..], &["no/a.tokens"]].concat(), &["no/a.tokens", "cannot be written"]);
}

#[test]
fn a_loss_that_is_no_number_reaches_no_checkpoint() {
    let folder = Folder::new("diverged");
    let args = ["train", "--quiet", "--preset", "toy", "--set", "train.learning_rate=1e30"];
    folder.run(&args).assert_refused(1, &args, &["step ", "learning rate", "smaller train.learning_rate"]);
    let names = fs::read_dir(folder.path("runs/toy/checkpoints")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = names.collect();
    assert_eq!(names, ["latest", "step-0"].map(str::to_owned).into(), "the one that a run begins with");
}

#[test]
fn stdout_that_is_full_or_gone() {
    let folder = Folder::with_toy("stdout");
    if cfg!(target_os = "linux") {
        let mut command = folder.command(&["predict", "hello"]);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = Done::from(command.stdout(full).stderr(Stdio::piped()).output().unwrap());
        done.assert_refused(1, &["predict > /dev/full"], &["stdout", "cannot be written", "No space left"]);
    }
    for args in [&["generate", "--prompt", "hello"][..], &["devices"], &["predict", "hello", "--json"], &["train", "--help"]] {
        let mut child = folder.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let done = Done::from(child.wait_with_output().unwrap());
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}");
    }
}

/// On a disk of 400 KiB a first run fits. With most of the rest occupied, a resumed run cannot save there: the last checkpoint is kept, and
/// the run is saved elsewhere.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    let folder = Folder::new("full_disk");
    folder.write("text.txt", text());
    let wgpt = env!("CARGO_BIN_EXE_wgpt");
    let train = small(&["--out", "disk/run", "--steps", "10"]).join(" ");
    folder.write(
        "script",
        format!(
            "set -u; export TMPDIR=$PWD XDG_RUNTIME_DIR=${{XDG_RUNTIME_DIR:-/tmp}} # without it Mesa prints errors of its own\n\
             mkdir disk; mount -t tmpfs -o size=400k tmpfs disk || exit 90\n\
             {wgpt} {train} >first.out 2>first.err; echo $? >first.rc\n\
             head -c 100000000 /dev/zero >disk/ballast 2>/dev/null; truncate -s -40000 disk/ballast\n\
             cat disk/run/checkpoints/latest >latest.before\n\
             {wgpt} train --out disk/run --resume --steps 20 --quiet >second.out 2>second.err; echo $? >second.rc\n\
             ls disk >beside; ls disk/run/checkpoints >after; cat disk/run/checkpoints/latest >latest.after\n\
             {wgpt} predict --run disk/run the --quiet >predict.out 2>predict.err; echo $? >predict.rc\n\
             rm disk/ballast\n\
             {wgpt} train --out disk/run --resume --steps 20 --quiet >third.out 2>third.err; echo $? >third.rc\n\
             {wgpt} train --out wgpt-run-rescued --resume --quiet >fourth.out 2>fourth.err; echo $? >fourth.rc\n\
             cmp wgpt-run-rescued/checkpoints/step-20/optimizer.safetensors disk/run/checkpoints/step-20/optimizer.safetensors >cmp 2>&1\n\
             wc -l <disk/run/metrics.jsonl >lines; df -k disk >df; umount disk\n"
        ),
    );
    // A mount of our own, which ends with the script. Root may mount; in a chroot, whose root is not a mount, only without changing
    // propagation; other users may as root of a user namespace.
    let run = |flags: &[&str]| {
        let _ = fs::remove_dir_all(folder.path("disk"));
        let mut command = std::process::Command::new("unshare");
        command.args(flags).args(["sh", "script"]).current_dir(&folder.0).output().unwrap()
    };
    let ways: [&[&str]; 3] = [&["-m"], &["-m", "--propagation", "unchanged"], &["-rm"]];
    let mut output = run(ways[0]);
    for way in &ways[1..] {
        if !output.status.success() {
            output = run(way);
        }
    }
    assert!(output.status.success(), "this test needs a small disk, and neither root nor a user namespace may mount one: {output:?}");
    let rc = |name: &str| folder.read(&format!("{name}.rc")).trim().to_owned();
    assert_eq!(rc("first"), "0", "{}", folder.read("first.err"));
    assert_eq!(rc("second"), "1", "{}", folder.read("second.out"));
    let error = folder.read("second.err");
    assert!(error.trim_end().lines().filter(|line| line.starts_with("error: ")).count() == 1 && error.contains("No space left"), "{error}");
    assert!(error.contains("disk/run: step 20 cannot be saved here (disk/run/checkpoints"), "{error}");
    let word = format!("wgpt train --out {}/wgpt-run-rescued --resume", folder.0.display());
    assert!(error.trim_end().ends_with(&word), "{error}");
    assert_eq!((rc("fourth"), folder.read("cmp")), ("0".to_owned(), String::new()), "{}", folder.read("fourth.err"));
    assert_eq!(folder.read("beside"), "ballast\nrun\n", "no half of a run");
    assert_eq!(folder.read("latest.before"), "step-10\n");
    assert_eq!(folder.read("latest.after"), "step-10\n");
    assert_eq!(folder.read("after"), "best\nlatest\nstep-10\n", "no half of a checkpoint");
    assert_eq!(rc("predict"), "0", "{}", folder.read("predict.err"));
    assert_eq!(rc("third"), "0", "{}", folder.read("third.err"));
    assert_eq!(folder.read("lines").trim(), "4", "each record once");
}

/// An append that fails half way leaves a torn line: it is cut off, and the record is written with the next one.
#[test]
fn a_record_that_was_torn_is_written_again() {
    let folder = Folder::new("torn");
    folder.write("text.txt", text());
    let train = small(&["--out", "a", "--steps", "30"]);
    let log = folder.path("log");
    // Run once before, to fill the caches.
    folder.ok(&small(&["--out", "b", "--steps", "1"]));
    assert_eq!(Done::from(folder.command(&train).env("WGPT_FAULT_LOG", &log).output().unwrap()).code, 0);
    let steps = |metrics: &str| -> Vec<String> {
        let records = metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
        records.map(|record| format!("{} {} {}", record["step"], record["loss"], record["val_loss"])).collect()
    };
    let whole = steps(&folder.read("a/metrics.jsonl"));
    let operations = folder.read("log");
    let is_append = |line: &&str| line.ends_with("write a/metrics.jsonl");
    let appends: Vec<&str> = operations.lines().filter(is_append).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((appends.len(), whole.len()), (6, 6), "{operations}");
    for at in [appends[0], appends[3]] {
        fs::remove_dir_all(folder.path("a")).unwrap();
        let loud: Vec<&str> = train.iter().copied().filter(|arg| *arg != "--quiet").collect();
        let done = Done::from(folder.command(&loud).env("WGPT_FAULT", format!("error:{at}")).output().unwrap());
        assert_eq!(done.code, 0, "{done:?}");
        assert!(
            done.stderr.contains("WARNING   a/metrics.jsonl: cannot be written: ") && done.stderr.contains("can be written again"),
            "{done:?}"
        );
        assert_eq!(steps(&folder.read("a/metrics.jsonl")), whole);
    }
}
