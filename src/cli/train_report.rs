//! What `train` prints before the first step and after the last.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::data_report::{self, Unknown};
use super::output::{self, Output, count, duration};
use super::run_folder::{Loaded, load};
use super::{Context, interrupt, predict};
use crate::error::{Result, bytes, shell_path};
use crate::generate::Sampling;
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::tensor::Dtype;
use crate::gpu::variants::Choice;
use crate::gpu::wait::block_on;
use crate::model::session::Memory;
use crate::text::{Corpus, TokenStore, Tokenizer};
use crate::train::checkpoint::OpenCheckpoint;
use crate::train::config::{RunConfig, TrainConfig};
use crate::train::evaluate::bigram_loss;
use crate::train::run::Setup;
use crate::train::schedule::learning_rate;
use crate::train::{metrics, plot};

/// The bigram model's loss on the windows of the run's validations, if the corpus is in memory and has a validation part.
pub fn bigram(config: &RunConfig, corpus: &Corpus) -> Result<Option<f64>> {
    if corpus.val.len() < 2 || corpus.train.vocab_size().is_some() {
        return Ok(None);
    }
    bigram_loss(config, corpus).map(Some)
}

/// What is known before a run.
pub struct Before<'a> {
    pub config: &'a RunConfig,
    pub gpu: &'a Gpu,
    pub memory: &'a Memory,
    pub data: (&'a Corpus, &'a Tokenizer, &'a Unknown),
    pub bigram: Option<f64>,
    pub out: &'a Path,
}

impl Before<'_> {
    pub fn show(&self, out: &Output) {
        let (corpus, tokenizer, unknown) = self.data;
        let rows = [
            ("adapter", Some(adapter(self.gpu))),
            ("", software(self.gpu)),
            ("data", Some(data_report::line(self.config, corpus, tokenizer, unknown))),
            ("WARNING", unknown.warning()),
            ("model", Some(self.model())),
            ("memory", Some(memory(self.memory))),
            ("baseline", self.bigram.map(|loss| format!("a bigram model has a validation loss of {loss:.3}"))),
            ("run", Some(self.run())),
            ("WARNING", warm_up(&self.config.train)),
        ];
        for (name, text) in rows.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            out.notice(&format!("{name:<9} {text}"));
        }
    }

    fn model(&self) -> String {
        let m = &self.config.model;
        let (layers, heads) = (number(m.n_layer as u64, "layer"), number(m.n_head as u64, "head"));
        format!("{} parameters: {layers} of width {}, {heads}, context of {} tokens", count(m.parameters()), m.d_model, m.seq_len)
    }

    fn run(&self) -> String {
        let (model, train) = (&self.config.model, &self.config.train);
        let tokens = (train.batch_size * train.grad_accumulation * model.seq_len) as u64;
        let storage = Dtype::from(train.storage);
        let storage = if storage.is_packed() { format!(", stored as {}", storage.name()) } else { String::new() };
        format!("{}, {} of {} tokens{storage}", self.out.display(), number(train.steps, "step"), count(tokens))
    }
}

fn adapter(gpu: &Gpu) -> String {
    let info = gpu.info();
    let driver = gpu.driver();
    format!("{}, {} driver {driver}", info.name, info.backend)
}

