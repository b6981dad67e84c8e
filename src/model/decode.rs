//! Decoding: the plan that adds tokens to one context, with cached keys and values.
//!
//! Its phases are [`PREFILL`], which processes up to [`DecodeModel::chunk`] tokens of a prompt; [`PICK`], which computes the logits
//! after the last of them; [`TOKEN`], which processes one token and computes the logits after it; [`SAMPLE`], which draws the next token.
//! All share weights, caches and [`Feed`]: the ids of the pass and the [`Cursor`], which only [`SAMPLE`] advances. So the host can encode
//! any number of [`TOKEN`] and [`SAMPLE`] ahead.

use super::config::{ModelConfig, PositionEncoding};
use super::params::{self, Weights};
use super::pools::Pools;
use super::recorder::{KeyValues, Recorder};
use crate::error::Result;
use crate::gpu::Traits;
use crate::gpu::compile::Compiled;
use crate::gpu::plan::{Keep, Phase, Plan};
use crate::gpu::tensor::{Dtype, Tensor};
use crate::ops::Ops;
use crate::ops::cached_attention::{Cache, CachedAttention};
use crate::ops::cursor::Cursor;
use crate::ops::sample::{RING, Sample};
use crate::ops::step::Step;
use crate::ops::token_embedding::TokenEmbedding;

/// Runs up to [`DecodeModel::chunk`] tokens of a prompt through the blocks, and appends their keys and values to the caches.
pub const PREFILL: Phase = Phase("prefill");
/// Computes the logits after the last token of a prefill.
pub const PICK: Phase = Phase("pick");
/// Runs the token that was drawn last through the blocks, and computes the logits after it.
pub const TOKEN: Phase = Phase("token");
/// Draws the next token from the logits, writes it to the ids and the ring, and advances the cursor.
pub const SAMPLE: Phase = Phase("sample");

/// Most tokens of a prompt that one pass processes.
const CHUNK: usize = 64;

/// The recorded plan, and the tensors that the host fills and reads.
pub struct DecodeModel {
    /// Shape of the model, with `dropout` 0.
    pub config: ModelConfig,
    /// All dispatches by phase, and all tensors that they bind.
    pub plan: Plan,
    /// Weights only, without gradients or moments.
    pub pools: Pools,
    pub(crate) feed: Feed,
    /// (1, V), padded to whole quads: the logits after the last token.
    pub logits: Tensor,
    /// (V / 32 words): one bit per id, set if it may be drawn.
    pub allowed: Tensor,
}

/// What the host writes before a pass and reads back after it, in one storage.
pub struct Feed {
    pub(crate) cursor: Tensor,
    /// (1): the row of a prefill whose logits are computed.
    pick: Tensor,
    /// (chunk): the tokens of a pass.
    ids: Tensor,
    /// The block of [`Step`]: zeros, as decoding drops nothing.
    step: Tensor,
    /// (RING): the last tokens drawn.
    ring: Tensor,
    /// Fixed-point frequencies of the sinusoidal encoding, written once.
    pub frequencies: Option<Tensor>,
    /// Bytes that the host writes, from the start of the storage.
    pub down: u64,
    /// Bytes of the storage.
    pub bytes: u64,
}

impl DecodeModel {
    /// Records decoding of one sequence.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for an invalid config, [`crate::error::Error::Limit`] for a tensor larger than the adapter's limits allow.
    pub fn new(config: &ModelConfig, traits: &Traits) -> Result<DecodeModel> {
        let config = ModelConfig { dropout: 0.0, ..config.clone() };
        config.validate()?;
        super::check_sizes(&config, 1)?;
        let mut plan = Plan::new();
        let pools = Pools::new(&mut plan, &config, None, Dtype::F32, &traits.limits)?;
        let feed = Feed::new(&mut plan, &config);
        let logits = super::logits(&mut plan, &config, 1);
        let allowed = plan.kept("allowed", &[config.vocab_size.div_ceil(32)], Dtype::U32, "inputs");
        let weights = &Weights::describe(&config).find(|name| pools.weights(name), |name| pools.operands(name));
        let context = KeyValues::Cached {
            cursor: &feed.cursor,
            embedding: TokenEmbedding::new(),
            attention: CachedAttention::new(config.head_size()),
            caches: (0..config.n_layer).map(|l| cache(&mut plan, &config, l)).collect(),
        };
        let ops = &Ops::new(config.head_size(), Dtype::F32);
        let (step, frequencies) = (&feed.step, feed.frequencies.as_ref());
        let recorder = Recorder { ops, config: &config, step, frequencies, context, batch: 1, dtype: Dtype::F32, traits };
        plan.begin(PREFILL);
        let prompt = recorder.blocks(&mut plan, weights, &feed.ids);
        plan.begin(PICK);
        recorder.predict(&mut plan, weights, prompt.y(), Some(&feed.pick), &logits);
        plan.begin(TOKEN);
        let first = Tensor { shape: vec![1], ..feed.ids.clone() };
        let token = recorder.blocks(&mut plan, weights, &first);
        recorder.predict(&mut plan, weights, token.y(), None, &logits);
        plan.begin(SAMPLE);
        Sample::new().draw(&mut plan, config.vocab_size, &logits, &allowed, &feed.cursor, &feed.ids, &feed.ring);
        drop(recorder);
        Ok(DecodeModel { config, plan, pools, feed, logits, allowed })
    }

