//! Next tokens: logits of a context, probabilities, and decoding with a key/value cache.
//!
//! A [`Generator`] takes a prompt in ([`Generator::prompt`]) and then draws tokens on the device, several in one submit
//! ([`Generator::next_tokens`]); nothing but their ids comes back. A context that is full is a sliding window: the older half is dropped,
//! the rest is taken in again from place 0, and decoding goes on ([`Generator::slides`] counts).

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::compile::{Compiled, Options};
use crate::gpu::plan::Phase;
use crate::gpu::run::Runner;
use crate::gpu::slots::{Readback, Slots};
use crate::gpu::wait::{self, block_on};
use crate::model::ModelConfig;
use crate::model::decode::{Decoder, PICK, PREFILL, SAMPLE, TOKEN};
use crate::ops::cursor::Cursor;
use crate::ops::position;
use crate::ops::sample::{self, RING};

/// What one call of [`Generator::next_tokens`] should take: text that comes in pieces of this long still reads as it comes.
const PIECE: Duration = Duration::from_millis(100);

/// A model that continues a sequence of tokens.
pub struct Generator {
    gpu: Gpu,
    pub decoder: Decoder,
    compiled: Compiled,
    runner: Runner,
    slots: Slots,
    readback: Readback,
    /// Ids that are never drawn.
    never: Vec<u32>,
    /// The prompt and all tokens drawn.
    sequence: Vec<u32>,
    /// The context begins at this token of the sequence, and the caches hold so many of it.
    window: usize,
    cached: usize,
    /// How the host has told the device to draw, with the tokens drawn so far.
    cursor: Cursor,
    /// Whether the logits on the device are those after the whole sequence.
    fresh: bool,
    slides: u64,
}

/// How the next token is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 always takes the likeliest.
    pub temperature: f64,
    /// Only the k likeliest; 0 for all.
    pub top_k: usize,
    /// Only the likeliest that together reach this probability; 1 for all.
    pub top_p: f64,
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1337 }
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// # Errors
    /// [`Error::Usage`] that names the setting, its value and what is needed.
    pub fn validate(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::usage(format!("temperature = {}: needs a number of at least 0", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::usage(format!("top_p = {}: needs a number above 0 and up to 1", self.top_p)));
        }
        Ok(())
    }

    /// The block that tells the device. Temperatures below 1e-30 are as good as that.
    fn cursor(&self) -> Cursor {
        Cursor {
            seed: (self.seed ^ self.seed >> 32) as u32,
            top_k: u32::try_from(self.top_k).unwrap_or(0),
            top_p: self.top_p as f32,
            sharpness: if self.temperature == 0.0 { 0.0 } else { (1.0 / self.temperature).clamp(1e-30, 1e30) as f32 },
            ..Cursor::default()
        }
    }
}

/// Every token with its probability at a temperature, likeliest first; equals by id.
pub fn ranked(logits: &[f32], temperature: f64) -> Vec<(u32, f64)> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&logit| ((f64::from(logit) - f64::from(top)) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut ranked: Vec<(u32, f64)> = weights.iter().enumerate().map(|(id, w)| (id as u32, w / total)).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked
}

impl Generator {
    /// Compiles a model for one sequence and writes its weights, given in the parameter table's order.
    ///
    /// # Errors
    /// As [`Decoder::new`], and [`Error::Device`] when the driver refuses.
    pub async fn new(gpu: &Gpu, config: &ModelConfig, weights: &[Vec<f32>], options: &Options) -> Result<Generator> {
        let decoder = Decoder::new(config, gpu.limits())?;
        let compiled = decoder.plan.compile(gpu, options).await?;
        let slots = Slots::new(gpu, decoder.feed.down).await?;
        let readback = Readback::new(gpu, decoder.feed.bytes).await?;
        if let Some(frequencies) = &decoder.feed.frequencies {
            compiled.write(frequencies, &position::frequencies(config.d_model)).await?;
        }
        decoder.write_weights(&compiled, weights).await?;
        let mut generator = Generator {
            gpu: gpu.clone(),
            runner: Runner::new(gpu),
            decoder,
            compiled,
            slots,
            readback,
            never: vec![],
            sequence: vec![],
            window: 0,
            cached: 0,
            cursor: Cursor::default(),
            fresh: false,
            slides: 0,
        };
        generator.forbid(&[]).await?;
        Ok(generator)
    }

    /// Tokens of context that the model sees.
    pub fn context(&self) -> usize {
        self.decoder.config.seq_len
    }

    /// How often the context was full, so that its older half was dropped, since the last prompt.
    pub fn slides(&self) -> u64 {
        self.slides
    }

    /// Never draws these ids either.
    ///
    /// # Errors
    /// [`Error::Usage`] for an id out of range, or when no id is left.
    pub async fn forbid(&mut self, ids: &[u32]) -> Result<()> {
        let vocab = self.decoder.config.vocab_size;
        check_range(ids, vocab)?;
        self.never.extend(ids);
        self.never.sort_unstable();
        self.never.dedup();
        if self.never.len() == vocab {
            return Err(Error::usage(format!("all {vocab} tokens are forbidden: at least one must be left")));
        }
        self.compiled.write(&self.decoder.allowed, &sample::allowed(vocab, &self.never)).await
    }

    /// Blocks while a new sequence is taken in, which [`Generator::next_tokens`] continues; of one longer than the context the last
    /// [`Generator::context`] tokens count.
    ///
    /// # Errors
    /// [`Error::Usage`] for no token at all, an id out of range, or a sampling that cannot be.
    pub fn prompt(&mut self, ids: &[u32], sampling: &Sampling) -> Result<()> {
        check_ids(ids, self.decoder.config.vocab_size)?;
        sampling.validate()?;
        self.cursor = sampling.cursor();
        self.sequence = ids.to_vec();
        self.slides = 0;
        self.prefill(ids.len().saturating_sub(self.context()))
    }

