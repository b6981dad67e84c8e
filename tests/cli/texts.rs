//! Users' own texts: the tokenizer that is chosen, how much of them is unknown, and whether they are still what a run was trained on.

use std::fs;

use crate::support::{Folder, SMALL, small, text};

/// The default preset, small and short.
const TINY: &[&str] = &[
    "train",
    "--set=model.n_layer=1",
    "--set=model.n_head=2",
    "--set=model.d_model=16",
    "--set=model.seq_len=8",
    "--set=train.batch_size=4",
    "--set=train.warmup_steps=0",
    "--steps=2",
];

fn tiny<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [TINY, more].concat()
}

const CYRILLIC: &str = "Как хороши, как свежи были розы в моём саду!\n";

#[test]
fn ones_own_text_gets_a_tokenizer_that_fits_it() {
    let folder = Folder::new("fitting");
    folder.write("english.txt", text());
    let chinese: String = (0..3000u32).filter_map(|i| char::from_u32(0x4e00 + i * i % 97)).collect();
    folder.write("chinese.txt", chinese);
    for (file, kind, why) in [("english.txt", "bpe", "its words occur "), ("chinese.txt", "character", "no white space")] {
        let run = format!("runs/{kind}");
        let done = folder.run(&tiny(&["--data", file, "--out", &run]));
        assert_eq!(done.code, 0, "{done:?}");
        let said = format!("; {kind} tokenizer with ");
        for words in [&said, "chosen for this text as", why] {
            assert!(done.stderr.contains(words), "no `{words}` in: {}", done.stderr);
        }
        assert!(!done.stderr.contains("UNK"), "{}", done.stderr);
        let config = folder.read(&format!("{run}/config.toml"));
        assert!(config.contains(&format!("kind = \"{kind}\"")) && config.contains(folder.path(file).to_str().unwrap()), "{config}");
        // The same command line resumes it.
        folder.ok(&tiny(&["--data", file, "--out", &run, "--resume", "--steps=3", "--quiet"])
            .into_iter()
            .filter(|a| *a != "--steps=2")
            .collect::<Vec<_>>());
    }
    // A kind that is named is used, whatever the preset says about another kind.
    for kind in ["word", "character", "bpe"] {
        let set = format!("--set=tokenizer.kind={kind}");
        let size = if kind == "bpe" { "--set=tokenizer.max_vocab=300" } else { "--set=tokenizer.min_count=1" };
        let done = folder.run(&tiny(&["--data=english.txt", &set, size, "--next-free", "--out=runs/named"]));
        assert!(done.code == 0 && done.stderr.contains(&format!("; {kind} tokenizer with ")), "{done:?}");
    }
    let config = folder.read("runs/named/config.toml");
    assert!(config.contains("punctuation = true"), "words as the default preset takes them: {config}");
}

#[test]
fn unknown_words_are_told_and_a_text_of_them_is_refused() {
    let folder = Folder::with_toy("unknown");
    let list: String = (0..1000).map(|i| format!("word{i}\n")).collect();
    folder.write("list.txt", list);
    folder.write("cyrillic.txt", CYRILLIC.repeat(20));
    let words = tiny(&["--preset=shakespeare-word", "--data=list.txt", "--out=runs/list"]);
    folder.refused(2, &words, &["0.0 % of the training and 100.0 % of the validation", "--set tokenizer.kind=auto", "--allow-unknown"]);
    let init = ["train", "--init=runs/toy", "--data=cyrillic.txt", "--out=runs/tuned", "--steps=2"];
    folder.refused(2, &init, &["100.0 % of the training", "without --init", "--allow-unknown"]);
    // The advice in the messages works.
    let done = folder.run(&[&words[..], &["--set=tokenizer.kind=auto"]].concat());
    assert!(done.code == 0 && done.stderr.contains("character tokenizer") && !done.stderr.contains("<UNK>"), "{done:?}");
    let done = folder.run(&[&init[..], &["--allow-unknown"]].concat());
    assert!(done.code == 0 && done.stderr.contains("WARNING   much of the text is <UNK>"), "{done:?}");
    // A run that was confirmed once needs no second confirmation.
    folder.ok(&["train", "--quiet", "--out=runs/tuned", "--resume", "--steps=3"]);
    // A smaller share causes a warning only.
    folder.write(
        "some.txt",
        format!("{}{}", "one two three four five six seven eight nine ten\n".repeat(30), "one two three four new\n".repeat(8)),
    );
    let done = folder.run(&tiny(&["--preset=shakespeare-word", "--data=some.txt", "--out=runs/some"]));
    assert!(done.code == 0 && done.stderr.contains("0.0 % of the training and 22.2 % of the validation tokens are <UNK>"), "{done:?}");
    assert!(done.stderr.contains("WARNING   much of the text is <UNK>"), "{done:?}");
}

