//! Decoding: the plan of a model that adds tokens to one context, with keys and values kept.
//!
//! Its phases are [`PREFILL`], up to [`Decoder::chunk`] tokens of a prompt at once; [`PICK`], the logits after the last of them;
//! [`TOKEN`], one token and the logits after it; [`SAMPLE`], the next token drawn from the logits. All share weights, caches and the feed:
//! the [`Cursor`], which only [`SAMPLE`] moves on, and the ids of the pass. So any number of [`TOKEN`] and [`SAMPLE`] can be encoded ahead.

use super::config::{Activation, ModelConfig, Norm, Position};
use super::params::{self, BlockWeights, Layer, Pools, Weights};
use crate::error::Result;
use crate::gpu::compile::Compiled;
use crate::gpu::plan::{Keep, Phase, Plan};
use crate::gpu::tensor::{Dtype, Tensor};
use crate::ops::Ops;
use crate::ops::cached_attention::{Cache, CachedAttention};
use crate::ops::cursor::Cursor;
use crate::ops::matmul::{self, Block, Drop};
use crate::ops::sample::{RING, Sample};
use crate::ops::step::Step;
use crate::ops::token_embedding::{Positions, TokenEmbedding};

pub const PREFILL: Phase = Phase("prefill");
pub const PICK: Phase = Phase("pick");
pub const TOKEN: Phase = Phase("token");
pub const SAMPLE: Phase = Phase("sample");

/// Tokens of a prompt that are taken in at once.
const CHUNK: usize = 64;

/// The recorded plan, and the tensors that the host fills and reads.
pub struct Decoder {
    pub config: ModelConfig,
    pub plan: Plan,
    pub pools: Pools,
    pub feed: Feed,
    /// (1, V), padded to whole quads: the logits after the last token.
    pub logits: Tensor,
    /// (V / 32): a bit for each id that may be drawn.
    pub allowed: Tensor,
}

/// What the host writes before a pass and reads after it, in one storage.
pub struct Feed {
    pub cursor: Tensor,
    /// (1): the row of a prefill whose logits are wanted.
    pick: Tensor,
    /// (chunk): the tokens of a pass.
    ids: Tensor,
    /// The block of [`Step`]: zeros, for nothing is dropped out.
    step: Tensor,
    /// (RING): the latest tokens drawn.
    ring: Tensor,
    /// Fixed-point frequencies of the sinusoidal encoding, written once.
    pub frequencies: Option<Tensor>,
    /// Bytes that the host writes.
    pub down: u64,
    /// Bytes of the storage.
    pub bytes: u64,
}

/// What recording a pass needs at hand.
struct Recorder<'a> {
    config: &'a ModelConfig,
    feed: &'a Feed,
    ops: Ops,
    embedding: TokenEmbedding,
    attention: CachedAttention,
    caches: Vec<Cache>,
}

impl Decoder {
    /// Records decoding of one sequence.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for an invalid config, [`crate::error::Error::Limit`] for a tensor that the limits rule out.
    pub fn new(config: &ModelConfig, limits: &wgpu::Limits) -> Result<Decoder> {
        config.validate()?;
        super::check_sizes(config, 1)?;
        let mut plan = Plan::new();
        let pools = Pools::new(&mut plan, config, None, Dtype::F32, limits)?;
        let feed = Feed::new(&mut plan, config);
        let logits = plan.kept("logits", &[1, config.vocab_size.next_multiple_of(4)], Dtype::F32, "results");
        let allowed = plan.kept("allowed", &[config.vocab_size.div_ceil(32)], Dtype::U32, "inputs");
        let weights = Weights::of(config, |name| pools.weights(name), |name| pools.operands(name));
        let recorder = Recorder {
            config,
            feed: &feed,
            ops: Ops::new(config.head_size(), Dtype::F32),
            embedding: TokenEmbedding::new(),
            attention: CachedAttention::new(config.head_size()),
            caches: (0..config.n_layer).map(|l| cache(&mut plan, config, l)).collect(),
        };
        plan.begin(PREFILL);
        let hidden = recorder.rows(&mut plan, &weights, &feed.ids);
        plan.begin(PICK);
        let picked = recorder.tensor(&mut plan, "picked", &[1, config.d_model]);
        recorder.ops.embedding.forward(&mut plan, &feed.pick, std::slice::from_ref(&hidden), 1.0, &picked);
        recorder.head(&mut plan, &weights, &picked, &logits);
        plan.begin(TOKEN);
        let first = Tensor { shape: vec![1], ..feed.ids.clone() };
        let hidden = recorder.rows(&mut plan, &weights, &first);
        recorder.head(&mut plan, &weights, &hidden, &logits);
        plan.begin(SAMPLE);
        Sample::new().draw(&mut plan, config.vocab_size, &logits, &allowed, &feed.cursor, &feed.ids, &feed.ring);
        Ok(Decoder { config: config.clone(), plan, pools, feed, logits, allowed })
    }

