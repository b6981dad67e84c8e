//! `wgpt eval`: how well a run predicts a text, beside a bigram model.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::output::{count, duration};
use super::run_folder::{Loaded, load};
use super::train::open_corpus;
use super::variants::VariantArgs;
use super::{Context, Ended};
use crate::error::{Error, Result};
use crate::gpu::wait::block_on;
use crate::model::Model;
use crate::model::session::Session;
use crate::text::{Bigram, Corpus, DataConfig, TokenStore, UNKNOWN, read_text};
use crate::train::evaluate::evaluate_shown;

/// Measure loss, perplexity and bits per character, beside a bigram model counted on the same training text
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
    /// A text, or .tokens file, to take instead of the run's validation split
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    variants: VariantArgs,
}

/// Losses are in nats per token. What cannot be known is null.
#[derive(Debug, Serialize)]
struct Figures {
    loss: f64,
    perplexity: f64,
    bits_per_character: Option<f64>,
    tokens: u64,
    bigram_loss: Option<f64>,
}

/// What is evaluated.
struct Text {
    name: String,
    tokens: TokenStore,
    characters: Option<u64>,
}

/// Tokens that go through the model at once.
const BATCH_TOKENS: usize = 4096;
/// A longer evaluation says how far it is, so often.
const SILENCE: Duration = Duration::from_secs(10);

pub fn run(args: Eval, context: &Context) -> Result<Ended> {
    let loaded = load(args.run.as_deref())?;
    let corpus = open_corpus(&loaded.config, Some(loaded.tokenizer.clone())).map(|(_, corpus)| corpus);
    let text = match (&args.data, &corpus) {
        (Some(file), _) => open(&loaded, file)?,
        (None, Ok(corpus)) => {
            Text { name: "the run's validation split".to_owned(), tokens: corpus.val.clone(), characters: Some(corpus.val_characters) }
        }
        (None, Err(e)) => return Err(e.clone()),
    };
    let found = text.tokens.len();
    if found < 2 {
        let advice = if args.data.is_some() { "" } else { ", name another text with --data" };
        return Err(Error::usage(format!("{} has {found} tokens, at least 2 are needed{advice}", text.name)));
    }
    let bigram_loss = match corpus {
        Ok(corpus) => Some(Bigram::count(&corpus.train, loaded.config.model.vocab_size)?.loss(&text.tokens)?),
        Err(e) => {
            context.out.notice(&format!("note: no bigram model, the run's training text cannot be read: {e}"));
            None
        }
    };
    let figures = measure(&loaded, &text, bigram_loss, &args.variants, context)?;
    context.out.object(&figures);
    show(&loaded, &text, &figures, context)
}

/// The whole of a file, by the run's tokenizer.
fn open(loaded: &Loaded, file: &Path) -> Result<Text> {
    let name = file.display().to_string();
    let data = DataConfig { files: vec![name.clone()], val_fraction: 0.0 };
    let tokenizer = Some(loaded.tokenizer.clone());
    if name.ends_with(".tokens") {
        let (_, corpus) = Corpus::open(&data, &loaded.config.tokenizer, tokenizer)?;
        return Ok(Text { name, tokens: corpus.train, characters: None });
    }
    let text = read_text(file)?;
    let (_, corpus) = Corpus::build(&data, &[&text], &loaded.config.tokenizer, tokenizer)?;
    Ok(Text { name, tokens: corpus.train, characters: Some(text.chars().count() as u64) })
}

fn measure(loaded: &Loaded, text: &Text, bigram_loss: Option<f64>, variants: &VariantArgs, context: &Context) -> Result<Figures> {
    let gpu = context.gpu()?;
    let options = variants.options(&gpu, &context.out)?;
    let time = loaded.config.model.seq_len;
    let batch = (BATCH_TOKENS / time).clamp(1, text.tokens.len().div_ceil(time));
    let model = Model::evaluation(&loaded.config.model, batch, gpu.limits())?;
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
        out.line(&format!("bits per character  {bits:.4}"));
    }
    out.line(&format!("tokens              {}", count(figures.tokens)));
    if let Some(loss) = figures.bigram_loss {
        out.line(&format!("bigram model        {loss:.4} nats per token"));
    }
    let unknown = unknown_share(loaded, &text.tokens)?;
    if unknown > 0.0 {
        let share = 100.0 * unknown;
        out.notice(&format!(
            "note: {share:.1} % of the tokens are {UNKNOWN}; what they stood for counts as known, which flatters all figures"
        ));
    }
    Ok(Ended::Done)
}

/// How much of a text the vocabulary does not have.
fn unknown_share(loaded: &Loaded, tokens: &TokenStore) -> Result<f64> {
    let Some(unknown) = loaded.unknown() else { return Ok(0.0) };
    let (mut found, mut ids) = (0, vec![]);
    for start in (0..tokens.len()).step_by(1 << 16) {
        tokens.window(start, (tokens.len() - start).min(1 << 16), &mut ids)?;
        found += ids.iter().filter(|&&id| id == unknown).count();
    }
    Ok(found as f64 / tokens.len() as f64)
}