#[test]
fn init_refuses_another_tokenizer_and_says_so() {
    let folder = Folder::with_toy("init_tokenizer");
    let init = |set: &'static str| ["train", "--init", "runs/toy", "--out", "runs/new", "--steps=2", set];
    folder.refused(
        2,
        &init("--set=tokenizer.kind=character"),
        &["tokenizer.kind = \"character\" (the run has \"word\")", "without --init"],
    );
    folder.refused(2, &init("--set=tokenizer.max_vocab=5"), &["tokenizer.max_vocab = 5 (the run has 0)"]);
    folder.ok(&init("--set=tokenizer.kind=auto"));
}

#[test]
fn tokens_of_any_tokenizer_start_a_run() {
    let folder = Folder::new("char_tokens");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out=runs/a", "--steps=1"]));
    folder.ok(&["tokenizer", "encode", "--file=text.txt", "--out=text.tokens"]);
    let tokens: Vec<&str> =
        SMALL.iter().copied().filter(|arg| *arg != "--data=text.txt").chain(["--data=text.tokens", "--steps=1"]).collect();
    let refused = [&tokens[..], &["--out=runs/b"]].concat();
    folder.refused(1, &refused, &["text.tokens", "--set tokenizer.path=FILE", "checkpoint"]);
    let path = ["--set=tokenizer.path=runs/a/checkpoints/step-1/tokenizer.json", "--out=runs/b"];
    folder.ok(&[&tokens[..], &path].concat());
    folder.ok(&tiny(&["--data=text.tokens", path[0], "--out=runs/c"]));
    let weights = |run: &str| fs::read(folder.path(run).join("checkpoints/step-1/model.safetensors")).unwrap();
    assert!(weights("runs/a") == weights("runs/b"), "the same tokens make other weights");
    assert!(folder.read("runs/c/config.toml").contains("kind = \"character\""));
}