/// `1 layer`, `2 layers`.
fn number(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// The warning that the learning rate never reaches its peak.
fn warm_up(train: &TrainConfig) -> Option<String> {
    let (warm_up, steps) = (train.warmup_steps, train.steps);
    let (last, peak) = (learning_rate(train, steps - 1), train.learning_rate);
    (warm_up >= steps).then(|| {
        format!(
            "train.warmup_steps = {warm_up} is not less than train.steps = {steps}: the learning rate rises to {last:.1e} only, \
             not to {peak:.1e}; use --set train.warmup_steps={} or more --steps",
            steps / 10
        )
    })
}

/// The warning that the adapter is not a GPU.
fn software(gpu: &Gpu) -> Option<String> {
    gpu.traits()
        .software
        .then(|| "SOFTWARE adapter: this runs on your CPU, many times slower than on a graphics card (see `wgpt devices`)".to_owned())
}

fn memory(memory: &Memory) -> String {
    let mut classes = memory.classes.clone();
    classes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let classes: Vec<String> = classes.iter().map(|(class, size)| format!("{class} {}", bytes(*size))).collect();
    format!("{}: {}", bytes(memory.total), classes.join(", "))
}

/// Where a resumed run continues, and whether its adapter or its learning rate has changed.
pub fn resumed(from: &OpenCheckpoint, train: &TrainConfig, gpu: &Gpu) -> String {
    let (OpenCheckpoint { meta, config, .. }, name) = (from, &gpu.info().name);
    let steps = train.steps;
    let done = if meta.step == steps { ", its last: --steps extends the run" } else { "" };
    let other = if meta.adapter == *name {
        String::new()
    } else {
        format!("; it ran on {} before, so the last digits may differ from now on", meta.adapter)
    };
    let rate = if meta.step < steps { rate_jumps(&config.train, train, meta.step) } else { String::new() };
    format!("resumed   after step {}{done}{other}{rate}", count(meta.step))
}

/// How another number of steps changes the learning rate after `step` steps; empty if it changes little.
fn rate_jumps(before: &TrainConfig, now: &TrainConfig, step: u64) -> String {
    let [old, new] = [before, now].map(|train| learning_rate(train, step));
    let (was, is) = (count(before.steps), count(now.steps));
    if (new - old).abs() <= 0.1 * old {
        return String::new();
    }
    format!("; its schedule spans {is} steps now, not {was}, so the learning rate jumps from {old:.1e} to {new:.1e}")
}

/// The warning that a resumed run uses other kernel variants than before; `asked` if the user named variants.
pub fn other_variants(before: &[Choice], now: &[Choice], asked: bool) -> Option<String> {
    let mut changes: Vec<String> = vec![];
    for old in before {
        // A choice of an older checkpoint names a file, for all classes.
        let same = |new: &&Choice| old.names(new.file(), &new.kernel) && (old.class.is_none() || old.class == new.class);
        if let Some(new) = now.iter().filter(same).find(|new| new.variant != old.variant) {
            let place = old.class.map_or(old.kernel.clone(), |class| format!("{} at {class}", old.kernel));
            changes.push(format!("{place} uses {} (was {})", new.variant, old.variant));
        }
    }
    let rest = changes.len().saturating_sub(4);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let advice =
        if asked { "without --variant, --tuning and --tune it keeps its own variants" } else { "this adapter cannot run its own variants" };
    let list = changes.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(", ");
    (!changes.is_empty()).then(|| {
        format!("WARNING   the run continues with other kernel variants, so the last digits may differ from now on: {list}{more}; {advice}")
    })
}

/// Draws the loss curve of a run; None if there is nothing to draw yet.
///
/// # Errors
/// [`crate::error::Error::File`] when it cannot be written.
pub fn draw(out: &Path, config: &RunConfig, bigram: Option<f64>) -> Result<Option<PathBuf>> {
    let records = metrics::read(&out.join(metrics::METRICS))?;
    if !records.iter().any(|record| record.loss.or(record.val_loss).is_some_and(f64::is_finite)) {
        return Ok(None);
    }
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let m = &config.model;
    let title = format!("{name}: {} of width {}, {} parameters", number(m.n_layer as u64, "layer"), m.d_model, count(m.parameters()));
    let (svg, png) = (out.join("loss.svg"), out.join("loss.png"));
    plot::loss_curve(&records, &title, bigram.map(|loss| ("bigram model", loss)), &svg, &png)?;
    Ok(Some(svg))
}

/// What is known after a run.
pub struct After<'a> {
    pub setup: &'a Setup,
    pub gpu: &'a Gpu,
    pub options: &'a Options,
    pub step: u64,
    /// Steps made by this command.
    pub made: u64,
    pub trained: Duration,
    pub best_val_loss: Option<f64>,
    pub bigram: Option<f64>,
    pub curve: Option<PathBuf>,
}

