//! How a plan is compiled.

use super::variants::Choice;

/// Options of [`Plan::compile`](super::plan::Plan::compile).
#[derive(Clone, Default)]
pub struct Options {
    /// Keep wgpu's bounds checks and loop guards in the shaders.
    pub checked: bool,
    /// Variants by kernel and shape class; a dispatch that matches no choice uses its default.
    pub variants: Vec<Choice>,
    /// Variants that no dispatch may use, although `variants` or a default selects them: those that a self-test found wrong on this adapter.
    pub avoid: Vec<Choice>,
    /// Cut every dispatch into launches of at most this many workgroups; 0 cuts by predicted cost.
    pub max_groups: u32,
    /// Cut dispatches so small that a slice of a few milliseconds can end inside one. A cut costs only the 256 bytes of its `Dims` block:
    /// consecutive launches of one dispatch in a slice are merged again.
    pub fine: bool,
    /// Number of threads that compile pipelines, including the caller's; 0 and 1 both mean only that one. A browser always uses one.
    pub threads: usize,
    /// Names of activations that get a buffer of their own and keep their contents between steps, so that an application can read them.
    pub keep: Vec<String>,
    /// Buffers to use for storages of these names instead of new ones, for example the parameters of another plan.
    pub existing: Vec<(String, wgpu::Buffer)>,
}
