//! What is copied or computed for a host at the end of a phase of each step.

use crate::gpu::plan::Phase;
use crate::model::FORWARD;
use crate::model::attention_maps::AttentionMaps;
use crate::model::view::View;

/// Which attention of a training batch is mapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttentionAt {
    pub layer: usize,
    pub head: usize,
    /// The sample of the (micro-)batch.
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
    /// Whether something is wanted at the end of a phase.
    pub fn watch(&self, phase: Phase) -> bool {
        phase == FORWARD && self.shown.is_some() || self.copies.iter().any(|tap| tap.phase == phase)
    }

    /// Encodes what is wanted at the end of a phase.
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