impl After<'_> {
    /// After Ctrl-C.
    pub fn stopped(&self, out: &Output) {
        let (run, word) = (self.setup.folder.path().display(), shell_path(self.setup.folder.path()));
        out.object(&self.result("stopped"));
        out.line(&format!("stopped at step {}, saved to {run}; resume with: wgpt train --out {word} --resume", count(self.step)));
    }

    /// Prints the figures, what the model can do now, and what the user can do next.
    pub fn finished(&self, context: &Context) -> Result<()> {
        let out = &context.out;
        out.object(&self.result("finished"));
        if out.json() {
            return Ok(());
        }
        if self.made > 0 {
            out.line(&format!("\ntrained {} in {}", number(self.made, "step"), duration(self.trained)));
        }
        if let Some(line) = self.validation() {
            out.line(&line);
        }
        if !out.quiet() {
            self.show_model(context)?;
        }
        let run = shell_path(self.setup.folder.path());
        if let Some(curve) = &self.curve {
            out.line(&format!("\nloss curve   {} and .png", curve.display()));
        }
        out.line(&format!("next word    wgpt predict --run {run} \"...\""));
        out.line(&format!("more text    wgpt generate --run {run} --prompt \"...\""));
        out.line(&format!("train more   wgpt train --out {run} --resume --steps {}", self.setup.config.train.steps.saturating_mul(2)));
        Ok(())
    }

    fn result(&self, outcome: &str) -> serde_json::Value {
        json!({
            "outcome": outcome, "run": output::path(self.setup.folder.path()), "step": self.step, "seconds": self.trained.as_secs_f64(),
            "best_val_loss": self.best_val_loss, "bigram_loss": self.bigram, "loss_curve": self.curve.as_deref().map(output::path),
        })
    }

    fn validation(&self) -> Option<String> {
        let best = self.best_val_loss?;
        let versus = match self.bigram {
            Some(bigram) if best < bigram => format!(", {:.3} nats better than a bigram model's {bigram:.3}", bigram - best),
            Some(bigram) => format!(", {:.3} nats worse than a bigram model's {bigram:.3}", best - bigram),
            None => String::new(),
        };
        Some(format!("best validation loss {best:.3} nats per token (perplexity {:.1}){versus}", best.exp()))
    }

    /// Prints a few predictions and a sample of the best checkpoint.
    fn show_model(&self, context: &Context) -> Result<()> {
        let loaded = load(Some(self.setup.folder.path()), context.verify)?;
        let mut model = loaded.generator(self.gpu, self.options)?;
        let val = &self.setup.corpus.val;
        let part = if val.len() > 1 { val } else { &self.setup.corpus.train };
        let began = Instant::now();
        context.out.line("\npredictions (in brackets: the text's next token)");
        for (seen, next) in excerpts(&loaded, part)? {
            let shown = predict::list(&loaded, &model.logits(&seen)?, 3)?;
            let shown: Vec<String> = shown.iter().map(|p| format!("{} {:.0} %", output::token(&p.token), 100.0 * p.probability)).collect();
            let text = loaded.tokenizer.decode(&seen)?.replace('\n', " ");
            let next = output::token(&loaded.tokenizer.token(next)?);
            context.out.line(&format!("  {text} -> {} ({next})", shown.join(", ")));
        }
        context.out.line("\nsample");
        block_on(self.gpu, model.forbid(loaded.tokenizer.unknown().as_slice()))?;
        let (prompt, _) = excerpts(&loaded, part)?.swap_remove(0);
        let mut decoder = loaded.tokenizer.decoder();
        for &id in &prompt {
            context.out.piece(&decoder.push(id)?);
        }
        let sampling = Sampling { temperature: 0.8, seed: self.setup.config.train.seed, ..Sampling::default() };
        model.prompt(&prompt, &sampling)?;
        let mut left = sample_length(&loaded);
        while left > 0 && began.elapsed() < SAMPLE_TIME && !interrupt::requested() {
            let next = model.next_few(left)?;
            left -= next.len();
            for id in next {
                context.out.piece(&decoder.push(id)?);
            }
        }
        context.out.line(&decoder.finish());
        Ok(())
    }
}

/// The predictions and the sample stop after this time, however slow the adapter is.
const SAMPLE_TIME: Duration = Duration::from_secs(15);

fn sample_length(loaded: &Loaded) -> usize {
    let length = if loaded.tokenizer.kind() == "character" { 300 } else { 80 };
    // A longer sample of the preset `toy` shows nothing new.
    length.min(4 * loaded.config.model.seq_len)
}

/// Three places of a text, each with the tokens before it and the token itself.
fn excerpts(loaded: &Loaded, part: &TokenStore) -> Result<Vec<(Vec<u32>, u32)>> {
    let wanted = if loaded.tokenizer.kind() == "character" { 32 } else { 8 };
    let seen = wanted.min(loaded.config.model.seq_len).min(part.len() - 1);
    let places = part.len() - 1 - seen;
    let excerpt = |i: usize| {
        let mut ids = vec![0; seen + 1];
        let first = i * places / 2;
        // Prefer a place nearby without unknown words, which reads better.
        for place in (first..=places).chain((0..first).rev()).take(500) {
            part.read(place, &mut ids)?;
            if loaded.tokenizer.unknown().is_none_or(|unknown| !ids.contains(&unknown)) {
                break;
            }
        }
        let next = ids[seen];
        ids.truncate(seen);
        Ok((ids, next))
    };
    (0..3).map(excerpt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::Schedule;

    #[test]
    fn warm_ups_and_jumps_are_told() {
        let train = TrainConfig { steps: 100, warmup_steps: 10, learning_rate: 1e-3, min_learning_rate: 1e-4, ..TrainConfig::default() };
        let steps = |steps: u64| TrainConfig { steps, ..train.clone() };
        assert_eq!((warm_up(&train), warm_up(&steps(11)), warm_up(&TrainConfig { warmup_steps: 0, ..steps(1) })), (None, None, None));
        let said = warm_up(&steps(10)).unwrap();
        assert!(said.contains("rises to 9.1e-4 only, not to 1.0e-3") && said.contains("warmup_steps=1 "), "{said}");
        assert_eq!(rate_jumps(&train, &train, 50), "");
        assert_eq!(rate_jumps(&train, &steps(101), 50), "");
        let said = rate_jumps(&train, &steps(200), 100);
        assert!(said.ends_with("spans 200 steps now, not 100, so the learning rate jumps from 1.0e-4 to 5.9e-4"), "{said}");
        let constant = |train: TrainConfig| TrainConfig { schedule: Schedule::Constant, ..train };
        assert_eq!(rate_jumps(&constant(train.clone()), &constant(steps(200)), 100), "");
    }
}
