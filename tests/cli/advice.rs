//! Every message that names a way out names one that works: these tests follow it.

use std::fs;

use crate::support::{Done, Folder, small, text};

/// The commands that a message names, as a shell would receive them.
fn commands(message: &str) -> Vec<String> {
    let quoted = message.split('`').skip(1).step_by(2).filter(|command| ["wgpt ", "echo "].iter().any(|name| command.starts_with(name)));
    let ends = message.split("resume with: ").skip(1).filter_map(|rest| rest.lines().next());
    quoted.chain(ends).map(str::to_owned).collect()
}

/// Runs a command line as a user types it.
fn shell(folder: &Folder, line: &str) -> Done {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_wgpt")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", line]).current_dir(&folder.0).env("PATH", path).env("WGPT_CACHE", folder.path("cache"));
    Done::from(command.output().unwrap())
}

fn refusal(folder: &Folder, args: &[&str]) -> String {
    let done = folder.run(args);
    assert!(done.code == 1 || done.code == 2, "{args:?}: {done:?}");
    done.stderr
}

/// The one command that a refusal names, followed by `more`, must succeed.
fn follow(folder: &Folder, args: &[&str], more: &str) {
    let message = refusal(folder, args);
    let [command] = &commands(&message)[..] else { panic!("no command in {message}") };
    let done = shell(folder, &format!("{command}{more}"));
    assert_eq!(done.code, 0, "{command}{more}: {done:?}");
}

#[test]
fn a_run_that_is_there() {
    let folder = Folder::with_toy("advice_there");
    let train = ["train", "--quiet", "--preset", "toy"];
    let message = refusal(&folder, &train);
    for more in [&["--resume"][..], &["--overwrite"], &["--next-free"], &["--out", "other"]] {
        assert!(message.contains(more[0]), "{message}");
        folder.ok(&[&train[..], more].concat());
    }
    let seed = [&train[..], &["--set=train.seed=1"]].concat();
    let message = refusal(&folder, &[&seed[..], &["--resume"]].concat());
    assert!(message.contains("train.seed = 1 (the run has 1337)") && message.contains("--init runs/toy"), "{message}");
    folder.ok(&[&seed[..], &["--out", "from", "--init", "runs/toy"]].concat());
    let other = ["train", "--quiet", "--preset", "shakespeare-char", "--out", "runs/toy", "--resume"];
    let message = refusal(&folder, &other);
    assert!(message.contains("model.n_layer = 4 (the run has 1)") && message.contains("omit --preset shakespeare-char"), "{message}");
    folder.ok(&["train", "--quiet", "--out", "runs/toy", "--resume"]);
}

#[test]
fn a_run_that_is_not_there() {
    let folder = Folder::new("advice_not_there");
    let message = refusal(&folder, &["train", "--preset", "toy", "--out", "new", "--resume"]);
    assert!(message.contains("new: no such run: start it without --resume"), "{message}");
    folder.ok(&["train", "--quiet", "--preset", "toy", "--out", "new"]);
    follow(&folder, &["predict", "hello"], " --quiet --preset toy --steps 1");
    follow(&folder, &["predict", "--run", "no where", "hello"], " --quiet --preset toy --steps 1");
    assert!(folder.path("no where/checkpoints/step-1").is_dir());

    // A run that was killed before its first checkpoint.
    let begin = ["train", "--quiet", "--preset", "toy", "--steps", "1", "--out", "begun"];
    let log = folder.path("log");
    assert_eq!(Done::from(folder.command(&begin).env("WGPT_FAULT_LOG", &log).output().unwrap()).code, 0);
    fs::remove_dir_all(folder.path("begun")).unwrap();
    let operations = folder.read("log");
    let first = 1 + operations.lines().position(|line| line.ends_with("rename to begun/checkpoints/step-0")).expect(&operations);
    assert!(!folder.command(&begin).env("WGPT_FAULT", format!("kill:{first}")).output().unwrap().status.success());
    assert!(folder.path("begun/.wgpt.json").exists(), "it had a marker");
    let message = refusal(&folder, &[&begin[..], &["--resume"]].concat());
    assert!(message.contains("begun: has no checkpoint to resume from: start it without --resume"), "{message}");
    follow(&folder, &["predict", "--run", "begun", "hello"], " --quiet --preset toy --steps 1");
}

