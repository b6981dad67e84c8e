//! `wgpt tokenizer`: trains byte-level BPE, encodes text and decodes ids.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{self, count};
use super::run_folder::named_or_newest;
use super::{Context, Ended, place};
use crate::error::{Result, bytes};
use crate::files;
use crate::text::{Tokenizer, encode_file_to_tokens, read_text, train_bpe_files};
use crate::train::checkpoint::{self, Which};

/// Train a byte-level BPE tokenizer, encode text to token ids and decode them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wgpt tokenizer train --size 1024 --out bpe.json a.txt b.txt
  wgpt tokenizer encode --tokenizer bpe.json \"To be\"
  wgpt tokenizer encode --tokenizer bpe.json --file a.txt --out a.tokens
  wgpt tokenizer decode --tokenizer bpe.json 51,262
  wgpt train --preset shakespeare-char --set tokenizer.kind=bpe --set tokenizer.path=bpe.json --out runs/bpe")]
pub struct TokenizerArgs {
    #[command(subcommand)]
    command: TokenizerCommand,
}

#[derive(Debug, Subcommand)]
enum TokenizerCommand {
    /// Train a byte-level BPE tokenizer on texts
    Train(TrainBpe),
    /// Encode a text to token ids
    Encode(Encode),
    /// Decode token ids to text
    Decode(Decode),
}

#[derive(Debug, Args)]
struct TrainBpe {
    /// Size of the vocabulary, at least 257: 256 bytes and <|endoftext|>
    #[arg(long, value_name = "N")]
    size: usize,
    /// The tokenizer.json to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    overwrite: bool,
    /// Texts to train on
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Selects a tokenizer.
#[derive(Debug, Args)]
struct TokenizerSource {
    /// A tokenizer.json, GPT-2's encoder.json with vocab.bpe beside it, or the folder of either
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    tokenizer: Option<PathBuf>,
    /// The run whose tokenizer to use [default: the newest under runs/]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Encode {
    #[command(flatten)]
    source: TokenizerSource,
    /// The text to encode
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// A file with the text to encode
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write the ids to a .tokens file of any size, which `train --data` reads
    #[arg(long, value_name = "FILE.tokens", requires = "file")]
    out: Option<PathBuf>,
    /// Replace the file that --out names
    #[arg(long, requires = "out")]
    overwrite: bool,
}

#[derive(Debug, Args)]
struct Decode {
    #[command(flatten)]
    source: TokenizerSource,
    /// The token ids, separated by commas or blanks
    #[arg(required = true, value_delimiter = ',', value_name = "ID")]
    ids: Vec<u32>,
}

pub fn run(args: TokenizerArgs, context: &Context) -> Result<Ended> {
    match args.command {
        TokenizerCommand::Train(args) => train(&args, context),
        TokenizerCommand::Encode(args) => encode(&args, context),
        TokenizerCommand::Decode(args) => decode(&args, context),
    }?;
    Ok(Ended::Done)
}

fn train(args: &TrainBpe, context: &Context) -> Result<()> {
    place::check(&args.out, "another file with --out", args.overwrite)?;
    args.files.iter().try_for_each(|file| place::apart(&args.out, file, "one of the texts, which --out would replace"))?;
    let tokenizer = train_bpe_files(&args.files, args.size)?;
    let json = tokenizer.to_json();
    files::write(&args.out, |out| out.write_all(json.as_bytes()))?;
    let (found, path) = (tokenizer.vocab_size(), args.out.display());
    context.out.object(&json!({ "path": output::path(&args.out), "vocab_size": found }));
    context.out.line(&format!("{path}: {} tokens, {}", count(found as u64), bytes(json.len() as u64)));
    if found < args.size {
        context.out.notice(&format!("note: {} tokens were requested, but the text has no more pairs to merge", count(args.size as u64)));
    }
    Ok(())
}

impl TokenizerSource {
    fn open(&self, verify: bool) -> Result<Tokenizer> {
        match &self.tokenizer {
            Some(path) => Tokenizer::open(path),
            None => {
                let run = named_or_newest(self.run.as_deref())?;
                checkpoint::read_tokenizer(&checkpoint::find_or_take(&run, Which::Latest)?.verify(verify))
            }
        }
    }
}

fn encode(args: &Encode, context: &Context) -> Result<()> {
    if let Some(to) = &args.out {
        place::check(to, "another file with --out", args.overwrite)?;
        args.file.iter().try_for_each(|file| place::apart(to, file, "the text itself, which --out would replace"))?;
    }
    let tokenizer = args.source.open(context.verify)?;
    if let (Some(from), Some(to)) = (&args.file, &args.out) {
        let tokens = encode_file_to_tokens(&tokenizer, from, to)?;
        context.out.object(&json!({ "path": output::path(to), "tokens": tokens }));
        context.out.line(&format!("{}: {} tokens", to.display(), count(tokens)));
        return Ok(());
    }
    let text = match (&args.file, &args.text) {
        (Some(file), _) => read_text(file)?,
        (None, text) => text.clone().unwrap_or_default(),
    };
    let ids = tokenizer.encode(&text)?;
    context.out.object(&json!({ "ids": ids }));
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    context.out.line(&ids.join(","));
    Ok(())
}

fn decode(args: &Decode, context: &Context) -> Result<()> {
    let text = args.source.open(context.verify)?.decode(&args.ids)?;
    context.out.object(&json!({ "text": text }));
    context.out.line(&text);
    Ok(())
}
