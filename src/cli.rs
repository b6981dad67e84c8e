//! The command line: arguments in, text or JSON out. The only module that reads arguments and prints.
//!
//! One file per subcommand. Results go to stdout, as text or with `--json` as JSON; progress, notices and errors go to stderr. An error is
//! one line. The exit code is 2 for a usage error, 1 for any other failure, 130 for a run stopped by Ctrl-C.

mod advice;
mod bench;
mod corpus;
mod data_report;
mod devices;
mod environment;
mod eval;
mod generate;
mod host_memory;
mod interrupt;
mod output;
mod pipeline_cache;
mod place;
mod predict;
mod profile;
mod progress;
mod run_folder;
mod selftest;
mod settings;
mod shaders;
mod tokenizer;
mod train;
mod train_config;
mod train_report;
mod tune;
mod variants;

use std::cell::RefCell;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result, bytes, excerpt, shell_word};
use crate::gpu::Gpu;
use crate::gpu::adapter::Request;
use output::Output;
use pipeline_cache::PipelineCache;

#[derive(Debug, Parser)]
#[command(name = "wgpt", version, about = "Trains and runs GPT-style language models on any GPU that wgpu supports", after_help = EXAMPLES)]
#[command(disable_help_flag = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: CliCommand,
}

const EXAMPLES: &str = "\
Examples:
  wgpt train                         the default preset, on the bundled Shakespeare text
  wgpt train --preset toy            a minimal example: six words, a few seconds
  wgpt predict \"to be or not to\"     the most likely next words, from the newest run
  wgpt generate --prompt \"My lord\" --tokens 50
  wgpt eval --data other.txt
  wgpt profile                       where the time of a training step goes
  wgpt bench                         what this adapter does, as a table to paste
  wgpt selftest                      whether this adapter and its driver compute what they should
  wgpt devices                       the adapters, and which one is used
  wgpt tune                          find the fastest kernels for this adapter and save them

`wgpt COMMAND --help` has examples of each command.
Exit codes: 0 success, 1 failure, 2 usage error, 130 stopped by Ctrl-C.";

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Adapter to use: its index in `wgpt devices` or part of its name
    #[arg(long, global = true, value_name = "INDEX-OR-NAME")]
    adapter: Option<String>,
    /// Use only adapters of this backend
    #[arg(long, global = true, value_name = "BACKEND")]
    backend: Option<Backend>,
    /// `baseline` uses only what every WebGPU device supports
    #[arg(long, global = true, value_name = "SET")]
    limits: Option<LimitsArg>,
    /// Read a checkpoint's files without verifying their checksums: for files that you edited on purpose
    #[arg(long, global = true)]
    no_verify: bool,
    /// Print results as JSON, one object or line each, and nothing else on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Print only results and errors: no progress, no notices
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Print help
    // The short form only: clap's long one fills screens with blank lines.
    #[arg(long, short, global = true, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Backend {
    Vulkan,
    Metal,
    Dx12,
    Gl,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LimitsArg {
    Baseline,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Train(train_config::Train),
    Predict(predict::Predict),
    Generate(generate::Generate),
    Eval(eval::Eval),
    Tokenizer(tokenizer::TokenizerArgs),
    Profile(profile::Profile),
    Bench(bench::BenchArgs),
    Selftest(selftest::SelftestArgs),
    Devices(devices::Devices),
    Tune(tune::Tune),
    Shaders(shaders::Shaders),
}

/// What every command receives besides its own arguments.
struct Context {
    request: Request,
    out: Output,
    /// Of the device that was opened last.
    pipelines: RefCell<Option<PipelineCache>>,
    /// Whether checkpoints are verified against their checksums.
    verify: bool,
}

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    Interrupted,
}