#[test]
fn a_run_whose_files_were_moved() {
    let folder = Folder::with_toy("advice_moved");
    for name in ["checkpoints/latest", "config.toml"] {
        fs::remove_file(folder.path("runs/toy").join(name)).unwrap();
    }
    folder.refused(2, &["train", "--preset", "toy"], &["runs/toy holds a run"]);
    folder.ok(&["predict", "--run", "runs/toy", "hello"]);
    folder.ok(&["predict", "hello"]);
    folder.write("runs/toy/checkpoints/latest", "step-7");
    follow(&folder, &["predict", "--run", "runs/toy", "hello"], "");
    folder.ok(&["predict", "hello"]);
    fs::create_dir(folder.path("mine")).unwrap();
    folder.write("mine/notes.txt", "mine");
    let train = ["train", "--quiet", "--preset", "toy", "--steps", "1", "--out", "mine"];
    assert!(refusal(&folder, &train).contains("move that away"));
    fs::rename(folder.path("mine/notes.txt"), folder.path("notes.txt")).unwrap();
    folder.ok(&train);
    follow_name(&folder);
}

/// A checkpoint named instead of its run.
fn follow_name(folder: &Folder) {
    let message = refusal(folder, &["train", "--resume", "--out", "runs/toy/checkpoints/step-300"]);
    assert!(message.contains("is a checkpoint of the run in runs/toy: name the run instead"), "{message}");
    folder.ok(&["train", "--quiet", "--resume", "--out", "runs/toy"]);
}

#[test]
fn a_run_that_diverged() {
    let folder = Folder::new("advice_diverged");
    let train = ["train", "--quiet", "--preset", "toy", "--set", "train.learning_rate=1e30"];
    let message = refusal(&folder, &train);
    assert!(message.contains("smaller train.learning_rate") && message.contains("--overwrite"), "{message}");
    folder.ok(&[&train[..], &["--overwrite", "--set", "train.learning_rate=0.01"]].concat());
}

#[test]
fn a_run_that_ended() {
    let folder = Folder::new("advice_ended");
    folder.write("text.txt", text());
    let done = folder.ok(&["train", "--preset", "toy", "--out", "it's mine", "--steps", "3"]);
    let after = |name: &str| {
        let line = done.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no `{name}` in {done}"));
        line[name.len()..].trim().replace("...", "hello")
    };
    for name in ["next word", "more text", "train more"] {
        let done = shell(&folder, &format!("{} --quiet", after(name)));
        assert_eq!(done.code, 0, "{}: {done:?}", after(name));
    }
    assert_eq!(folder.read("it's mine/checkpoints/latest"), "step-6\n");
}

/// Repeating the command line that began a run changes nothing; a differing setting is refused by name, with both values.
#[test]
fn the_same_command_line_goes_on() {
    let folder = Folder::new("same_line");
    folder.write("text.txt", text());
    folder.write("mine.toml", "[train]\nbeta2 = 0.98\n");
    // The end of the schedule follows a peak that is below it.
    let line = small(&["--config=mine.toml", "--out=a", "--steps=4", "--set=train.learning_rate=1e-5"]);
    folder.ok(&line);
    folder.ok(&[&line[..], &["--resume"]].concat());
    folder.ok(&[&line[..], &["--resume", "--steps=6", "--set=train.log_every=1", "--keep=5"]]
        .concat()
        .into_iter()
        .filter(|arg| *arg != "--steps=4")
        .collect::<Vec<_>>());
    assert_eq!(folder.read("a/checkpoints/latest"), "step-6\n");
    folder.write("other.txt", text().replace("star", "tars"));
    folder.write("other.toml", "[train]\nbeta2 = 0.97\n");
    let refused = |more: &str, words: &[&str]| folder.refused(2, &["train", "--quiet", "--out=a", "--resume", more], words);
    refused("--set=train.batch_size=5", &["train.batch_size = 5 (the run has 4)"]);
    refused("--set=model.d_model=32", &["model.d_model = 32 (the run has 16)"]);
    refused("--config=other.toml", &["train.beta2 = 0.97 (the run has 0.98)"]);
    folder.refused(1, &["train", "--quiet", "--out=a", "--resume", "--data=other.txt"], &["other.txt is not what the run was trained on"]);
    refused("--preset=shakespeare-char", &["model.n_layer = 4 (the run has 1)", "train.batch_size = ", "omit --preset shakespeare-char"]);
    refused("--steps=5", &["train.steps = 5", "6 steps already"]);
    // A run that was started with --init resumes by the same command line.
    let line = small(&["--init=a", "--out=b", "--steps=2"]);
    folder.ok(&line);
    folder.ok(&[&line[..], &["--resume"]].concat());
}

