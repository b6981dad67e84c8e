use std::path::Path;

use super::*;

fn refusal(text: &str) -> String {
    RunConfig::from_toml(text, Path::new("run.toml")).unwrap_err().to_string()
}

fn set(assignment: &str) -> String {
    let mut config = RunConfig::default();
    let refused = config.set(assignment).unwrap_err().to_string();
    assert_eq!(config, RunConfig::default(), "a refused {assignment} left its mark");
    refused
}

#[test]
fn keys_left_out_stay() {
    let config = RunConfig::from_toml("[train]\nsteps = 7\nlearning_rate = 1", Path::new("run.toml")).unwrap();
    let train = TrainConfig { steps: 7, learning_rate: 1.0, ..RunConfig::default().train };
    assert_eq!(config, RunConfig { train, ..RunConfig::default() });
    assert_eq!(RunConfig::from_toml("", Path::new("run.toml")).unwrap(), RunConfig::default());
    let mut small = RunConfig { model: ModelConfig { d_model: 16, ..ModelConfig::default() }, ..RunConfig::default() };
    small.overlay("model.n_layer = 3", Path::new("run.toml")).unwrap();
    assert_eq!((small.model.n_layer, small.model.d_model), (3, 16));
}

#[test]
fn files_are_refused_by_line_and_key() {
    let cases = [
        ("[train]\nsteps = 5\nlerning_rate = 1e-3", "line 3: unknown key `lerning_rate` in [train]: did you mean `learning_rate`?"),
        ("\n[trian]\nsteps = 5", "line 2: unknown section `trian`: did you mean `train`?"),
        ("\n[trian]", "line 2: unknown section `trian`: did you mean `train`?"),
        ("steps = 5", "line 1: `steps` is in no section: did you mean `train.steps`?"),
        ("[[train]]", "line 1: `train` is a section, it takes no value"),
        ("[train]\n\nsteps = \"many\"", "line 3: train.steps = \"many\": needs a whole number, 0 or more"),
        ("[train]\nsteps = -1", "line 2: train.steps = -1: needs a whole number, 0 or more"),
        ("[train]\nsteps = 1.5", "line 2: train.steps = 1.5: needs a whole number, 0 or more"),
        ("[train]\noptimizer = \"adam\"", "line 2: train.optimizer = \"adam\": needs `adamw` or `sgd`"),
        ("[train]\nstorage = \"fp16\"", "line 2: train.storage = \"fp16\": needs one of `f32`, `bf16`, `f16`"),
        ("[train]\nschedule = \"cos\"", "line 2: train.schedule = \"cos\": needs one of `constant`, `cosine`, `linear`"),
        ("[model]\nbias = 1", "line 2: model.bias = 1: needs true or false"),
        ("[train]\nseed = 99999999999999999999", "line 2: train.seed = 99999999999999999999: needs at most 9223372036854775807"),
        ("[train]\nseed = 9_223_372_036_854_775_808", "line 2: train.seed = 9_223_372_036_854_775_808: needs at most 9223372036854775807"),
        ("[train]\nseed = 0xffff_ffff_ffff_ffff", "line 2: train.seed = 0xffff_ffff_ffff_ffff: needs at most 9223372036854775807"),
        ("[train]\nseed = -99999999999999999999", "line 2: train.seed = -99999999999999999999: needs a whole number, 0 or more"),
        ("[train]\nsead = 99999999999999999999", "line 2: unknown key `sead` in [train]: did you mean `seed`?"),
        ("seed = 99999999999999999999", "line 1: `seed` is in no section: did you mean `train.seed`?"),
        ("[train]\neps = 1e999", "line 2: train.eps = 1e999: needs a number that 64-bit floats can hold"),
        (
            "[train]\neps = 99999999999999999999",
            "line 2: train.eps = 99999999999999999999: needs a decimal point or an exponent at this size, as in 1e20",
        ),
        ("[model]\nbias = 99999999999999999999", "line 2: model.bias = 99999999999999999999: needs true or false"),
        ("[data]\nfiles = [99999999999999999999]", "line 2: data.files = [99999999999999999999]: needs a list of strings"),
        ("[data]\nfiles = \"a\"", "line 2: data.files = \"a\": needs a list of strings"),
        ("[data]\nfiles = [1]", "line 2: data.files = [1]: needs a list of strings"),
        ("[model.n_head]\nx = 1", "line 1: model.n_head = { x = 1 }: needs a whole number, 0 or more"),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), format!("run.toml: {expected}"), "{text}");
    }
    let syntax = ["[train]\nsteps = ", "[train]\nsteps == 5", "[train]\nsteps = 1\nsteps = 2"].map(refusal);
    assert!(syntax[0].starts_with("run.toml: line 2: "), "{syntax:?}");
    assert!(syntax[1].starts_with("run.toml: line 2: "), "{syntax:?}");
    assert!(syntax[2].starts_with("run.toml: line 3: duplicate key"), "{syntax:?}");
    assert!(syntax.iter().all(|message| !message.contains('\n')), "{syntax:?}");
}