#[test]
fn eval_measures_what_the_run_was_trained_on_or_says_that_it_cannot() {
    let folder = Folder::new("eval_what");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out", "runs/a", "--steps", "2"]));
    let done = folder.run(&["eval"]);
    assert!(done.stderr.contains("runs/a, step 2 on the run's validation split, the last 10 % of text.txt"), "{done:?}");
    // From another folder the run finds the same file, not another file of that name.
    fs::create_dir(folder.path("elsewhere")).unwrap();
    folder.write("elsewhere/text.txt", "another text\n".repeat(100));
    let away = |args: &[&str]| {
        let mut command = folder.command(args);
        crate::support::Done::from(command.current_dir(folder.path("elsewhere")).output().unwrap())
    };
    let there = away(&["eval", "--run", "../runs/a"]);
    assert_eq!((there.code, &there.stdout), (0, &done.stdout), "{there:?}");
    assert!(there.stderr.contains(folder.path("text.txt").to_str().unwrap()), "{there:?}");
    let resumed = away(&["train", "--quiet", "--out", "../runs/a", "--resume", "--steps", "4"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    // A text that was moved is accepted by --data if it is the same.
    fs::rename(folder.path("text.txt"), folder.path("moved.txt")).unwrap();
    folder.refused(1, &["eval"], &["text.txt: no such file", "--data"]);
    folder.refused(1, &["train", "--quiet", "--out=runs/a", "--resume"], &["text.txt", "no such file"]);
    folder.ok(&["train", "--quiet", "--out=runs/a", "--resume", "--data=moved.txt", "--steps=6"]);
    assert_eq!(folder.run(&["eval"]).code, 0);
    // A text that was replaced is no longer evaluated as the run's own; a change in the validation part alone is detected too.
    folder.write("moved.txt", text().replace("the wind sleeps.\n", "the wind weeps!\n"));
    folder.refused(1, &["eval"], &["moved.txt is not what the run was trained on", "checksum", "--data"]);
    let other = folder.run(&["eval", "--data", "moved.txt"]);
    assert!(other.code == 0 && other.stderr.contains("no bigram model") && other.stderr.contains(" on moved.txt"), "{other:?}");
    let last = text().trim_end().rsplit_once(' ').unwrap().0.to_owned() + " wakes!!\n";
    assert_eq!(last.len(), text().len());
    folder.write("moved.txt", last);
    folder.refused(1, &["train", "--quiet", "--out=runs/a", "--resume"], &["moved.txt is not what the run was trained on"]);
}

#[test]
fn white_space_is_no_text_to_a_word_model() {
    let folder = Folder::with_toy("blanks");
    folder.write("one.txt", "hello world how are you\n".repeat(9));
    folder.write("five.txt", "hello     world     how     are     you\n\n\n\n\n".repeat(9));
    let bits = |file: &str| folder.json(&["eval", "--data", file, "--json"])["bits_per_character"].as_f64().unwrap();
    assert_eq!(bits("one.txt"), bits("five.txt"));
    let figures = folder.json(&["eval", "--data", "one.txt", "--json"]);
    let nats = figures["loss"].as_f64().unwrap() * figures["tokens"].as_f64().unwrap();
    let characters = ("hello world how are you ".len() * 9 - 1) as f64;
    assert!((bits("one.txt") - nats / 2f64.ln() / characters).abs() < 1e-12);
    assert!(folder.ok(&["eval", "--data", "one.txt"]).contains("white space between words counted as one"));
}

#[test]
fn small_vocabularies_long_warm_ups_and_bent_schedules() {
    let folder = Folder::new("notices");
    folder.write("ab.txt", "abba".repeat(50));
    let train = [
        "train",
        "--data=ab.txt",
        "--out=runs/ab",
        "--steps=4",
        "--set=model.n_layer=1",
        "--set=model.d_model=16",
        "--set=model.seq_len=8",
    ];
    let done = folder.run(&[&train[..], &["--set=train.warmup_steps=4"]].concat());
    assert!(done.code == 0 && done.stderr.contains("WARNING   train.warmup_steps = 4 is not less than train.steps = "), "{done:?}");
    // Three tokens: a, b and <UNK>.
    assert_eq!(folder.ok(&["predict", "ab"]).lines().count(), 3);
    folder.refused(2, &["predict", "ab", "--top=5"], &["--top 5: needs 1 to 3"]);
    // A warm-up that reaches its peak later is not reported as a jump of the rate; a jump from the schedule's end is.
    assert!(!folder.run(&["train", "--out=runs/ab", "--resume", "--steps=8"]).stderr.contains("jumps"));
    let done = folder.run(&["train", "--out=runs/ab", "--resume", "--steps=100"]);
    assert!(done.code == 0 && done.stderr.contains("spans 100 steps now, not 8, so the learning rate jumps from "), "{done:?}");
    assert!(!folder.run(&["train", "--out=runs/ab", "--resume", "--steps=101"]).stderr.contains("jumps"));
}
