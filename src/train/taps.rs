//! Copies and attention maps that a host receives at the end of a phase of each step.

use crate::gpu::plan::Phase;
use crate::model::FORWARD;
use crate::model::attention_maps::AttentionMaps;
use crate::model::view::View;

/// Selects an attention map of a training batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttentionAt {
    /// Index of the block, from 0.
    pub layer: usize,
    /// Index of the head in the block, from 0.
    pub head: usize,
    /// Index of the sample in the (micro-)batch.
    pub sample: usize,
}

#[derive(Default)]
pub(super) struct Taps {
    pub copies: Vec<Tap>,
    pub maps: Option<AttentionMaps>,
    pub shown: Option<AttentionAt>,
}

/// A copy made at the end of a phase.
pub(super) struct Tap {
    pub phase: Phase,
    pub from: Vec<View>,
    pub to: View,
}

impl Taps {
    /// Whether anything is to be encoded at the end of a phase.
    pub fn watch(&self, phase: Phase) -> bool {
        phase == FORWARD && self.shown.is_some() || self.copies.iter().any(|tap| tap.phase == phase)
    }

    /// Encodes the copies and the map that are due at the end of a phase.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, phase: Phase) {
        if let (Some(maps), Some(at), true) = (&self.maps, self.shown, phase == FORWARD) {
            maps.encode(encoder, at.layer, at.head, at.sample);
        }
        for tap in self.copies.iter().filter(|tap| tap.phase == phase) {
            let mut end = tap.to.offset;
            for part in &tap.from {
                encoder.copy_buffer_to_buffer(&part.buffer, part.offset, &tap.to.buffer, end, part.bytes);
                end += part.bytes;
            }
        }
    }
}