    /// Blocks for the next tokens of the sequence: at least one, at most `most`, and no more than some 100 ms of work.
    ///
    /// The same prompt, sampling and adapter give the same tokens, however they are asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] before the first prompt, [`Error::Diverged`] for logits that are not finite.
    pub fn next_tokens(&mut self, most: usize) -> Result<Vec<u32>> {
        if self.sequence.is_empty() {
            return Err(Error::usage("no prompt was given: there is nothing to continue"));
        }
        if most == 0 {
            return Ok(vec![]);
        }
        if !self.fresh && self.cached == self.context() {
            self.slides += 1;
            self.prefill(self.sequence.len() - self.context().div_ceil(2))?;
        }
        let ranges = self.token_ranges(most);
        let Generator { decoder, compiled, readback, runner, .. } = self;
        let feed = compiled.place(&decoder.feed.cursor).0;
        runner.run(compiled, ranges, |_| Ok(()), |encoder| readback.request(encoder, feed, 0), &|_| false)?;
        let bytes = self.wait_for_feed()?;
        self.take_tokens(&bytes)
    }

    /// Blocks for the logits (V) of the token after `ids`; of a longer sequence only the last [`Generator::context`] tokens count.
    /// Forbidden ids have minus infinity.
    ///
    /// # Errors
    /// [`Error::Usage`] for no token at all or an id out of range, [`Error::Diverged`] for logits that are not finite.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.prompt(ids, &Sampling::greedy())?;
        self.runner.wait_for_all()?;
        let mut logits = block_on(&self.gpu, self.compiled.read::<f32>(&self.decoder.logits))?;
        logits.truncate(self.decoder.config.vocab_size);
        if let Some(id) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(diverged(id, logits[id]));
        }
        self.never.iter().for_each(|&id| logits[id as usize] = f32::NEG_INFINITY);
        Ok(logits)
    }

    /// Submits what takes the sequence in from token `window` on, in chunks.
    fn prefill(&mut self, window: usize) -> Result<()> {
        (self.window, self.cached) = (window, 0);
        while self.window + self.cached < self.sequence.len() {
            let first = self.window + self.cached;
            let end = (first + self.decoder.chunk()).min(self.sequence.len());
            let cursor = Cursor { position: self.cached as u32, rows: (end - first) as u32, ..self.cursor };
            let slot = self.decoder.feed.slot(cursor, &self.sequence[first..end]);
            let phases: &[Phase] = if end == self.sequence.len() { &[PREFILL, PICK] } else { &[PREFILL] };
            while !self.slots.ready()? {
                wait::for_device(&self.gpu)?;
            }
            let Generator { decoder, compiled, slots, runner, .. } = self;
            let feed = compiled.place(&decoder.feed.cursor).0;
            let ranges: Vec<Range<usize>> = phases.iter().map(|phase| compiled.phase(*phase)).collect();
            runner.run(compiled, ranges, |encoder| slots.fill(encoder, &slot, feed), |_| (), &|_| false)?;
            self.cached += end - first;
        }
        self.fresh = true;
        Ok(())
    }

    /// The commands that draw the next tokens, as many as the context and [`PIECE`] allow, `most` at most.
    fn token_ranges(&mut self, most: usize) -> VecDeque<Range<usize>> {
        let (token, sample) = (self.compiled.phase(TOKEN), self.compiled.phase(SAMPLE));
        let both = token.start..sample.end;
        self.runner.poll();
        let fitting = self.runner.fitting(&self.compiled, std::slice::from_ref(&both), PIECE);
        let room = self.context() - self.cached + usize::from(self.fresh);
        let count = most.min(room).min(RING).min(fitting.max(1));
        let mut ranges = VecDeque::from(vec![both; count]);
        if self.fresh {
            ranges[0] = sample;
        }
        self.cached += count - usize::from(self.fresh);
        self.fresh = false;
        ranges
    }

    fn wait_for_feed(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some((_, bytes)) = self.readback.poll()? {
                self.runner.poll();
                return Ok(bytes);
            }
            wait::for_device(&self.gpu)?;
        }
    }

    /// The tokens drawn since the last call.
    fn take_tokens(&mut self, bytes: &[u8]) -> Result<Vec<u32>> {
        let (now, ring) = self.decoder.feed.read(bytes);
        if now.failed > 0 {
            let id = now.failed as usize - 1;
            let logits = block_on(&self.gpu, self.compiled.read::<f32>(&self.decoder.logits))?;
            return Err(diverged(id, logits[id]));
        }
        let drawn: Vec<u32> = (self.cursor.drawn..now.drawn).map(|index| ring[index as usize % RING]).collect();
        self.cursor.drawn = now.drawn;
        self.sequence.extend(&drawn);
        Ok(drawn)
    }
}

fn diverged(id: usize, logit: f32) -> Error {
    Error::Diverged(format!("the logit of token {id} is {logit}: the weights of this model are damaged"))
}

/// # Errors
/// [`Error::Usage`] for an empty list, or the first id that is not below `vocab_size`.
pub fn check_ids(ids: &[u32], vocab_size: usize) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::usage("the prompt is empty: at least one token is needed"));
    }
    check_range(ids, vocab_size)
}

fn check_range(ids: &[u32], vocab_size: usize) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(id) => Err(Error::usage(format!("token id {id} is out of range: the vocabulary has ids 0 to {}", vocab_size - 1))),
        None => Ok(()),
    }
}
