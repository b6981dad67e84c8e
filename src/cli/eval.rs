//! `wgpt eval`: how well a run predicts a text, compared with a bigram model.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::corpus::open_corpus;
use super::data_report::text_name;
use super::output::{count, duration};
use super::run_folder::{Loaded, load};
use super::variants::VariantArgs;
use super::{Context, Ended};
use crate::error::{Error, Result};
use crate::gpu::wait::block_on;
use crate::model::Model;
use crate::model::session::Session;
use crate::text::{Bigram, Corpus, DataConfig, TextSource, TokenStore, UNKNOWN, read_text};
use crate::train::evaluate::evaluate_shown;

/// Measure loss, perplexity and bits per character, and a bigram model's loss for comparison
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt eval                             the newest run on its own validation split
  wgpt eval --run runs/mine --data other.txt
  wgpt eval --json                      {\"loss\", \"perplexity\", \"bits_per_character\", \"tokens\", \"bigram_loss\"}")]
pub struct Eval {
    /// The run to use [default: the newest under runs/]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// A text or .tokens file to evaluate instead of the run's validation split
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    variants: VariantArgs,
}

/// Losses are in nats per token. Unknown figures are null.
#[derive(Debug, Serialize)]
struct Figures {
    loss: f64,
    perplexity: f64,
    bits_per_character: Option<f64>,
    tokens: u64,
    bigram_loss: Option<f64>,
}

/// The text to evaluate.
struct Text {
    name: String,
    tokens: TokenStore,
    characters: Option<u64>,
}

/// Tokens in one batch.
const BATCH_TOKENS: usize = 4096;
/// A longer evaluation reports its progress at this interval.
const SILENCE: Duration = Duration::from_secs(10);

pub fn run(args: Eval, context: &Context) -> Result<Ended> {
    let loaded = load(args.run.as_deref(), context.verify)?;
    let corpus = own_corpus(&loaded);
    let text = match (&args.data, &corpus) {
        (Some(file), _) => open(&loaded, file)?,
        (None, Ok(corpus)) => Text { name: validation_split(&loaded), tokens: corpus.val.clone(), characters: Some(corpus.val_characters) },
        (None, Err(e)) => {
            return Err(Error::file(&loaded.run, format!("its validation split cannot be evaluated: {e}; name a text with --data")));
        }
    };
    let found = text.tokens.len();
    if found < 2 {
        let advice = if args.data.is_some() { "" } else { "; name another text with --data" };
        return Err(Error::usage(format!("{} has {found} tokens, at least 2 are needed{advice}", text.name)));
    }
    let bigram_loss = match corpus {
        Ok(corpus) => Some(Bigram::count(&corpus.train, loaded.config.model.vocab_size)?.loss(&text.tokens)?),
        Err(e) => {
            context.out.notice(&format!("note: no bigram model, the run's training text cannot be used: {e}"));
            None
        }
    };
    let figures = measure(&loaded, &text, bigram_loss, &args.variants, context)?;
    context.out.object(&figures);
    show(&loaded, &text, &figures, context)
}

/// The text that the run was trained and validated on.
///
/// # Errors
/// [`Error::File`] for a missing file, [`Error::Usage`] for one that has changed since.
fn own_corpus(loaded: &Loaded) -> Result<Corpus> {
    let (_, corpus) = open_corpus(&loaded.config, Some(loaded.tokenizer.clone()))?;
    let changed = if loaded.sources.is_empty() { None } else { TextSource::difference(&loaded.sources, &corpus.sources) };
    changed.map_or(Ok(corpus), |changed| Err(Error::usage(changed)))
}

fn validation_split(loaded: &Loaded) -> String {
    let data = &loaded.config.data;
    if data.val_fraction == 0.0 {
        return "the run's validation split".to_owned();
    }
    let unchecked = if loaded.sources.is_empty() { ", which may have changed since: the checkpoint has no record of it" } else { "" };
    format!("the run's validation split, the last {} % of {}{unchecked}", (1e6 * data.val_fraction).round() / 1e4, text_name(&data.files))
}