impl Context {
    fn new(global: Global) -> Context {
        let backend = global.backend.map(|backend| match backend {
            Backend::Vulkan => wgpu::Backend::Vulkan,
            Backend::Metal => wgpu::Backend::Metal,
            Backend::Dx12 => wgpu::Backend::Dx12,
            Backend::Gl => wgpu::Backend::Gl,
        });
        let baseline = matches!(global.limits, Some(LimitsArg::Baseline));
        let request = Request { adapter: global.adapter, backend, baseline, timestamps: false, experimental: true };
        Context { request, out: Output::new(global.json, global.quiet), pipelines: RefCell::default(), verify: !global.no_verify }
    }

    /// Opens the adapter that the user requested, or the best one, with the pipelines that earlier commands compiled on it.
    fn gpu(&self) -> Result<Gpu> {
        self.open(&self.request)
    }

    fn open(&self, request: &Request) -> Result<Gpu> {
        if let Some(limit) = environment::largest_file().filter(|limit| *limit < 1 << 30) {
            let found = format!("note: files are limited to {} (`ulimit -f`)", bytes(limit));
            // Mesa's llvmpipe since 24 does not check whether its file could grow, and is killed by SIGBUS.
            self.out.notice(&format!("{found}; a driver that keeps its memory in a file may crash the program without a message"));
        }
        let gpu = pollster::block_on(Gpu::request(request))?;
        self.pipelines.borrow_mut().get_or_insert_with(|| PipelineCache::open(&gpu));
        Ok(gpu)
    }

    /// As [`Context::gpu`], after the device opened last was lost; nothing keeps that one.
    fn gpu_again(&self) -> Result<Gpu> {
        self.pipelines.take();
        self.gpu()
    }

    /// Saves the pipelines compiled so far for the next command.
    fn save_pipelines(&self) {
        if let Some(cache) = self.pipelines.borrow().as_ref() {
            cache.save();
        }
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    environment::settle();
    environment::let_large_files_fail();
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return refuse_arguments(&e),
    };
    let context = Context::new(global);
    let ended = match command {
        CliCommand::Train(args) => train::run(args, &context),
        CliCommand::Predict(args) => predict::run(args, &context),
        CliCommand::Generate(args) => generate::run(args, &context),
        CliCommand::Eval(args) => eval::run(args, &context),
        CliCommand::Tokenizer(args) => tokenizer::run(args, &context),
        CliCommand::Profile(args) => profile::run(args, &context),
        CliCommand::Bench(args) => bench::run(args, &context),
        CliCommand::Selftest(args) => selftest::run(args, &context),
        CliCommand::Devices(args) => devices::run(args, &context),
        CliCommand::Tune(args) => tune::run(args, &context),
        CliCommand::Shaders(args) => shaders::run(args, &context),
    };
    if ended.is_ok() {
        context.save_pipelines();
    }
    exit_code(ended.and_then(|ended| context.out.finish().map(|()| ended)))
}

/// The program's exit code; prints the error, if there is one.
fn exit_code(ended: Result<Ended>) -> ExitCode {
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(error) => {
            output::error(&advice::message(&error));
            ExitCode::from(if matches!(error, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}

/// How to pass a text that begins with a hyphen, which clap took for an option.
fn text_hint(error: &clap::Error, args: Vec<String>) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    // If clap missed an option's value, the text follows that option; otherwise clap reports the text itself.
    let at = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(found))) => {
            let names =
                |arg: &String| arg == found || (found.starts_with('-') && !found.starts_with("--") && arg.starts_with(found.as_str()));
            args.iter().skip(1).position(names)? + 1
        }
        (ErrorKind::InvalidValue, Some(ContextValue::String(option))) => {
            args.iter().position(|arg| option.split(' ').next() == Some(arg)).filter(|at| at + 1 < args.len())? + 1
        }
        _ => return None,
    };
    let (before, text) = (args.get(at - 1)?, args.get(at)?);
    if !text.starts_with('-') {
        return None;
    }
    // A long text is not repeated.
    let word = if excerpt(text) == *text { shell_word(text) } else { "TEXT".to_owned() };
    match before.as_str() {
        option @ ("--prompt" | "--seed" | "--temperature" | "--top-p" | "--run" | "--out" | "--data" | "--init" | "--config" | "--set"
        | "--file" | "--tokenizer" | "--trace" | "--plot" | "--tuning" | "--adapter") => {
            Some(format!("; a value that begins with a hyphen is written {option}={word}"))
        }
        _ if text.contains(' ') => Some(format!("; a text that begins with a hyphen goes last, after two hyphens: -- {word}")),
        _ => None,
    }
}

