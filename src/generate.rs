//! Next tokens: logits of a context, probabilities, and decoding with a key/value cache.
//!
//! [`Generator::prompt`] processes a prompt; [`Generator::next_tokens`], or [`Generator::next_few`] as they arrive, then draws tokens on
//! the device, several per submit. Only their ids are read back. A full context is a sliding window: its older half is dropped, the rest is
//! processed again from position 0, and decoding continues ([`Generator::slides`] counts this).
//!
//! Both block. Within a host's frame, [`Generator::begin`], [`Generator::encode`] and [`Generator::poll`] do the same in slices.

mod slices;

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::compile::Compiled;
use crate::gpu::guest::Guest;
use crate::gpu::options::Options;
use crate::gpu::slice::Budget;
use crate::gpu::slots::Readback;
use crate::gpu::wait::{self, block_on};
use crate::model::decode::DecodeModel;
use crate::model::numbers::need;
use crate::model::numbers::{Number, Shown};
use crate::model::shared::SharedWeights;
use crate::model::{ModelConfig, params};
use crate::ops::cursor::Cursor;
use crate::ops::position;
use crate::ops::sample;

/// Target duration of one call of [`Generator::next_few`]: text that arrives in pieces of this length still reads smoothly.
const PIECE: Duration = Duration::from_millis(100);

/// A model that continues a sequence of tokens.
pub struct Generator {
    gpu: Gpu,
    /// The recorded decoding plan, with its tensors and the config of the model.
    pub decoder: DecodeModel,
    compiled: Compiled,
    guest: Guest<DecodeProgress>,
    readback: Readback,
    /// Readback of the logits, created when they are first requested.
    logits: Option<Readback>,
    logits_wanted: bool,
    /// Ids that are never drawn.
    never: Vec<u32>,
    /// The prompt and all tokens that were read back.
    sequence: Vec<u32>,
    /// Tokens that were read back and not returned yet.
    came: VecDeque<u32>,
    /// Why no more tokens will arrive.
    failed: Option<Error>,
    /// Number of sequences begun: it identifies the sequence that a readback belongs to.
    sequences: u64,
    /// The sampling settings last sent to the device, with the number of tokens read back.
    cursor: Cursor,
}

/// The state of decoding between two passes.
#[derive(Debug, Clone, Default)]
struct DecodeProgress {
    /// The token of the sequence at which the context begins, and how many tokens the caches hold from there.
    window: usize,
    cached: usize,
    /// Whether the caches hold all of the sequence, apart from the tokens drawn since.
    taken_in: bool,
    /// Whether the logits on the device follow the whole sequence and no token was drawn from them.
    fresh: bool,
    slides: u64,
    /// Tokens drawn, and tokens still to be drawn.
    drawn: u32,
    wanted: usize,
    /// Whether the current pass draws a token.
    draws: bool,
}

/// How the next token is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 always takes the most likely token.
    pub temperature: f64,
    /// Draw only from the k most likely tokens; 0 for all.
    pub top_k: usize,
    /// Draw only from the most likely tokens that together reach this probability; 1 for all.
    pub top_p: f64,
    /// Seed of the random numbers that draw tokens, all 64 bits of it.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1337 }
    }
}

impl Sampling {
    /// Always takes the most likely token.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// # Errors
    /// [`Error::Usage`] that names the setting, its value and what is needed.
    pub fn validate(&self) -> Result<()> {
        // The device receives the temperature's inverse, which has a range of its own.
        need(
            self.temperature >= 0.0 && self.temperature.is_finite(),
            "temperature",
            Shown(self.temperature),
            "needs a number of at least 0",
        )?;
        Number::UpToOne.check("top_p", self.top_p)
    }

    /// The sampling settings as a block for the device. Temperatures above 0 are clamped to 1e-30..=1e30.
    fn cursor(&self) -> Cursor {
        Cursor {
            seed: self.seed as u32,
            seed_high: (self.seed >> 32) as u32,
            top_k: u32::try_from(self.top_k).unwrap_or(0),
            top_p: self.top_p as f32,
            sharpness: if self.temperature == 0.0 { 0.0 } else { (1.0 / self.temperature).clamp(1e-30, 1e30) as f32 },
            ..Cursor::default()
        }
    }
}

