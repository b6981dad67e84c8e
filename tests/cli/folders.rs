//! Who owns a folder: what is refused, what is removed, and who may write there.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use wgpt::low_level::files::Manifest;

use crate::support::{Done, Folder, copy, small, text};

fn names(folder: &Folder, at: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder.path(at)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_this_program_did_not_make_is_refused() {
    let folder = Folder::new("foreign");
    folder.write("text.txt", text());
    for (number, name) in
        ["metrics.jsonl", "loss.png", "config.toml", "notes.txt", ".hidden", "checkpoints/best.bin"].into_iter().enumerate()
    {
        let out = format!("p{number}");
        let path = folder.path(&out).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
        let first = name.split('/').next().unwrap();
        for more in [&[][..], &["--overwrite"]] {
            let words = [&format!("{out}: is neither empty nor a run, it contains `{first}`"), "--out"];
            folder.refused(1, &small(&[&["--out", &out], more].concat()), &words);
        }
        folder.refused(1, &small(&["--out", &out, "--resume"]), &[&out, "is not a run", first]);
    }
    folder.ok(&small(&["--out", "p3", "--next-free", "--steps", "2"]));
    assert_eq!((names(&folder, "p3"), folder.read("p3/notes.txt")), (vec!["notes.txt".to_string()], "mine".into()));
    assert!(folder.path("p3-2/checkpoints/step-2").is_dir());

    // Checkpoints without a marker: of another program, or of a version that wrote none. They can be resumed.
    fs::remove_file(folder.path("p3-2/.wgpt.json")).unwrap();
    folder.refused(2, &small(&["--out", "p3-2"]), &["p3-2 holds a run"]);
    folder.refused(
        2,
        &small(&["--out", "p3-2", "--overwrite"]),
        &["p3-2 holds a run without the marker .wgpt.json, so it is not replaced"],
    );
    folder.ok(&small(&["--out", "p3-2", "--resume", "--steps", "3"]));
    folder.ok(&small(&["--out", "p3-2", "--overwrite", "--steps", "1"]));
}

#[test]
fn overwriting_removes_only_the_run() {
    let folder = Folder::new("only_the_run");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out", "a", "--steps", "20"]));
    let at = |name: &str| folder.path(&format!("a/checkpoints/{name}"));
    // A copy that a user keeps, one under a name that the run uses, one with a note in it, one of another run.
    folder.ok(&small(&["--out", "b", "--steps", "5"]));
    for (from, to) in [("a/checkpoints/step-20", "step-20-keep"), ("a/checkpoints/step-20", "step-777"), ("b/checkpoints/step-5", "step-5")]
    {
        copy(&folder.path(from), &at(to));
    }
    fs::rename(at("step-10"), at("step-11")).unwrap();
    copy(&at("step-20"), &at("step-10"));
    folder.write("a/notes.txt", "mine");
    folder.write("a/checkpoints/step-20/notes.txt", "mine");
    let mine = |files: std::collections::BTreeMap<std::path::PathBuf, Option<Vec<u8>>>| -> Vec<_> {
        let kept = ["keep", "777", "step-5", "step-10", "step-11", "notes.txt"];
        files.into_iter().filter(|(path, _)| kept.iter().any(|name| path.to_str().unwrap().contains(name))).collect()
    };
    let before = mine(folder.files());
    assert_eq!(before.len(), 6 * 7 + 2, "{:?}", before.iter().map(|(path, _)| path).collect::<Vec<_>>());
    folder.ok(&small(&["--out", "a", "--overwrite", "--steps", "7"]));
    assert!(mine(folder.files()) == before, "what the user made was changed");
    let left = names(&folder, "a/checkpoints");
    assert_eq!(left, ["best", "latest", "step-10", "step-11", "step-20", "step-20-keep", "step-5", "step-7", "step-777"]);
    assert_eq!(folder.read("a/checkpoints/latest"), "step-7\n");
    folder.ok(&small(&["--out", "a", "--resume", "--steps", "9"]));
    assert!(mine(folder.files()) == before, "what the user made was changed");
}

/// Everything is checked before the old run is removed, and the new one has its first checkpoint by then.
#[test]
fn a_run_that_cannot_begin_leaves_the_one_that_is_there() {
    let folder = Folder::with_toy("cannot_begin");
    let overwrite = |more: &[&'static str]| [&["train", "--quiet", "--preset", "toy", "--overwrite"], more].concat();
    folder.refused(2, &overwrite(&["--steps", "0"]), &["train.steps = 0"]);
    folder.refused(2, &overwrite(&["--steps", "9223372036854775808"]), &["train.steps = 9223372036854775808"]);
    folder.refused(2, &overwrite(&["--set=model.n_head=3"]), &["model.n_head = 3"]);
    folder.refused(2, &overwrite(&["--adapter", "99"]), &["adapter 99"]);
    folder.refused(1, &overwrite(&["--data", "missing.txt"]), &["missing.txt"]);
    folder.refused(1, &overwrite(&["--init", "nowhere"]), &["nowhere", "no such run"]);
    folder.refused(1, &overwrite(&["--limits=baseline", "--set=model.d_model=8192", "--set=model.n_head=64"]), &["this adapter allows"]);
    fs::rename(folder.path("runs/toy/metrics.jsonl"), folder.path("away")).unwrap();
    fs::create_dir(folder.path("runs/toy/metrics.jsonl")).unwrap();
    folder.refused(1, &overwrite(&[]), &["runs/toy/metrics.jsonl", "not a regular file"]);
    fs::remove_dir(folder.path("runs/toy/metrics.jsonl")).unwrap();
    fs::rename(folder.path("away"), folder.path("runs/toy/metrics.jsonl")).unwrap();

    // A disk that is full from some operation on, up to the operation that names the first checkpoint.
    copy(&folder.path("runs"), &folder.path("copy"));
    let log = folder.path("log");
    let done = Done::from(folder.command(&overwrite(&["--steps", "1", "--out", "copy/toy"])).env("WGPT_FAULT_LOG", &log).output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    let operations = folder.read("log");
    let named = 1 + operations.lines().position(|line| line.ends_with("rename to copy/toy/checkpoints/latest")).expect(&operations);
    let run = |files: std::collections::BTreeMap<std::path::PathBuf, Option<Vec<u8>>>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| path.starts_with(folder.path("runs")) && !path.ends_with(".wgpt.lock")).collect()
    };
    let before = run(folder.files());
    for from in [1, named / 3, 2 * named / 3, named - 1, named] {
        let fault = format!("full:{from}");
        let done = Done::from(folder.command(&overwrite(&["--steps", "1"])).env("WGPT_FAULT", &fault).output().unwrap());
        assert!(done.code == 1 && done.stderr.contains("no space left"), "{fault} of {named}: {done:?}");
        // The new checkpoint may stay, as its removal fails too. Nothing names it.
        let after: Vec<_> = run(folder.files()).into_iter().filter(|(path, _)| !path.to_str().unwrap().contains("/step-0")).collect();
        assert!(after == before, "{fault} of {named}: {:?}", after.iter().map(|(path, _)| path).collect::<Vec<_>>());
    }
}

#[test]
fn as_many_checkpoints_stay_as_are_wanted() {
    let folder = Folder::new("keep");
    folder.write("text.txt", text());
    let every = "--set=train.checkpoint_every=2";
    folder.ok(&small(&["--out", "a", "--steps", "10", every]));
    assert_eq!(names(&folder, "a/checkpoints"), ["best", "latest", "step-10", "step-8"]);
    folder.ok(&small(&["--out", "a", "--steps", "14", every, "--keep", "4", "--resume"]));
    assert_eq!(names(&folder, "a/checkpoints"), ["best", "latest", "step-10", "step-12", "step-14", "step-8"]);
    folder.ok(&small(&["--out", "a", "--steps", "15", every, "--keep", "1", "--resume"]));
    assert_eq!(names(&folder, "a/checkpoints").len(), 2 + if folder.read("a/checkpoints/best") == "step-15\n" { 1 } else { 2 });
    folder.refused(2, &small(&["--out", "b", "--keep", "0"]), &["train.keep_checkpoints = 0", "at least 1"]);
}

/// How a run is started.
const WAYS: [&[&str]; 4] = [&[], &["--next-free"], &["--resume"], &["--overwrite"]];

struct Started {
    way: &'static [&'static str],
    child: Child,
}