    /// The most tokens of one prefill.
    pub fn chunk(&self) -> usize {
        self.feed.ids.len()
    }

    /// Writes every weight; `weights` are in the order of the parameter table.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for weights of another model; then none is written.
    pub async fn write_weights(&self, compiled: &Compiled, weights: &[Vec<f32>]) -> Result<()> {
        params::check(&self.pools.table, "weights", weights)?;
        for (param, values) in self.pools.table.iter().zip(weights) {
            let mut rest = values.as_slice();
            // A table may be split by rows.
            for tensor in self.pools.weights(&param.name) {
                let (head, tail) = rest.split_at(tensor.len());
                compiled.write(&tensor, head).await?;
                rest = tail;
            }
        }
        Ok(())
    }
}

/// The keys and values of a layer.
fn cache(plan: &mut Plan, config: &ModelConfig, layer: usize) -> Cache {
    let mut kept = |name: &str| plan.kept(&format!("h.{layer}.{name}"), &[config.seq_len, config.d_model], Dtype::F32, "cache");
    Cache { keys: kept("keys"), values: kept("values") }
}

impl Feed {
    fn new(plan: &mut Plan, config: &ModelConfig) -> Feed {
        let chunk = CHUNK.min(config.seq_len);
        let sizes = [Cursor::WORDS, 1, chunk, RING];
        let mut offsets = vec![0u64];
        for size in sizes {
            offsets.push((offsets[offsets.len() - 1] + size as u64 * 4).next_multiple_of(256));
        }
        let bytes = offsets[sizes.len()];
        let storage = plan.storage("feed", bytes, Keep::Always, "inputs");
        let view = |index: usize, name: &str| plan.view(storage, name, &[sizes[index]], Dtype::U32, offsets[index]);
        let (cursor, pick, ids, ring) = (view(0, "cursor"), view(1, "pick"), view(2, "ids"), view(3, "ring"));
        let sinusoidal = config.position == PositionEncoding::Sinusoidal;
        let frequencies = sinusoidal.then(|| plan.kept("frequencies", &[config.d_model], Dtype::U32, "inputs"));
        let step = plan.kept("step", &[Step::WORDS], Dtype::U32, "inputs");
        Feed { cursor, pick, ids, step, ring, frequencies, down: offsets[3], bytes }
    }

    /// The bytes that the host writes to prefill these tokens at the position of `cursor`.
    pub fn slot(&self, cursor: Cursor, ids: &[u32]) -> Vec<u8> {
        let mut slot = vec![0u8; self.down as usize];
        let mut put = |tensor: &Tensor, bytes: &[u8]| slot[tensor.offset as usize..][..bytes.len()].copy_from_slice(bytes);
        put(&self.cursor, bytemuck::bytes_of(&cursor));
        put(&self.pick, bytemuck::bytes_of(&(ids.len() as u32 - 1)));
        put(&self.ids, bytemuck::cast_slice(ids));
        slot
    }

    /// Parses the cursor and the ring from the bytes of the storage.
    pub fn read(&self, bytes: &[u8]) -> (Cursor, Vec<u32>) {
        let part = |tensor: &Tensor| &bytes[tensor.offset as usize..][..tensor.len() * 4];
        (bytemuck::pod_read_unaligned(part(&self.cursor)), bytemuck::pod_collect_to_vec(part(&self.ring)))
    }
}