    /// The most tokens that one prefill takes in.
    pub fn chunk(&self) -> usize {
        self.feed.ids.len()
    }

    /// Writes every weight, given in the parameter table's order.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for weights of another model, before any is written.
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
        let sinusoidal = config.position == Position::Sinusoidal;
        let frequencies = sinusoidal.then(|| plan.kept("frequencies", &[config.d_model], Dtype::U32, "inputs"));
        let step = plan.kept("step", &[Step::WORDS], Dtype::U32, "inputs");
        Feed { cursor, pick, ids, step, ring, frequencies, down: offsets[3], bytes }
    }

    /// The bytes that prefill these tokens from the cursor on.
    pub fn slot(&self, cursor: Cursor, ids: &[u32]) -> Vec<u8> {
        let mut slot = vec![0u8; self.down as usize];
        let mut put = |tensor: &Tensor, bytes: &[u8]| slot[tensor.offset as usize..][..bytes.len()].copy_from_slice(bytes);
        put(&self.cursor, bytemuck::bytes_of(&cursor));
        put(&self.pick, bytemuck::bytes_of(&(ids.len() as u32 - 1)));
        put(&self.ids, bytemuck::cast_slice(ids));
        slot
    }

    /// The cursor and the ring in the bytes of the storage.
    pub fn read(&self, bytes: &[u8]) -> (Cursor, Vec<u32>) {
        let part = |tensor: &Tensor| &bytes[tensor.offset as usize..][..tensor.len() * 4];
        (bytemuck::pod_read_unaligned(part(&self.cursor)), bytemuck::pod_collect_to_vec(part(&self.ring)))
    }
}