/// Names that a command line easily misreads.
#[test]
fn folders_with_names_that_are_hard_to_type() {
    let folder = Folder::new("advice_names");
    for out in ["-x", "a  b", " c"] {
        // Nothing is there yet, and the named command starts it.
        follow(&folder, &["predict", &format!("--run={out}"), "hello"], " --quiet --preset toy --steps 1");
        assert!(folder.path(out).join("checkpoints/step-1").is_dir(), "{out:?}");
        let out = format!("--out={out}");
        let message = refusal(&folder, &["train", "--quiet", &out, "--resume", "--set=train.seed=1"]);
        let word =
            message.split("with --init ").nth(1).and_then(|rest| rest.split(" to keep").next()).unwrap_or_else(|| panic!("{message}"));
        let done = shell(&folder, &format!("wgpt train --quiet --preset toy --steps 1 --out of --overwrite --init {word}"));
        assert_eq!(done.code, 0, "{done:?}");
        let done = folder.ok(&["train", "--preset=toy", "--steps=1", &out, "--overwrite"]);
        for name in ["next word", "more text", "train more"] {
            let line = done.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no `{name}` in {done}"));
            let done = shell(&folder, &format!("{} --quiet", line[name.len()..].trim().replace("...", "hello")));
            assert_eq!(done.code, 0, "{line}: {done:?}");
        }
    }
}

#[test]
fn a_next_free_name_stands_beside_the_folder() {
    let folder = Folder::new("advice_next_free");
    fs::create_dir_all(folder.path("a/in")).unwrap();
    folder.write("a/mine.txt", "mine");
    for (number, (at, out)) in [("a", "."), ("a/in", "..")].into_iter().enumerate() {
        let mut command = folder.command(&["train", "--quiet", "--preset=toy", "--steps=1", "--next-free", "--out", out]);
        let done = Done::from(command.current_dir(folder.path(at)).output().unwrap());
        assert_eq!(done.code, 0, "{done:?}");
        let made = format!("a-{}", number + 2);
        assert!(folder.path(&made).join("checkpoints/step-1").is_dir(), "{at} {out}: {:?}", folder.files().keys());
    }
    folder.refused(1, &["train", "--preset=toy", "--next-free", "--out=/"], &["/: has no name to append a number to", "--out"]);
    // A run named after another one keeps the whole name.
    folder.ok(&["train", "--quiet", "--preset=toy", "--steps=1", "--out=mine-0.5"]);
    folder.ok(&["train", "--quiet", "--init=mine-0.5", "--steps=1"]);
    assert!(folder.path("runs/mine-0.5/checkpoints/step-1").is_dir());
}

#[test]
fn what_is_no_run_is_told_apart() {
    let folder = Folder::with_toy("advice_no_run");
    folder.write("file", "mine");
    for args in [&["predict", "--run=file", "hello"][..], &["train", "--init=file", "--out=new"], &["train", "--resume", "--out=file"]] {
        folder.refused(1, args, &["file: is a file, ", "folder"]);
    }
    folder.refused(2, &["train", "--preset=toyy", "--resume"], &["unknown preset `toyy`: did you mean `toy`?"]);
    folder.refused(2, &["train", "--preset=", "--resume"], &["unknown preset ``"]);
    // Only moving the file helps.
    let latest = folder.path("runs/toy/checkpoints/latest");
    fs::remove_file(&latest).unwrap();
    fs::create_dir(&latest).unwrap();
    folder.refused(
        1,
        &["predict", "hello"],
        &["latest: is not a regular file: move it away, and the newest checkpoint, step-300, is used"],
    );
    fs::rename(&latest, folder.path("away")).unwrap();
    folder.ok(&["predict", "hello", "--run=runs/toy"]);
    folder.write("runs/toy/.wgpt.json", "mine");
    let resume = ["train", "--quiet", "--resume", "--out=runs/toy", "--steps=301"];
    folder.refused(1, &resume, &[".wgpt.json: is not what this program writes", "move it away"]);
    fs::rename(folder.path("runs/toy/.wgpt.json"), folder.path("marker")).unwrap();
    folder.ok(&resume);
}