/// The whole of a file, encoded by the run's tokenizer.
fn open(loaded: &Loaded, file: &Path) -> Result<Text> {
    let name = file.display().to_string();
    let data = DataConfig { files: vec![name.clone()], val_fraction: 0.0 };
    let tokenizer = Some(loaded.tokenizer.clone());
    if name.ends_with(".tokens") {
        if file.to_str().is_none() {
            return Err(Error::file(file, "has a name that is not UTF-8, which is required here: rename it"));
        }
        let (_, corpus) = Corpus::open(&data, &loaded.config.tokenizer, tokenizer)?;
        return Ok(Text { name, tokens: corpus.train, characters: None });
    }
    let text = read_text(file)?;
    let (_, corpus) = Corpus::build(&data, &[&text], &loaded.config.tokenizer, tokenizer)?;
    Ok(Text { name, tokens: corpus.train, characters: Some(loaded.tokenizer.characters(&text)) })
}

fn measure(loaded: &Loaded, text: &Text, bigram_loss: Option<f64>, variants: &VariantArgs, context: &Context) -> Result<Figures> {
    let gpu = context.gpu()?;
    let options = variants.options(&gpu, &context.out)?;
    let time = loaded.config.model.seq_len;
    let batch = (BATCH_TOKENS / time).clamp(1, text.tokens.len().div_ceil(time));
    let model = Model::evaluation(&loaded.config.model, batch, gpu.traits())?;
    let mut session = block_on(&gpu, Session::new(&gpu, model, &options))?;
    block_on(&gpu, session.write_weights(|index, _| Ok(loaded.weights[index].clone())))?;
    let (begun, mut said) = (Instant::now(), Instant::now());
    let show = &mut |done: usize, all: usize| {
        if said.elapsed() >= SILENCE {
            said = Instant::now();
            let left = duration(begun.elapsed().mul_f64((all - done) as f64 / done.max(1) as f64));
            context.out.notice(&format!("evaluating {}/{}  {left} left", count(done as u64), count(all as u64)));
        }
    };
    let Some(found) = evaluate_shown(&mut session, &text.tokens, 0, &|| false, show)? else {
        return Err(Error::Device("the evaluation was stopped".into()));
    };
    if !found.loss.is_finite() {
        return Err(Error::Diverged(format!("the loss on {} is {}: the weights of this model are damaged", text.name, found.loss)));
    }
    let bits = found.loss * found.tokens as f64 / std::f64::consts::LN_2;
    let bits_per_character = text.characters.map(|characters| bits / characters as f64);
    Ok(Figures { loss: found.loss, perplexity: found.loss.exp(), bits_per_character, tokens: found.tokens, bigram_loss })
}

fn show(loaded: &Loaded, text: &Text, figures: &Figures, context: &Context) -> Result<Ended> {
    let out = &context.out;
    out.notice(&format!("{} on {}", loaded.describe(), text.name));
    out.line(&format!("loss                {:.4} nats per token", figures.loss));
    out.line(&format!("perplexity          {:.2}", figures.perplexity));
    if let Some(bits) = figures.bits_per_character {
        let blanks = if loaded.tokenizer.kind() == "word" { ", white space between words counted as one" } else { "" };
        out.line(&format!("bits per character  {bits:.4}{blanks}"));
    }
    out.line(&format!("tokens              {}", count(figures.tokens)));
    if let Some(loss) = figures.bigram_loss {
        out.line(&format!("bigram model        {loss:.4} nats per token"));
    }
    let unknown = loaded.tokenizer.unknown().map_or(Ok(0), |id| text.tokens.occurrences(id))?;
    if unknown > 0 {
        let share = 100.0 * unknown as f64 / text.tokens.len() as f64;
        out.notice(&format!(
            "note: {share:.1} % of the tokens are {UNKNOWN}; predicting {UNKNOWN} counts as predicting the word, so all figures are too good"
        ));
    }
    Ok(Ended::Done)
}