impl Recorder<'_> {
    /// Activations of single rows are little memory: they are never packed.
    fn tensor(&self, plan: &mut Plan, name: &str, shape: &[usize]) -> Tensor {
        plan.activation(name, shape, Dtype::F32)
    }

    /// Embedding and blocks of new rows; the result (rows, C) goes to the head.
    fn rows(&self, plan: &mut Plan, w: &Weights, ids: &Tensor) -> Tensor {
        let mut x = self.tensor(plan, "embedded", &[ids.len(), self.config.d_model]);
        plan.scoped("embed", |plan| {
            let positions = match (&w.wpe, &self.feed.frequencies) {
                (Some(wpe), _) => Positions::Learned(wpe),
                (None, Some(frequencies)) => Positions::Sinusoidal(frequencies, self.config.seq_len),
                (None, None) => unreachable!("a model has learned or sinusoidal positions"),
            };
            self.embedding.forward(plan, &self.feed.cursor, ids, &w.wte, self.config.embedding_scale(), positions, &x);
        });
        for (l, h) in w.h.iter().enumerate() {
            x = plan.scoped(&format!("h.{l}"), |plan| match self.config.norm {
                Norm::Pre => self.pre_norm_block(plan, l, h, &x),
                Norm::Post => self.post_norm_block(plan, l, h, &x),
            });
        }
        x
    }

    /// The logits of one row.
    fn head(&self, plan: &mut Plan, w: &Weights, x: &Tensor, logits: &Tensor) {
        plan.scoped("head", |plan| {
            let x = w.ln_f.as_ref().map_or_else(|| x.clone(), |ln_f| self.norm(plan, ln_f, x));
            let mut col = 0;
            for part in &w.lm_head {
                let y = Block::whole(logits).columns(col, part.rows());
                self.ops.matmul.forward(plan, Block::whole(&x), Block::whole(part), None, y);
                col += part.rows();
            }
        });
    }

    fn pre_norm_block(&self, plan: &mut Plan, l: usize, h: &BlockWeights, x: &Tensor) -> Tensor {
        let normal = self.norm(plan, &h.ln_1, x);
        let sum = self.attend(plan, l, h, &normal, x);
        let normal = self.norm(plan, &h.ln_2, &sum);
        self.feed_forward(plan, h, &normal, &sum)
    }

    fn post_norm_block(&self, plan: &mut Plan, l: usize, h: &BlockWeights, x: &Tensor) -> Tensor {
        let sum = self.attend(plan, l, h, x, x);
        let normal = self.norm(plan, &h.ln_1, &sum);
        let sum = self.feed_forward(plan, h, &normal, &normal);
        self.norm(plan, &h.ln_2, &sum)
    }

    /// residual + the attention of x.
    fn attend(&self, plan: &mut Plan, l: usize, h: &BlockWeights, x: &Tensor, residual: &Tensor) -> Tensor {
        plan.scoped("attn", |plan| {
            let qkv = self.tensor(plan, "qkv", &[x.rows(), 3 * x.cols()]);
            self.linear(plan, &h.qkv, x, &qkv);
            let y = self.tensor(plan, "attn.y", &x.shape);
            self.attention.forward(plan, &self.feed.cursor, &qkv, &self.caches[l], &y);
            self.linear_residual(plan, &h.attn_proj, &y, residual)
        })
    }

    /// residual + the feed-forward of x.
    fn feed_forward(&self, plan: &mut Plan, h: &BlockWeights, x: &Tensor, residual: &Tensor) -> Tensor {
        plan.scoped("mlp", |plan| {
            let (fc, act) =
                (self.tensor(plan, "fc", &[x.rows(), self.config.d_ff()]), self.tensor(plan, "act", &[x.rows(), self.config.d_ff()]));
            self.ops.matmul.forward_activate(plan, self.activation(), x, &h.fc.weight, h.fc.bias.as_ref(), &fc, &act);
            self.linear_residual(plan, &h.mlp_proj, &act, residual)
        })
    }

    fn norm(&self, plan: &mut Plan, layer: &Layer, x: &Tensor) -> Tensor {
        let (y, moments) = (self.tensor(plan, "normal", &x.shape), plan.statistic("moments", &[x.rows(), 2]));
        self.ops.layer_norm.forward(plan, x, &layer.weight, layer.bias.as_ref(), &y, &moments);
        y
    }

    fn linear(&self, plan: &mut Plan, layer: &Layer, x: &Tensor, y: &Tensor) {
        self.ops.matmul.forward(plan, Block::whole(x), Block::whole(&layer.weight), layer.bias.as_ref(), Block::whole(y));
    }

    fn linear_residual(&self, plan: &mut Plan, layer: &Layer, x: &Tensor, residual: &Tensor) -> Tensor {
        let sum = self.tensor(plan, "sum", &residual.shape);
        let dropout = Drop { stream: 0, samples: 1, step: &self.feed.step, on: false };
        self.ops.matmul.forward_residual(plan, dropout, x, &layer.weight, layer.bias.as_ref(), residual, &sum);
        sum
    }

    fn activation(&self) -> matmul::Activation {
        match self.config.activation {
            Activation::Gelu => matmul::Activation::Gelu,
            Activation::Relu => matmul::Activation::Relu,
        }
    }
}
