//! `wgpt predict`: the most likely next tokens.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::run_folder::{Loaded, load};
use super::variants::VariantArgs;
use super::{Context, Ended, output};
use crate::error::{Error, Result};
use crate::generate::ranked;

/// Show the most likely next words (or tokens) with their probabilities
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt predict \"hello world\"
  wgpt predict --run runs/shakespeare-word \"my lord , I\" --top 10
  wgpt predict --ids 12,7,9 --json      {\"predictions\": [{\"token\", \"id\", \"probability\"}]}")]
pub struct Predict {
    /// The text to continue
    #[arg(required_unless_present = "ids", conflicts_with = "ids")]
    text: Option<String>,
    /// Token ids instead of a text
    #[arg(long, value_name = "ID,ID,...", value_delimiter = ',')]
    ids: Vec<u32>,
    /// The run to use [default: the newest under runs/]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Number of tokens to show [default: 5, or the whole vocabulary if it is smaller]
    #[arg(long, value_name = "K")]
    top: Option<usize>,
    #[command(flatten)]
    variants: VariantArgs,
}

/// One of the most likely tokens.
#[derive(Debug, Serialize)]
pub struct Prediction {
    pub token: String,
    pub id: u32,
    pub probability: f64,
}

pub fn run(args: Predict, context: &Context) -> Result<Ended> {
    let loaded = load(args.run.as_deref(), context.verify)?;
    let tokens = loaded.tokenizer.vocab_size();
    let top = args.top.unwrap_or(tokens.min(5));
    if top == 0 || top > tokens {
        return Err(Error::usage(format!("--top {top}: needs 1 to {tokens}, the size of the vocabulary")));
    }
    let ids = loaded.prompt(context, args.text.as_deref(), &args.ids)?;
    let gpu = context.gpu()?;
    let options = args.variants.options(&gpu, &context.out)?;
    let logits = loaded.generator(&gpu, &options)?.logits(&ids)?;
    let predictions = list(&loaded, &logits, top)?;
    context.out.object(&json!({ "predictions": predictions }));
    let width = predictions.iter().map(|p| output::token(&p.token).chars().count()).max().unwrap_or(0);
    for p in &predictions {
        let token = output::token(&p.token);
        context.out.line(&format!("{token:<width$}  {:5.1} %", 100.0 * p.probability));
    }
    Ok(Ended::Done)
}

/// The `top` most likely tokens of these logits (V).
pub fn list(loaded: &Loaded, logits: &[f32], top: usize) -> Result<Vec<Prediction>> {
    let named = |(id, probability): &(u32, f64)| Ok(Prediction { token: loaded.tokenizer.token(*id)?, id: *id, probability: *probability });
    ranked(logits, 1.0).iter().take(top).map(named).collect()
}
