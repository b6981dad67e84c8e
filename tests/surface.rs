//! What the crate shows to applications: the names of its root.

use wgpt::{Batch, Budget, Corpus, DataConfig, Decoder, Error, Generator, Gpu, ModelConfig, Options, Request, RunConfig, Sampling};
use wgpt::{SharedWeights, Snapshot, StepReport, Ticket, Tokenizer, TokenizerConfig, TrainConfig, Trained, Trainer, View};

/// The names that the root declares: all `pub` items but the program's entry and the guide, which only the documentation has.
fn names(source: &str) -> Vec<String> {
    let items = source.lines().filter_map(|line| line.strip_prefix("pub "));
    let mut names: Vec<String> = items.flat_map(item).filter(|name| name != "cli" && name != "guide").collect();
    names.sort();
    names
}

/// The names of `use a::b::{C, D};` or `mod e {`.
fn item(item: &str) -> Vec<String> {
    let (_, path) = item.split_once(' ').expect("an item has a name");
    let last = path.rsplit("::").next().unwrap_or(path);
    last.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A name more is a promise more: extend the list on purpose.
#[test]
fn the_root_has_these_names_and_no_other() {
    let names = names(include_str!("../src/lib.rs"));
    println!("{} names: {}", names.len(), names.join(", "));
    let expected = [
        "Batch",
        "Budget",
        "Corpus",
        "DataConfig",
        "Decoder",
        "Error",
        "Generator",
        "Gpu",
        "ModelConfig",
        "Options",
        "Request",
        "Result",
        "RunConfig",
        "Sampling",
        "SharedWeights",
        "Snapshot",
        "StepReport",
        "Ticket",
        "Tokenizer",
        "TokenizerConfig",
        "TrainConfig",
        "Trained",
        "Trainer",
        "View",
        "block_on",
        "low_level",
        "phases",
        "presets",
        "save_run",
        "wgpu",
    ];
    assert_eq!(names, expected);
}

/// An application may build these on one thread and use them on another. (Futures: tests/guest/misuse.rs.)
#[test]
fn what_a_host_holds_is_send() {
    fn send<T: Send>() {}
    send::<(Batch, Budget, Corpus, DataConfig, Decoder, Error, Generator, Gpu)>();
    send::<(ModelConfig, Options, Request, RunConfig, Sampling, SharedWeights, Snapshot, StepReport)>();
    send::<(Ticket, Tokenizer, TokenizerConfig, TrainConfig, Trained, Trainer, View)>();
}