/// A message of clap's as plain text, with long values and values with control characters shown as in all other messages.
fn plain(error: &clap::Error) -> String {
    // Rendered with its colours: without them clap also drops escapes in the user's values.
    let mut message = error.render().ansi().to_string();
    let args = std::env::args_os().skip(1).filter_map(|arg| arg.into_string().ok());
    let values = args.flat_map(|arg| arg.split_once('=').map(|(_, value)| value.to_owned()).into_iter().chain([arg]));
    let mut long: Vec<String> = values.filter(|value| excerpt(value) != value.as_str()).collect();
    // One value may be part of another.
    long.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for value in long {
        message = message.replace(&value, &excerpt(&value));
    }
    // A colour code extends from the escape to an `m`.
    let parts = message.split('\x1b').enumerate();
    parts.map(|(index, part)| if index == 0 { part } else { part.split_once('m').map_or(part, |(_, text)| text) }).collect()
}

/// Help and version are printed as clap writes them; an error becomes one line, with clap's tips and without its usage block.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    if error.exit_code() == 0 {
        return exit_code(output::print(|| error.print()).map(|()| Ended::Done));
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // To stderr.
        let _ = error.print();
        return ExitCode::from(error.exit_code() as u8);
    }
    if error.kind() == clap::error::ErrorKind::InvalidUtf8 {
        let broken: Vec<String> =
            std::env::args_os().filter(|arg| arg.to_str().is_none()).map(|arg| excerpt(&arg.to_string_lossy()).into_owned()).collect();
        output::error(&format!("{}: is not UTF-8, which is required here; a file can be renamed", broken.join(", ")));
        return ExitCode::from(2);
    }
    let text = plain(error);
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let message = lines.join("; ").replace(":; ", ": ");
    let message = message.trim_start_matches("error: ");
    let hint = text_hint(error, std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect()).unwrap_or_default();
    output::error(&format!("{message} (see `wgpt --help`){hint}"));
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use clap::CommandFactory;

    use super::*;
    use crate::model::ModelConfig;
    use crate::text::{DataConfig, TokenizerConfig};
    use crate::train::{RunConfig, TrainConfig};

    const COMMANDS: &str = include_str!("../docs/COMMANDS.md");
    const DOCS: [&str; 7] = [
        include_str!("../README.md"),
        COMMANDS,
        include_str!("../docs/EMBEDDING.md"),
        include_str!("../docs/PERFORMANCE.md"),
        include_str!("../docs/PROFILING.md"),
        include_str!("../docs/TRAINING.md"),
        include_str!("../docs/CONTRIBUTING.md"),
    ];

    /// Every `--name` in a text.
    fn flags(text: &str) -> BTreeSet<String> {
        let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect::<String>();
        let after = text.match_indices("--").filter(|(at, _)| !text[..*at].ends_with('-')).map(|(at, _)| name(&text[at + 2..]));
        after.filter(|name| name.len() > 1 && !name.starts_with('-')).collect()
    }

    /// The long options of a command that are its own.
    fn own(command: &clap::Command) -> BTreeSet<String> {
        let named = command.get_arguments().filter(|arg| !arg.is_global_set());
        named.filter_map(|arg| Some(arg.get_long()?.to_owned())).filter(|name| !["help", "version"].contains(&name.as_str())).collect()
    }

    /// `train`, `tokenizer encode`, with their options.
    fn commands() -> Vec<(String, BTreeSet<String>)> {
        let cli = Cli::command();
        let with_parts = |command: &clap::Command| {
            let name = command.get_name().to_owned();
            let parts: Vec<_> = command.get_subcommands().map(|part| (format!("{name} {}", part.get_name()), own(part))).collect();
            if parts.is_empty() { vec![(name, own(command))] } else { parts }
        };
        cli.get_subcommands().flat_map(with_parts).collect()
    }

    #[test]
    fn commands_md_has_every_option_of_every_command_and_no_other() {
        let shared = flags("--variant --tuning --ignore-selftest");
        let paragraph = COMMANDS.split("\n\n").find(|text| text.contains("All commands take")).unwrap();
        let sentence = paragraph.split_once("take").unwrap().0;
        for (name, options) in commands() {
            let row = COMMANDS
                .lines()
                .find_map(|line| line.strip_prefix(&format!("| `wgpt {name}")))
                .unwrap_or_else(|| panic!("no row of {name}"));
            let usage = row.split_once("` | ").unwrap().0;
            assert_eq!(flags(usage), &options - &shared, "the row of `wgpt {name}`, then its --help");
            assert_eq!(sentence.contains(&format!("`{name}`")), options.is_superset(&shared), "{name} in: {sentence}");
        }
        let global: BTreeSet<String> =
            Global::augment_args(clap::Command::new("")).get_arguments().map(|arg| arg.get_long().unwrap().to_owned()).collect();
        let named = flags(paragraph);
        assert!(global.iter().filter(|name| *name != "help").all(|name| named.contains(name)), "{global:?} {paragraph}");
    }

    #[test]
    fn commands_md_has_every_setting_with_its_default() {
        let (model, train) = (ModelConfig::default(), TrainConfig::default());
        let config = RunConfig { model, train, tokenizer: TokenizerConfig::default(), data: DataConfig::default() };
        let tree = serde_json::to_value(&config).unwrap();
        let rows: BTreeMap<String, String> = COMMANDS.lines().filter_map(|line| row(line, &tree)).flatten().collect();
        let keys = tree.as_object().unwrap().iter().flat_map(|(section, keys)| {
            keys.as_object().unwrap().iter().map(move |(key, value)| (format!("{section}.{key}"), value.clone()))
        });
        let defaults: BTreeMap<String, String> = keys.map(|(key, value)| (key, shown(&value))).collect();
        for (key, default) in &defaults {
            let row = rows.get(key).unwrap_or_else(|| panic!("the settings of docs/COMMANDS.md have no row of `{key}`, default {default}"));
            assert_eq!(row, default, "the default of `{key}` in docs/COMMANDS.md, then in the code");
        }
        for key in rows.keys() {
            assert!(defaults.contains_key(key), "docs/COMMANDS.md has a row of `{key}`, which is no setting");
        }
    }

    /// The settings of a row of the table, with their defaults.
    fn row(line: &str, tree: &serde_json::Value) -> Option<Vec<(String, String)>> {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let (keys, defaults) = (cells.next()?, cells.next()?);
        let words = |cell: &str| cell.replace('`', "").split(',').map(|word| word.trim().to_owned()).collect::<Vec<String>>();
        let keys = words(keys);
        tree.get(keys[0].split_once('.')?.0)?;
        Some(keys.into_iter().zip(words(defaults)).collect())
    }

    /// A default as the table has it.
    fn shown(value: &serde_json::Value) -> String {
        match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(values) if values.is_empty() => String::new(),
            other => other.to_string(),
        }
    }

    #[test]
    fn the_docs_name_no_option_that_is_not_there() {
        let mut known: BTreeSet<String> = commands().into_iter().flat_map(|(_, options)| options).collect();
        known.extend(Global::augment_args(clap::Command::new("")).get_arguments().map(|arg| arg.get_long().unwrap().to_owned()));
        // Options of cargo, the benches and vendors' tools.
        known.extend(
            ["release", "bench", "record", "open", "isa", "livereg", "comp", "target-env", "example", "features", "profile", "test", "lib"]
                .map(str::to_owned),
        );
        for text in DOCS {
            assert_eq!(flags(text).difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
        }
    }
}
