//! What the host writes for each micro-batch: one storage, filled by one copy.

use super::config::{ModelConfig, PositionEncoding};
use crate::gpu::plan::{Keep, Plan};
use crate::gpu::tensor::{Dtype, Tensor};
use crate::ops::position;
use crate::ops::step::Step;

/// Tensors in one storage, which one slot fills.
pub struct Inputs {
    /// The block of [`Step`].
    pub step: Tensor,
    /// (B, T) token ids.
    pub ids: Tensor,
    /// (B, T) ids of the next tokens; training only.
    pub targets: Option<Tensor>,
    /// (B · T) positions sorted by (id, position), for the embedding's backward; training only.
    pub order: Option<Tensor>,
    /// (picks) rows whose logits are computed; inference only.
    pub picks: Option<Tensor>,
    /// Fixed-point frequencies of the sinusoidal encoding, written once.
    pub frequencies: Option<Tensor>,
    /// Bytes of the storage.
    pub bytes: u64,
}

impl Inputs {
    pub(crate) fn new(plan: &mut Plan, config: &ModelConfig, batch: usize, picks: Option<usize>) -> Inputs {
        let tokens = batch * config.seq_len;
        let training = picks.is_none();
        let sizes = [Step::WORDS, tokens, if training { tokens } else { 0 }, if training { tokens } else { 0 }, picks.unwrap_or(0)];
        let mut offsets = vec![0u64];
        for size in sizes {
            offsets.push((offsets[offsets.len() - 1] + size as u64 * 4).next_multiple_of(256));
        }
        let bytes = offsets[sizes.len()];
        let storage = plan.storage("inputs", bytes, Keep::Always, "inputs");
        let view = |index: usize, name: &str, shape: &[usize]| {
            (sizes[index] > 0).then(|| plan.view(storage, name, shape, Dtype::U32, offsets[index]))
        };
        let frame = [batch, config.seq_len];
        let (targets, order) = (view(2, "targets", &frame), view(3, "order", &[tokens]));
        let picks = view(4, "picks", &[picks.unwrap_or(0)]);
        let step = plan.view(storage, "step", &[Step::WORDS], Dtype::U32, offsets[0]);
        let ids = plan.view(storage, "ids", &frame, Dtype::U32, offsets[1]);
        let sinusoidal = config.position == PositionEncoding::Sinusoidal;
        let words = config.d_model.div_ceil(2) * 2;
        let frequencies = sinusoidal.then(|| plan.kept("frequencies", &[words], Dtype::U32, "inputs"));
        Inputs { step, ids, targets, order, picks, frequencies, bytes }
    }

    /// The tensor that the sinusoidal encoding needs written once, and its contents.
    pub fn constants(&self, config: &ModelConfig) -> Option<(&Tensor, Vec<u32>)> {
        self.frequencies.as_ref().map(|tensor| (tensor, position::frequencies(config.d_model)))
    }

    /// The bytes of one slot. `order` comes from [`crate::text::sort_order_into`]; data for absent tensors is ignored.
    pub fn slot(&self, step: Step, ids: &[u32], targets: &[u32], order: &[u32], picks: &[u32]) -> Vec<u8> {
        let mut slot = vec![0u8; self.bytes as usize];
        let mut put = |tensor: &Tensor, words: &[u32]| {
            assert_eq!(tensor.len(), words.len(), "`{}` has shape {:?}", tensor.name, tensor.shape);
            let start = tensor.offset as usize;
            slot[start..start + words.len() * 4].copy_from_slice(bytemuck::cast_slice(words));
        };
        put(&self.step, bytemuck::cast_slice(&[step]));
        put(&self.ids, ids);
        for (tensor, words) in [(&self.targets, targets), (&self.order, order), (&self.picks, picks)] {
            if let Some(tensor) = tensor {
                put(tensor, words);
            }
        }
        slot
    }
}
