//! `wgpt generate`: continues a text, printing it as it is generated.

use std::path::PathBuf;

use serde_json::json;

use super::run_folder::load;
use super::variants::VariantArgs;
use super::{Context, Ended, interrupt};
use crate::error::Result;
use crate::generate::Sampling;
use crate::gpu::wait::block_on;

/// Continue a text, printing it as it is generated
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt generate --prompt \"My lord\"
  wgpt generate --run runs/toy --prompt hello --tokens 10 --greedy
  wgpt generate --prompt \"To be\" --temperature 1.1 --top-k 40 --seed 7
  wgpt generate --ids 12,7,9 --json     {\"prompt_ids\", \"ids\", \"text\"}, ids and text without the prompt

The same run, prompt and --seed give the same text on the same adapter. Ctrl-C ends the text, and the exit code is 130; with --json the \
result is the text generated until then.")]
pub struct Generate {
    /// The text to continue
    #[arg(long, value_name = "TEXT", required_unless_present = "ids", conflicts_with = "ids")]
    prompt: Option<String>,
    /// Token ids instead of a text
    #[arg(long, value_name = "ID,ID,...", value_delimiter = ',')]
    ids: Vec<u32>,
    /// The run to use [default: the newest under runs/]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Number of tokens to add
    #[arg(long, value_name = "N", default_value_t = 100)]
    tokens: usize,
    /// Below 1 for more predictable text, above for more varied; 0 is the same as --greedy
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    temperature: f64,
    /// Draw only from the K most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw only from the most likely tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Another seed gives another text
    #[arg(long, value_name = "N", default_value_t = 1337)]
    seed: u64,
    /// Always take the most likely token
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "seed"])]
    greedy: bool,
    /// Also draw the token that stands for every word outside the vocabulary
    #[arg(long)]
    unknown: bool,
    #[command(flatten)]
    variants: VariantArgs,
}

pub fn run(args: Generate, context: &Context) -> Result<Ended> {
    let drawn = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed };
    let sampling = if args.greedy { Sampling::greedy() } else { drawn };
    sampling.validate()?;
    let loaded = load(args.run.as_deref(), context.verify)?;
    let prompt = loaded.prompt(context, args.prompt.as_deref(), &args.ids)?;
    let gpu = context.gpu()?;
    let mut model = loaded.generator(&gpu, &args.variants.options(&gpu, &context.out)?)?;
    let unknown = loaded.tokenizer.unknown().filter(|_| !args.unknown);
    block_on(&gpu, model.forbid(unknown.as_slice()))?;
    let mut decoder = loaded.tokenizer.decoder();
    for &id in &prompt {
        context.out.piece(&decoder.push(id)?);
    }
    let (mut ids, mut text) = (vec![], String::new());
    model.prompt(&prompt, &sampling)?;
    interrupt::listen(true, "")?;
    while ids.len() < args.tokens && !context.out.ended() && !interrupt::requested() {
        let slid = model.slides() > 0;
        let next = model.next_few(args.tokens - ids.len())?;
        if model.slides() > 0 && !slid {
            context.out.notice(&window_slides(model.context()));
        }
        for id in next {
            ids.push(id);
            let piece = decoder.push(id)?;
            context.out.piece(&piece);
            text.push_str(&piece);
        }
    }
    let rest = decoder.finish();
    context.out.line(&rest);
    text.push_str(&rest);
    context.out.object(&json!({ "prompt_ids": prompt, "ids": ids, "text": text }));
    Ok(if ids.len() < args.tokens && interrupt::requested() { Ended::Interrupted } else { Ended::Done })
}

/// Printed once, when the text first outgrows the model's context.
fn window_slides(context: usize) -> String {
    format!(
        "note: the text is longer than the model's context of {context} tokens: each time the context is full, its older half is dropped"
    )
}