/// Every token with its probability at a temperature, most likely first; ties are ordered by id.
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
    /// As [`DecodeModel::new`], [`Error::Usage`] for weights of another model, and [`Error::Device`] when the driver refuses.
    pub async fn new(gpu: &Gpu, config: &ModelConfig, weights: &[Vec<f32>], options: &Options) -> Result<Generator> {
        config.validate()?;
        params::check(&params::table(config), "weights", weights)?;
        let generator = Generator::compile(gpu, DecodeModel::new(config, gpu.traits())?, options).await?;
        generator.decoder.write_weights(&generator.compiled, weights).await?;
        Ok(generator)
    }

    /// Compiles a model for one sequence over weights that are resident in another's buffers, such as
    /// [`crate::train::Trainer::shared_weights`] of a model that is still training: its output follows the current weights.
    ///
    /// # Errors
    /// As [`Generator::new`], and [`Error::Usage`] for weights on a `Gpu` that is not a clone of this one.
    pub async fn sharing(gpu: &Gpu, weights: &SharedWeights, options: &Options) -> Result<Generator> {
        let decoder = DecodeModel::new(weights.config(), gpu.traits())?;
        let options = weights.lend(gpu, &decoder.pools, options)?;
        Generator::compile(gpu, decoder, &options).await
    }

    /// The weights of this generator, for others on the same [`Gpu`]: one copy serves any number of them.
    pub fn shared_weights(&self) -> SharedWeights {
        SharedWeights::new(&self.gpu, &self.decoder.config, &self.decoder.pools, &self.compiled)
    }

    /// Writes other weights of the same model, for this generator and all that share its weights. A sequence in progress was begun with the
    /// old weights: begin it again.
    ///
    /// # Errors
    /// [`Error::Usage`] for weights of another model.
    pub async fn write_weights(&mut self, weights: &[Vec<f32>]) -> Result<()> {
        self.decoder.write_weights(&self.compiled, weights).await
    }

    async fn compile(gpu: &Gpu, decoder: DecodeModel, options: &Options) -> Result<Generator> {
        let compiled = decoder.plan.compile(gpu, options).await?;
        let guest = Guest::new(gpu, &decoder.feed.cursor, decoder.feed.down, DecodeProgress::default()).await?;
        let readback = Readback::new(gpu, decoder.feed.bytes).await?;
        if let Some(frequencies) = &decoder.feed.frequencies {
            compiled.write(frequencies, &position::frequencies(decoder.config.d_model)).await?;
        }
        let mut generator = Generator {
            gpu: gpu.clone(),
            decoder,
            compiled,
            guest,
            readback,
            logits: None,
            logits_wanted: false,
            never: vec![],
            sequence: vec![],
            came: VecDeque::new(),
            failed: None,
            sequences: 0,
            cursor: Cursor::default(),
        };
        generator.forbid(&[]).await?;
        Ok(generator)
    }

    /// The bytes that [`Generator::new`] will allocate, computed without allocating.
    ///
    /// # Errors
    /// As [`DecodeModel::new`], and [`Error::Limit`] for what the adapter does not allow.
    pub fn memory(gpu: &Gpu, config: &ModelConfig, options: &Options) -> Result<u64> {
        needs(gpu, &DecodeModel::new(config, gpu.traits())?, options)
    }

    /// The bytes that [`Generator::sharing`] will allocate, computed without allocating. The weights are already resident.
    ///
    /// # Errors
    /// As [`Generator::memory`] and [`Generator::sharing`].
    pub fn memory_sharing(gpu: &Gpu, weights: &SharedWeights, options: &Options) -> Result<u64> {
        let decoder = DecodeModel::new(weights.config(), gpu.traits())?;
        needs(gpu, &decoder, &weights.lend(gpu, &decoder.pools, options)?)
    }

    /// Tokens of context that the model sees.
    pub fn context(&self) -> usize {
        self.decoder.config.seq_len
    }

    /// How long the last finished slice took on the device, as far as it can be measured.
    pub fn last_slice(&self) -> Option<Duration> {
        self.guest.runner.last_slice()
    }

    /// How often the context was full since the last prompt, so that its older half was dropped.
    pub fn slides(&self) -> u64 {
        self.guest.place().slides
    }

    /// Adds ids that are never drawn.
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

    /// Blocks while it processes a new sequence, which [`Generator::next_tokens`] continues. Only the last [`Generator::context`] tokens of
    /// a longer sequence count.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty sequence, an id out of range, or invalid sampling settings.
    pub fn prompt(&mut self, ids: &[u32], sampling: &Sampling) -> Result<()> {
        self.begin(ids, sampling, 0)?;
        let (running, mut decoding) = self.decoding();
        running.guest.run(running.compiled, &mut decoding, None, &|| false).map(drop)
    }

    /// Blocks for exactly the next `count` tokens of the sequence.
    ///
    /// The same prompt, sampling and adapter give the same tokens, no matter how many are requested per call.
    ///
    /// # Errors
    /// As [`Generator::next_few`]; the next call or [`Generator::poll`] returns the tokens drawn before the error.
    pub fn next_tokens(&mut self, count: usize) -> Result<Vec<u32>> {
        let mut tokens = vec![];
        while tokens.len() < count {
            match self.next_few(count - tokens.len()) {
                Ok(few) => tokens.extend(few),
                Err(error) => {
                    tokens.into_iter().rev().for_each(|id| self.came.push_front(id));
                    return Err(error);
                }
            }
        }
        Ok(tokens)
    }

    /// Blocks for the next tokens of the sequence: at least one, at most `most`, and no more than some 100 ms of work. Tokens that
    /// [`Generator::begin`] requested beyond these are no longer drawn.
    ///
    /// # Errors
    /// [`Error::Usage`] before the first prompt and while a host holds a slice, [`Error::Diverged`] for logits that are not finite.
    pub fn next_few(&mut self, most: usize) -> Result<Vec<u32>> {
        if self.sequence.is_empty() {
            return Err(Error::usage("no prompt was given: there is nothing to continue"));
        }
        self.guest.settled()?;
        self.collect()?;
        // In flight, or in a pass that a budget has cut.
        let at = self.guest.place();
        let begun = self.came.len() + (at.drawn - self.cursor.drawn) as usize + usize::from(at.draws);
        self.guest.place_mut().wanted = most.saturating_sub(begun);
        while self.came.is_empty() && most > 0 {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            if self.guest.place().drawn == self.cursor.drawn {
                let (running, mut decoding) = self.decoding();
                running.guest.piece(running.compiled, &mut decoding, Budget::time(PIECE))?;
            } else {
                wait::for_device(&self.gpu)?;
            }
            self.collect()?;
        }
        // Do not begin what did not fit; the next call finishes a token in progress.
        self.guest.place_mut().wanted = 0;
        Ok(self.came.drain(..most.min(self.came.len())).collect())
    }

    /// Blocks for the logits (V) of the token after `ids`; of a longer sequence only the last [`Generator::context`] tokens count.
    /// Forbidden ids have minus infinity.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty sequence or an id out of range, [`Error::Diverged`] for logits that are not finite.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.prompt(ids, &Sampling::greedy())?;
        self.guest.runner.wait_for_all()?;
        let logits = block_on(&self.gpu, self.compiled.read::<f32>(&self.decoder.logits))?;
        self.checked(logits)
    }

    /// The logits of the vocabulary's ids, with those of forbidden ids set to minus infinity.
    fn checked(&self, mut logits: Vec<f32>) -> Result<Vec<f32>> {
        logits.truncate(self.decoder.config.vocab_size);
        if let Some(id) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(diverged(id));
        }
        self.never.iter().for_each(|&id| logits[id as usize] = f32::NEG_INFINITY);
        Ok(logits)
    }
}

/// Bytes of everything that a generator allocates.
fn needs(gpu: &Gpu, decoder: &DecodeModel, options: &Options) -> Result<u64> {
    let needs = decoder.plan.needs(gpu, options)?;
    Ok(needs.total() + Guest::<DecodeProgress>::needs(gpu, decoder.feed.down).0 + decoder.feed.bytes)
}

fn diverged(id: usize) -> Error {
    Error::Diverged(format!("the logit of token {id} is not a finite number: the weights of this model are damaged"))
}

/// # Errors
/// [`Error::Usage`] for an empty list, or for the first id that is not below `vocab_size`.
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
