//! Next tokens: logits of a context, probabilities, and sampling.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::compile::Options;
use crate::gpu::wait::block_on;
use crate::model::config::ModelConfig;
use crate::model::session::Session;
use crate::model::{FORWARD, Model, PREDICT};
use crate::ops::step::Step;

/// A model that continues sequences of tokens.
pub struct Generator {
    pub session: Session,
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
}

/// Draws tokens one after another: the same seed and logits give the same tokens.
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    pub fn new(sampling: Sampling) -> Result<Sampler> {
        sampling.validate()?;
        let rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        Ok(Sampler { sampling, rng })
    }

    /// The next token of these logits.
    pub fn draw(&mut self, logits: &[f32]) -> u32 {
        let ranked = ranked(logits, self.sampling.temperature.max(f64::MIN_POSITIVE));
        if self.sampling.temperature == 0.0 {
            return ranked[0].0;
        }
        let mut most = if self.sampling.top_k == 0 { ranked.len() } else { self.sampling.top_k.min(ranked.len()) };
        let mut reached = 0.0;
        if self.sampling.top_p < 1.0 {
            let enough = ranked[..most].iter().position(|(_, p)| {
                reached += p;
                reached >= self.sampling.top_p
            });
            most = enough.map_or(most, |index| index + 1);
        }
        let total: f64 = ranked[..most].iter().map(|(_, p)| p).sum();
        let mut rest = self.rng.random::<f64>() * total;
        for (id, p) in &ranked[..most] {
            rest -= p;
            if rest < 0.0 {
                return *id;
            }
        }
        ranked[most - 1].0
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
    /// As [`Session::new`].
    pub async fn new(gpu: &Gpu, config: &ModelConfig, weights: &[Vec<f32>], options: &Options) -> Result<Generator> {
        let session = Session::new(gpu, Model::inference(config, 1, gpu.limits())?, options).await?;
        session.write_weights(|index, _| Ok(weights[index].clone())).await?;
        Ok(Generator { session })
    }

    /// Tokens of context that the model sees.
    pub fn context(&self) -> usize {
        self.session.model.config.seq_len
    }

    /// Blocks for the logits (V) of the token after `ids`; of a longer sequence only the last [`Generator::context`] tokens count.
    ///
    /// # Errors
    /// [`Error::Usage`] for no token at all or an id out of range.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        check_ids(ids, self.session.model.config.vocab_size)?;
        let seen = &ids[ids.len().saturating_sub(self.context())..];
        let mut frame = seen.to_vec();
        frame.resize(self.context(), 0);
        let pick = [seen.len() as u32 - 1];
        let slot = self.session.model.inputs.slot(Step::default().with_dropout(0.0), &frame, &[], &[], &pick);
        self.session.run(&slot, &[FORWARD, PREDICT], PREDICT, None, &|| false)?;
        let logits = self.session.model.logits.clone().expect("an inference model has logits");
        let mut logits = block_on(&self.session.gpu, self.session.compiled.read::<f32>(&logits))?;
        logits.truncate(self.session.model.config.vocab_size);
        match logits.iter().position(|logit| !logit.is_finite()) {
            Some(id) => Err(Error::Diverged(format!("the logit of token {id} is {}: the weights of this model are damaged", logits[id]))),
            None => Ok(logits),
        }
    }
}

/// # Errors
/// [`Error::Usage`] for an empty list, or the first id that is not below `vocab_size`.
pub fn check_ids(ids: &[u32], vocab_size: usize) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::usage("the prompt is empty: at least one token is needed"));
    }
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(id) => Err(Error::usage(format!("token id {id} is out of range: the vocabulary has ids 0 to {}", vocab_size - 1))),
        None => Ok(()),
    }
}
