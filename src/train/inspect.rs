//! What a host can inspect during training: tensors in place, copies taken at a chosen point of each step, and attention maps.

use super::taps::{AttentionAt, Tap};
use super::trainer::Trainer;
use crate::error::Result;
use crate::gpu::plan::Phase;
use crate::model::attention_maps::AttentionMaps;
use crate::model::view::View;

impl Trainer {
    /// Locates a tensor whose contents persist between steps, see [`Session::view`](crate::model::session::Session::view).
    ///
    /// # Errors
    /// As [`Session::view`](crate::model::session::Session::view).
    pub fn view(&self, name: &str) -> Result<Vec<View>> {
        self.session.view(name)
    }

    /// Copies a tensor at the end of a phase of every (micro-)batch from now on, into a buffer that nothing else writes: the copy is of one
    /// moment, even if a step is spread over several frames.
    ///
    /// # Errors
    /// As [`Session::view_after`](crate::model::session::Session::view_after), and [`crate::error::Error::Device`] when the driver refuses the buffer.
    pub async fn tap(&mut self, name: &str, after: Phase) -> Result<View> {
        let from = self.session.view_after(name, after)?;
        let bytes = from.iter().map(|part| part.bytes).sum();
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let gpu = self.session.gpu.clone();
        let buffer = gpu.guarded("allocating a tap", || gpu.create_buffer(&format!("tap of {name}"), bytes, usage)).await?;
        let mut shape = from[0].shape.clone();
        shape[0] = from.iter().map(|part| part.shape[0]).sum();
        let to = View { name: name.to_owned(), buffer, offset: 0, bytes, shape, dtype: from[0].dtype };
        self.taps.copies.push(Tap { phase: after, from, to: to.clone() });
        Ok(to)
    }

    /// Removes all taps of a tensor.
    pub fn untap(&mut self, name: &str) {
        self.taps.copies.retain(|tap| tap.to.name != name);
    }

    /// Computes the attention probabilities (T, T), f32, of one head after the forward pass of every (micro-)batch from now on; `None`
    /// stops it. The first call allocates the map and compiles its kernel, later calls only select the head.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for a layer, head or sample that the model does not have; [`crate::error::Error::Device`] when the
    /// driver refuses.
    pub async fn show_attention(&mut self, at: Option<AttentionAt>) -> Result<Option<View>> {
        self.taps.shown = None;
        let Some(at) = at else { return Ok(None) };
        if self.taps.maps.is_none() {
            self.taps.maps = Some(AttentionMaps::new(&self.session).await?);
        }
        let maps = self.taps.maps.as_ref().expect("they were just made");
        maps.check(at.layer, at.head, at.sample)?;
        self.taps.shown = Some(at);
        Ok(Some(maps.view()))
    }
}