fn start(folder: &Folder, way: &'static [&'static str], steps: &str) -> Started {
    let args = [&["train", "--preset", "toy", "--quiet", "--json", "--set", "train.checkpoint_every=0", "--steps", steps], way].concat();
    let child = folder.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    Started { way, child }
}

impl Started {
    fn end(self) -> Done {
        Done::from(self.child.wait_with_output().unwrap())
    }
}

/// A run that succeeded is complete in its folder; one that failed says why in one line.
fn check(folder: &Folder, ended: &[(&'static [&'static str], Done)]) {
    let results: Vec<(Option<Value>, String)> = ended
        .iter()
        .map(|(way, done)| {
            if done.code != 0 {
                let refused = ["is in use by process ", "holds a run", "without --resume", "steps already"]
                    .iter()
                    .any(|why| done.stderr.contains(why));
                assert!(refused && done.stderr.trim_end().lines().count() == 1, "{way:?}: {done:?}");
                return (None, String::new());
            }
            let (records, result) = done.stdout.trim_end().rsplit_once('\n').unwrap_or(("", done.stdout.trim_end()));
            (Some(serde_json::from_str(result).unwrap()), records.to_owned())
        })
        .collect();
    for run in results.iter().filter_map(|(result, _)| result.as_ref().map(|result| result["run"].as_str().unwrap().to_owned())) {
        // If both succeeded in one folder, one came after the other: the folder holds what that one left.
        let last = results.iter().filter(|(result, _)| result.as_ref().is_some_and(|result| result["run"] == run.as_str())).any(
            |(result, records)| {
                let step = &result.as_ref().unwrap()["step"];
                let named = folder.read(&format!("{run}/checkpoints/latest")) == format!("step-{step}\n");
                named && folder.read(&format!("{run}/metrics.jsonl")).trim_end().ends_with(records.trim_end())
            },
        );
        assert!(last, "{run} is nobody's: {ended:?}");
        let checkpoint = folder.path(&run).join("checkpoints").join(folder.read(&format!("{run}/checkpoints/latest")).trim());
        Manifest::find(&checkpoint).unwrap().unwrap().check_all(&checkpoint).unwrap();
    }
}

