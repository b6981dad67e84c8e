//! Attention maps: the (T, T) probabilities of one head, computed on demand from the activations of the last forward pass.

use std::ops::Range;

use super::FORWARD;
use super::acts::AttentionActs;
use super::session::Session;
use super::view::View;
use crate::error::{Error, Result};
use crate::gpu::compile::Compiled;
use crate::gpu::options::Options;
use crate::gpu::plan::{Phase, Plan};
use crate::gpu::tensor::{Dtype, Tensor};
use crate::ops::attention::Shape;
use crate::ops::attention_map::AttentionMap;

const MAP: Phase = Phase("map");

/// A separate plan over a session's buffers, with one dispatch for each layer, sample and head, so that selecting a map compiles nothing.
pub struct AttentionMaps {
    compiled: Compiled,
    layers: usize,
    samples: usize,
    heads: usize,
    map: View,
    /// The commands of each dispatch.
    commands: Vec<Range<usize>>,
}

impl AttentionMaps {
    /// Compiles the maps of a training or evaluation session.
    ///
    /// # Errors
    /// [`Error::Usage`] if the activations of the forward pass are not kept in memory; [`Error::Device`] if the driver reports an error.
    pub async fn new(session: &Session) -> Result<AttentionMaps> {
        let config = &session.model.config;
        let (samples, time) = (session.model.inputs.ids.shape[0], config.seq_len);
        let mut plan = Plan::new();
        let mut options = Options::default();
        let mut borrow = |plan: &mut Plan, tensor: &Tensor, class| -> Result<_> {
            let view = session.view_of(tensor, FORWARD)?;
            options.existing.push((view.name.clone(), view.buffer));
            Ok(plan.kept(&view.name, &view.shape, view.dtype, class))
        };
        let mut attended = vec![];
        for AttentionActs { qkv, lse, .. } in session.model.acts.iter().flat_map(|acts| &acts.h).map(|block| &block.attention) {
            let lse = lse.as_ref().expect("attention over whole sequences leaves it");
            attended.push((borrow(&mut plan, qkv, "activations")?, borrow(&mut plan, lse, "statistics")?));
        }
        let map = plan.kept("attention map", &[time, time], Dtype::F32, "results");
        let op = AttentionMap::new(config.head_size(), attended[0].0.dtype);
        let shape = Shape { batch: samples, time, heads: config.n_head, dropout: None };
        plan.begin(MAP);
        for (qkv, lse) in &attended {
            for sample in 0..samples {
                (0..config.n_head).for_each(|head| op.forward(&mut plan, shape, sample, head, qkv, lse, &map));
            }
        }
        let compiled = plan.compile(&session.gpu, &options).await?;
        let mut commands: Vec<Range<usize>> = vec![];
        for command in 0..compiled.len() {
            match commands.last_mut() {
                Some(range) if compiled.work_of(range.start) == compiled.work_of(command) => range.end = command + 1,
                _ => commands.push(command..command + 1),
            }
        }
        let (buffer, offset) = compiled.place(&map);
        let map = View {
            name: map.name.to_string(),
            buffer: buffer.clone(),
            offset,
            bytes: map.bytes(),
            shape: map.shape.clone(),
            dtype: map.dtype,
        };
        Ok(AttentionMaps { layers: config.n_layer, samples, heads: config.n_head, map, commands, compiled })
    }

    /// The map (T, T), f32: a row for each query, zero above the diagonal.
    pub fn view(&self) -> View {
        self.map.clone()
    }

    /// # Errors
    /// [`Error::Usage`] that names the index out of range.
    pub fn check(&self, layer: usize, head: usize, sample: usize) -> Result<()> {
        for (what, found, count) in [("layer", layer, self.layers), ("head", head, self.heads), ("sample", sample, self.samples)] {
            if found >= count {
                return Err(Error::usage(format!("there is no {what} {found}: the {what}s are 0 to {}", count - 1)));
            }
        }
        Ok(())
    }

    /// Encodes one map; the forward pass must be encoded or submitted before.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, layer: usize, head: usize, sample: usize) {
        let index = (layer * self.samples + sample) * self.heads + head;
        self.compiled.encode(encoder, self.commands[index].clone());
    }
}
