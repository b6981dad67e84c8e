//! Access to the buffers of a running model's tensors, to draw them or to write them.

use super::session::Session;
use crate::error::{Error, Result};
use crate::gpu::plan::{Keep, Phase};
use crate::gpu::tensor::{Dtype, Tensor};

/// A tensor in a buffer of the device: bind it, copy it, or write it from your own pass.
#[derive(Debug, Clone)]
pub struct View {
    /// Name of the tensor; a gradient has the name of its parameter.
    pub name: String,
    /// The buffer that holds it, possibly among other tensors.
    pub buffer: wgpu::Buffer,
    /// Offset in the buffer, in bytes; a multiple of 256.
    pub offset: u64,
    /// Size in bytes, a multiple of 16.
    pub bytes: u64,
    /// Sizes of its axes, the last one contiguous.
    pub shape: Vec<usize>,
    /// Element type of its contents.
    pub dtype: Dtype,
}

impl View {
    /// The resource for a bind group.
    pub fn binding(&self) -> wgpu::BindingResource<'_> {
        let size = std::num::NonZeroU64::new(self.bytes);
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size })
    }

    /// The range of `buffer` that the tensor occupies.
    pub fn slice(&self) -> wgpu::BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + self.bytes)
    }
}

impl Session {
    /// The views of a tensor with persistent contents: a weight by the table's name (`wte`, `h.0.attn.qkv.weight`), its gradient
    /// (`grads.wte`), or an activation that [`crate::gpu::options::Options::keep`] names (`h.0.attn.qkv`). A table that is split by rows
    /// has several.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name, or for an activation that shares its buffer with others.
    pub fn view(&self, name: &str) -> Result<Vec<View>> {
        let tensors = self.tensors(name)?;
        if let Some(tensor) = tensors.iter().find(|tensor| !self.is_kept(tensor)) {
            let name = &tensor.name;
            return Err(Error::usage(format!("`{name}` shares its buffer within a step: name it in Options::keep, or tap it")));
        }
        Ok(tensors.iter().map(|tensor| self.place(tensor)).collect())
    }

    /// The views of a tensor that is complete and not yet overwritten at the end of a phase.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name, or for a tensor that is overwritten or not yet written at the end of the phase.
    pub fn view_after(&self, name: &str, phase: Phase) -> Result<Vec<View>> {
        self.tensors(name)?.iter().map(|tensor| self.view_of(tensor, phase)).collect()
    }

    /// The view of a tensor that is complete and not yet overwritten at the end of a phase.
    ///
    /// # Errors
    /// As [`Session::view_after`].
    pub(crate) fn view_of(&self, tensor: &Tensor, phase: Phase) -> Result<View> {
        if self.is_kept(tensor) || self.holds(tensor, phase) {
            return Ok(self.place(tensor));
        }
        Err(Error::usage(format!("`{}` is not in memory at the end of phase {}: name it in Options::keep", tensor.name, phase.0)))
    }

    fn place(&self, tensor: &Tensor) -> View {
        let (buffer, offset) = self.compiled.place(tensor);
        let (name, buffer) = (tensor.name.to_string(), buffer.clone());
        View { name, buffer, offset, bytes: tensor.bytes(), shape: tensor.shape.clone(), dtype: tensor.dtype }
    }

    /// The tensors of this name.
    fn tensors(&self, name: &str) -> Result<Vec<Tensor>> {
        self.compiled.check_whole()?;
        let pools = &self.model.pools;
        let is_param = |name: &str| pools.table.iter().any(|param| param.name == name);
        if is_param(name) {
            return Ok(pools.weights(name));
        }
        if let Some(param) = name.strip_prefix("grads.").filter(|param| pools.trains() && is_param(param)) {
            return Ok(pools.grads(param));
        }
        let activation = self.model.plan.tensors().find(|tensor| &*tensor.name == name);
        activation.map(|tensor| vec![tensor.clone()]).ok_or_else(|| {
            let mut names: Vec<&str> = self.model.plan.tensors().map(|tensor| &*tensor.name).collect();
            names.sort_unstable_by(|a, b| strsim::jaro_winkler(b, name).total_cmp(&strsim::jaro_winkler(a, name)));
            let nearest = names.first().map_or(String::new(), |nearest| format!("; the nearest is `{nearest}`"));
            Error::usage(format!("this model has no tensor `{name}`{nearest}"))
        })
    }

    fn is_kept(&self, tensor: &Tensor) -> bool {
        self.model.plan.storages()[tensor.storage].keep == Keep::Always || self.compiled.keeps(&tensor.name)
    }

    /// Whether the last write to the tensor's buffer, up to the end of a phase, was to the tensor's own storage.
    fn holds(&self, tensor: &Tensor, phase: Phase) -> bool {
        let (plan, places) = (&self.model.plan, &self.compiled.layout.of_storage);
        let Some(end) = plan.works().iter().rposition(|work| work.phase == phase) else { return false };
        let writes = plan.works()[..=end].iter().flat_map(|work| work.writes());
        writes.filter(|&storage| places[storage] == places[tensor.storage]).last() == Some(tensor.storage)
    }
}
