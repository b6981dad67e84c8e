//! The weights of a model on a device: other plans borrow them from the plan that owns them.

use super::config::ModelConfig;
use super::pools::{PoolSlice, Pools};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::compile::Compiled;
use crate::gpu::options::Options;

/// The buffers of a model's weights, with the config and the layout that locate each weight in them. Cheap to clone; the buffers live as
/// long as any clone.
#[derive(Clone)]
pub struct SharedWeights {
    gpu: Gpu,
    config: ModelConfig,
    slices: Vec<PoolSlice>,
    buffers: Vec<(String, wgpu::Buffer)>,
}

impl SharedWeights {
    /// The weights of a compiled plan, which may itself have borrowed them.
    pub(crate) fn new(gpu: &Gpu, config: &ModelConfig, pools: &Pools, compiled: &Compiled) -> SharedWeights {
        let buffer = |name: String| {
            let buffer = compiled.buffer_named(&name).expect("the pools of weights have buffers of their own").clone();
            (name, buffer)
        };
        let buffers = pools.weight_storages().map(buffer).collect();
        SharedWeights { gpu: gpu.clone(), config: config.clone(), slices: pools.slices.clone(), buffers }
    }

    /// The model of these weights.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// `options` with these buffers added, for a plan with the pools `pools`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a plan on another `Gpu`, or with another layout of its pools.
    pub(crate) fn lend(&self, gpu: &Gpu, pools: &Pools, options: &Options) -> Result<Options> {
        if !self.gpu.is(gpu) {
            return Err(Error::usage(
                "the shared weights are on another device: pass the `Gpu` of their owner or a clone of it, or copy the weights by a snapshot",
            ));
        }
        same_cut(&self.slices, &pools.slices)?;
        let mut options = options.clone();
        options.existing.extend_from_slice(&self.buffers);
        Ok(options)
    }
}

/// # Errors
/// [`Error::Usage`] that names the first weight with another location.
fn same_cut(lent: &[PoolSlice], wanted: &[PoolSlice]) -> Result<()> {
    let differs = (0..lent.len().max(wanted.len())).find(|&i| lent.get(i) != wanted.get(i));
    let Some(index) = differs else { return Ok(()) };
    let tell = |slice: Option<&PoolSlice>| slice.map_or_else(|| "no weight".to_owned(), PoolSlice::to_string);
    let (there, here) = (tell(lent.get(index)), tell(wanted.get(index)));
    Err(Error::usage(format!("the shared weights are of another layout: they have {there} where this model needs {here}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(rows: usize, offset: u64) -> Vec<PoolSlice> {
        let slice = |param: &str, rows, offset| PoolSlice { param: param.into(), shape: vec![rows, 8], segment: 0, offset };
        vec![slice("wte", rows, 0), slice("lm_head", 3, offset)]
    }

    #[test]
    fn another_cut_is_refused_by_the_weight_that_lies_elsewhere() {
        same_cut(&slices(5, 256), &slices(5, 256)).unwrap();
        let moved = same_cut(&slices(5, 512), &slices(5, 256)).unwrap_err().to_string();
        assert!(moved.contains("`lm_head` [3, 8] at byte 512 of segment 0 where this model needs `lm_head` [3, 8] at byte 256"), "{moved}");
        let larger = same_cut(&slices(6, 256), &slices(5, 256)).unwrap_err().to_string();
        assert!(larger.contains("`wte` [6, 8] at byte 0 of segment 0 where this model needs `wte` [5, 8]"), "{larger}");
        let fewer = same_cut(&slices(5, 256)[..1], &slices(5, 256)).unwrap_err().to_string();
        assert!(fewer.contains("they have no weight where this model needs `lm_head`"), "{fewer}");
    }
}
