//! Next tokens: logits of a context, probabilities, and decoding with a key/value cache.
//!
//! A [`Generator`] takes a prompt in ([`Generator::prompt`]) and then draws tokens on the device, several in one submit
//! ([`Generator::next_tokens`], or [`Generator::next_few`] as they come); nothing but their ids comes back. A context that is full is a
//! sliding window: the older half is dropped, the rest is taken in again from place 0, and decoding goes on ([`Generator::slides`] counts).
//!
//! Both block. Inside a host's frame [`Generator::begin`], [`Generator::encode`] and [`Generator::poll`] do the same in slices.

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
use crate::model::decode::Decoder;
use crate::model::numbers::need;
use crate::model::numbers::{Number, Shown};
use crate::model::shared::SharedWeights;
use crate::model::{ModelConfig, params};
use crate::ops::cursor::Cursor;
use crate::ops::position;
use crate::ops::sample;

/// What one call of [`Generator::next_few`] should take: text that comes in pieces of this long still reads as it comes.
const PIECE: Duration = Duration::from_millis(100);

/// A model that continues a sequence of tokens.
pub struct Generator {
    gpu: Gpu,
    pub decoder: Decoder,
    compiled: Compiled,
    guest: Guest<Place>,
    readback: Readback,
    /// Logits on their way back; made when they are first asked for.
    logits: Option<Readback>,
    logits_wanted: bool,
    /// Ids that are never drawn.
    never: Vec<u32>,
    /// The prompt and all tokens that have come back.
    sequence: Vec<u32>,
    /// Tokens that have come back and were not handed out.
    came: VecDeque<u32>,
    /// Why no more will come.
    failed: Option<Error>,
    /// Sequences begun: what comes back of an old one is told by its number.
    sequences: u64,
    /// How the host has told the device to draw, with the tokens that have come back.
    cursor: Cursor,
}