#[cfg(unix)]
#[test]
fn links_to_nothing() {
    let folder = Folder::new("advice_links");
    std::os::unix::fs::symlink("nowhere", folder.path("link")).unwrap();
    // A dangling link cannot be read as a file of the folder.
    let args = ["train", "--quiet", "--preset=toy", "--steps=1", "--out=link/run"];
    folder.run(&args).assert_refused(1, &args, &["link/run: cannot be made: link is a dangling symbolic link"]);
    assert!(!folder.path("nowhere").exists());
    fs::create_dir(folder.path("nowhere")).unwrap();
    folder.ok(&args);
}

#[test]
fn a_run_without_its_marker() {
    let folder = Folder::with_toy("advice_unmarked");
    fs::remove_file(folder.path("runs/toy/.wgpt.json")).unwrap();
    for more in [&[][..], &["--overwrite"]] {
        let message = refusal(&folder, &[&["train", "--quiet", "--preset", "toy"], more].concat());
        assert!(message.contains("so it is not replaced: continue it with --resume") && !message.contains("--overwrite to"), "{message}");
    }
    folder.ok(&["train", "--quiet", "--preset", "toy", "--resume"]);
}

#[test]
fn settings_of_a_resumed_run() {
    let folder = Folder::with_toy("advice_resumed");
    // Leaving out the preset would not help.
    let message = refusal(&folder, &["train", "--preset", "toy", "--resume", "--set=train.seed=3"]);
    assert!(message.contains("train.seed = 3") && !message.contains("omit") && message.contains("--init runs/toy to keep"), "{message}");
    // Weights do not fit another shape.
    let message = refusal(&folder, &["train", "--preset", "toy", "--resume", "--set=model.d_model=64"]);
    assert!(message.contains("model.d_model = 64") && !message.contains("--init"), "{message}");
    // The preset named the folder.
    fs::rename(folder.path("runs/toy"), folder.path("runs/shakespeare-char")).unwrap();
    let message = refusal(&folder, &["train", "--preset", "shakespeare-char", "--resume"]);
    assert!(message.contains("omit --preset shakespeare-char and add --out runs/shakespeare-char"), "{message}");
    folder.ok(&["train", "--quiet", "--out", "runs/shakespeare-char", "--resume", "--set=model.vocab_size=0"]);
}

#[test]
fn weights_of_a_larger_model() {
    let folder = Folder::with_toy("advice_larger");
    let deep =
        ["train", "--quiet", "--preset", "toy", "--steps=1", "--set=model.n_layer=2", "--set=model.tied_head=false", "--out", "deep"];
    folder.ok(&deep);
    let onto = ["train", "--quiet", "--preset", "toy", "--steps=1", "--init", "deep", "--out", "onto"];
    folder.refused(1, &onto, &["deep/checkpoints/step-", "model.safetensors: has the tensor `", "which this model does not have"]);
    folder.ok(&["train", "--quiet", "--steps=1", "--init", "deep", "--out", "onto"]);
}

/// The words of advice within a user's own words are not advice.
#[test]
fn a_path_that_reads_like_advice() {
    let folder = Folder::new("advice_words");
    folder.write("text", "some words");
    let out = "start a new run in it/x.json";
    folder.refused(1, &["tokenizer", "train", "--size", "300", "--out", out, "text"], &["there is no folder start a new run in it"]);
    folder.refused(2, &["train", "--set", "tokenizer.kind=x, or set model.y"], &["`x, or set model.y`"]);
}