#[test]
fn set_reads_the_type_of_the_key() {
    let mut config = RunConfig::default();
    let assignments =
        "train.steps=2_000 train.learning_rate=1 model.bias=false model.position=learned data.files=a.txt,b.txt tokenizer.path=\"x=y\"";
    assignments.split(' ').for_each(|a| config.set(a).unwrap());
    config.set(" train.optimizer = sgd ").unwrap();
    assert_eq!((config.train.steps, config.train.learning_rate, config.model.bias), (2000, 1.0, false));
    assert_eq!((config.train.optimizer, config.tokenizer.path.as_str()), (Optimizer::Sgd, "x=y"));
    assert_eq!(config.model.position, crate::model::config::PositionEncoding::Learned);
    assert_eq!(config.data.files, ["a.txt", "b.txt"]);
    config.set("data.files=[\"a,b.txt\"]").unwrap();
    assert_eq!(config.data.files, ["a,b.txt"]);
    config.set("data.files='a.txt',\"b.txt\"").unwrap();
    assert_eq!(config.data.files, ["a.txt", "b.txt"]);
    config.set("tokenizer.path='it's'").unwrap();
    assert_eq!(config.tokenizer.path, "it's");
    config.set("data.files=").unwrap();
    assert!(config.data.files.is_empty());
}

#[test]
fn set_refuses_with_the_way_out() {
    assert_eq!(set("train.steps"), "`train.steps` is not an assignment: write section.key=value, such as train.steps=2000");
    assert_eq!(set("step=5"), "`step` is in no section: did you mean `train.steps`?");
    assert_eq!(set("train=5"), "`train` is a section, it takes no value");
    assert_eq!(set("trian.steps=5"), "unknown section `trian`: did you mean `train`?");
    assert_eq!(set("train.stesp=5"), "unknown key `stesp` in [train]: did you mean `steps`?");
    assert_eq!(set("train.steps=many"), "train.steps = many: needs a whole number, 0 or more");
    assert_eq!(set("train.steps=-5"), "train.steps = -5: needs a whole number, 0 or more");
    assert_eq!(set("train.steps=9223372036854775808"), "train.steps = 9223372036854775808: needs at most 9223372036854775807");
    assert_eq!(set("train.steps=1e3"), "train.steps = 1e3: needs a whole number, 0 or more");
    assert_eq!(set("train.eps=small"), "train.eps = small: needs a number");
    assert_eq!(set("model.bias=yes"), "model.bias = yes: needs true or false");
    assert_eq!(set("train.optimizer=adam"), "train.optimizer = \"adam\": needs `adamw` or `sgd`");
    assert_eq!(set("data.files=[a"), "data.files = [a: needs a list of strings");
}

#[test]
fn names_what_differs() {
    let old = RunConfig::default();
    assert!(old.differences(&old).unwrap().is_empty());
    let mut new = old.clone();
    ["train.steps=9", "model.norm=post", "data.files=a"].iter().for_each(|a| new.set(a).unwrap());
    let differences = old.differences(&new).unwrap();
    let lines: Vec<String> = differences.iter().map(|(key, old, new)| format!("{key} {old} {new}")).collect();
    assert_eq!(lines[1..], ["model.norm \"pre\" \"post\"", &format!("train.steps {} 9", old.train.steps)]);
    assert!(lines[0].starts_with("data.files ") && lines[0].ends_with(" [\"a\"]"), "{lines:?}");
    let free: Vec<bool> = differences.iter().map(|(key, ..)| may_change_on_resume(key)).collect();
    assert_eq!(free, [true, false, true], "what is in the files is compared elsewhere");
}

#[test]
fn what_resume_may_change_exists() {
    let mut old = RunConfig::default();
    for key in ["steps", "eval_every", "eval_batches", "checkpoint_every", "log_every"] {
        old.set(&format!("train.{key}=12345")).unwrap();
    }
    let changed = RunConfig::default().differences(&old).unwrap();
    assert_eq!(changed.iter().filter(|(key, ..)| may_change_on_resume(key)).count(), 5);
}

#[test]
fn a_number_too_large_for_toml_is_an_error() {
    let mut config = RunConfig::default();
    config.train.seed = u64::MAX;
    assert!(config.to_toml().is_err() && config.set("train.steps=5").is_err());
    assert!(config.differences(&RunConfig::default()).is_err());
}