/// Where decoding stands between two passes.
#[derive(Debug, Clone, Default)]
struct Place {
    /// The context begins at this token of the sequence, and the caches hold so many of it.
    window: usize,
    cached: usize,
    /// Whether that is all of the sequence up to what was drawn since.
    taken_in: bool,
    /// Whether the logits on the device are those after the whole sequence, and nothing was drawn from them.
    fresh: bool,
    slides: u64,
    /// Tokens drawn, and those yet to be drawn.
    drawn: u32,
    wanted: usize,
    /// Whether the pass under way draws a token.
    draws: bool,
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
        // The device gets the temperature's inverse, which has a range of its own.
        need(
            self.temperature >= 0.0 && self.temperature.is_finite(),
            "temperature",
            Shown(self.temperature),
            "needs a number of at least 0",
        )?;
        Number::UpToOne.check("top_p", self.top_p)
    }

    /// The block that tells the device. Temperatures below 1e-30 are as good as that.
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
    /// As [`Decoder::new`], [`Error::Usage`] for weights of another model, and [`Error::Device`] when the driver refuses.
    pub async fn new(gpu: &Gpu, config: &ModelConfig, weights: &[Vec<f32>], options: &Options) -> Result<Generator> {
        config.validate()?;
        params::check(&params::table(config), "weights", weights)?;
        let generator = Generator::compile(gpu, Decoder::new(config, gpu.limits())?, options).await?;
        generator.decoder.write_weights(&generator.compiled, weights).await?;
        Ok(generator)
    }

    /// Compiles a model for one sequence over weights that lie in another's buffers, say [`crate::train::Trainer::shared_weights`] of a
    /// model that is still training: it writes what that model would write now.
    ///
    /// # Errors
    /// As [`Generator::new`], and [`Error::Usage`] for weights on another `Gpu` than a clone of this.
    pub async fn sharing(gpu: &Gpu, weights: &SharedWeights, options: &Options) -> Result<Generator> {
        let decoder = Decoder::new(weights.config(), gpu.limits())?;
        let options = weights.lend(gpu, &decoder.pools, options)?;
        Generator::compile(gpu, decoder, &options).await
    }

    /// The weights of this generator, for others on the same [`Gpu`]: one copy serves any number of them.
    pub fn shared_weights(&self) -> SharedWeights {
        SharedWeights::new(&self.gpu, &self.decoder.config, &self.decoder.pools, &self.compiled)
    }

    /// Writes other weights of the same model, for this generator and for all that share its weights. What is under way was begun with the
    /// old ones: begin again.
    ///
    /// # Errors
    /// [`Error::Usage`] for weights of another model.
    pub async fn write_weights(&mut self, weights: &[Vec<f32>]) -> Result<()> {
        self.decoder.write_weights(&self.compiled, weights).await
    }

    async fn compile(gpu: &Gpu, decoder: Decoder, options: &Options) -> Result<Generator> {
        let compiled = decoder.plan.compile(gpu, options).await?;
        let guest = Guest::new(gpu, &decoder.feed.cursor, decoder.feed.down, Place::default()).await?;
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

    /// What [`Generator::new`] will allocate, in bytes, without allocating.
    ///
    /// # Errors
    /// As [`Decoder::new`], and [`Error::Limit`] for what the adapter does not allow.
    pub fn memory(gpu: &Gpu, config: &ModelConfig, options: &Options) -> Result<u64> {
        needs(gpu, &Decoder::new(config, gpu.limits())?, options)
    }

    /// What [`Generator::sharing`] will allocate, in bytes, without allocating: the weights are there already.
    ///
    /// # Errors
    /// As [`Generator::memory`] and [`Generator::sharing`].
    pub fn memory_sharing(gpu: &Gpu, weights: &SharedWeights, options: &Options) -> Result<u64> {
        let decoder = Decoder::new(weights.config(), gpu.limits())?;
        needs(gpu, &decoder, &weights.lend(gpu, &decoder.pools, options)?)
    }

    /// Tokens of context that the model sees.
    pub fn context(&self) -> usize {
        self.decoder.config.seq_len
    }

    /// What the last slice that has ended took on the device, as far as this can tell.
    pub fn last_slice(&self) -> Option<Duration> {
        self.guest.runner.last_slice()
    }

    /// How often the context was full, so that its older half was dropped, since the last prompt.
    pub fn slides(&self) -> u64 {
        self.guest.place().slides
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
        self.begin(ids, sampling, 0)?;
        let (running, mut decoding) = self.decoding();
        running.guest.run(running.compiled, &mut decoding, None, &|| false).map(drop)
    }

    /// Blocks for exactly the next `count` tokens of the sequence.
    ///
    /// The same prompt, sampling and adapter give the same tokens, however they are asked for.
    ///
    /// # Errors
    /// As [`Generator::next_few`]; tokens drawn before the error come with the next call or [`Generator::poll`].
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

    /// Blocks for the next tokens of the sequence: at least one, at most `most`, and no more than some 100 ms of work. What
    /// [`Generator::begin`] wanted beyond these is given up.
    ///
    /// # Errors
    /// [`Error::Usage`] before the first prompt and while a host has a slice, [`Error::Diverged`] for logits that are not finite.
    pub fn next_few(&mut self, most: usize) -> Result<Vec<u32>> {
        if self.sequence.is_empty() {
            return Err(Error::usage("no prompt was given: there is nothing to continue"));
        }
        self.guest.settled()?;
        self.collect()?;
        // On their way, or in the pass that a budget has cut.
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
        // What did not fit is not begun; a token under way is finished by the next call.
        self.guest.place_mut().wanted = 0;
        Ok(self.came.drain(..most.min(self.came.len())).collect())
    }

    /// Blocks for the logits (V) of the token after `ids`; of a longer sequence only the last [`Generator::context`] tokens count.
    /// Forbidden ids have minus infinity.
    ///
    /// # Errors
    /// [`Error::Usage`] for no token at all or an id out of range, [`Error::Diverged`] for logits that are not finite.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.prompt(ids, &Sampling::greedy())?;
        self.guest.runner.wait_for_all()?;
        let logits = block_on(&self.gpu, self.compiled.read::<f32>(&self.decoder.logits))?;
        self.checked(logits)
    }

    /// The logits of real ids, those of forbidden ones at minus infinity.
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
fn needs(gpu: &Gpu, decoder: &Decoder, options: &Options) -> Result<u64> {
    let needs = decoder.plan.needs(gpu, options)?;
    Ok(needs.total() + Guest::<Place>::needs(gpu, decoder.feed.down).0 + decoder.feed.bytes)
}

fn diverged(id: usize) -> Error {
    Error::Diverged(format!("the logit of token {id} is not a finite number: the weights of this model are damaged"))
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