#[test]
fn two_runs_started_at_once_never_share_a_folder() {
    for there in [false, true] {
        let pairs = WAYS.iter().enumerate().flat_map(|(at, first)| WAYS[at..].iter().map(move |second| [*first, *second]));
        for (number, pair) in pairs.enumerate() {
            let name = format!("at_once_{there}_{number}");
            let folder = if there { Folder::with_toy(&name) } else { Folder::new(&name) };
            let steps = if there { ["310", "305"] } else { ["10", "5"] };
            let started = [0, 1].map(|n| start(&folder, pair[n], steps[n]));
            let ended = started.map(|started| (started.way, started.end()));
            check(&folder, &ended);
            // A run that exists is not started, one that does not exist is not resumed.
            let never = if there { WAYS[0] } else { WAYS[2] };
            let well = ended.iter().filter(|(_, done)| done.code == 0).count();
            assert!(if pair == [never; 2] { well == 0 } else { well > 0 }, "{ended:?}");
            fs::remove_dir_all(&folder.0).unwrap();
        }
    }
}

/// While one process trains, the other is told which process that is, or uses another folder; nothing of the first is touched.
#[cfg(unix)]
#[test]
fn a_folder_in_use_is_refused_by_the_name_of_who_has_it() {
    let folder = Folder::with_toy("in_use");
    let mut first = start(&folder, WAYS[2], "100000000");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !folder.read("runs/toy/metrics.jsonl").contains("\"step\":310,") {
        assert!(
            Instant::now() < deadline && first.child.try_wait().unwrap().is_none(),
            "no step within two minutes: {:?}",
            first.child.kill()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let checkpoint = folder.files().into_iter().filter(|(path, _)| path.to_str().unwrap().contains("step-300")).collect::<Vec<_>>();
    let holder = format!("runs/toy is in use by process {} on ", first.child.id());
    for way in [WAYS[0], WAYS[2], WAYS[3]] {
        let done = start(&folder, way, "400").end();
        let words = if way.is_empty() { "holds a run" } else { &holder };
        assert!(done.code == 2 && done.stderr.contains(words) && done.stderr.lines().count() == 1, "{way:?}: {done:?}");
        assert!(way.is_empty() || done.stderr.contains(" since 20"), "{done:?}");
    }
    let done = start(&folder, WAYS[1], "3").end();
    assert!(done.code == 0 && done.stdout.contains("runs/toy-2"), "{done:?}");
    folder.ok(&["predict", "--run", "runs/toy", "hello"]);
    for (path, content) in checkpoint {
        assert!(content.is_none() || fs::read(&path).ok() == content, "{} was touched", path.display());
    }
    // The lock is released with the process, however it ends.
    first.child.kill().unwrap();
    first.end();
    folder.ok(&["train", "--preset", "toy", "--quiet", "--resume", "--steps", "302"]);
}
