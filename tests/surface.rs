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

/// The types that a file declares, by the lines that open them; WGSL within strings does not end a line with a brace.
fn types(source: &str) -> Vec<String> {
    let declared = |line: &str| {
        let item = line.trim_start();
        let item = item.strip_prefix("pub").map_or(item, |rest| rest.split_once(' ').map_or("", |(_, item)| item));
        let (kind, rest) = item.split_once(' ')?;
        let opened = matches!(line.chars().last(), Some('{' | ';' | '}'));
        (["struct", "enum", "trait"].contains(&kind) && opened)
            .then(|| rest.chars().take_while(|c| c.is_alphanumeric()).collect::<String>())
    };
    source.lines().filter_map(declared).collect()
}

fn visit(folder: &std::path::Path, each: &mut dyn FnMut(&std::path::Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { visit(&path, each) } else { each(&path) }
    }
}

/// One name, one thing: whoever searches for a type finds one.
#[test]
fn no_two_types_share_a_name() {
    let mut files: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    visit(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path| {
        for name in types(&std::fs::read_to_string(path).unwrap()) {
            files.entry(name).or_default().push(path.display().to_string());
        }
    });
    assert!(files.len() > 150, "only {} types were found", files.len());
    let shared: Vec<_> = files.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(shared.is_empty(), "declared more than once: {shared:#?}");
}
