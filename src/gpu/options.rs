//! How a plan is compiled.

use super::variants::Choice;

/// How to compile.
#[derive(Clone, Default)]
pub struct Options {
    /// Keep wgpu's bounds checks and loop guards in the shaders.
    pub checked: bool,
    /// Variants by kernel and shape class; dispatches that no choice fits take their default.
    pub variants: Vec<Choice>,
    /// Cut every dispatch into launches of at most this many workgroups; 0: as the price asks.
    pub max_groups: u32,
    /// Cut dispatches so small that a slice of a few milliseconds can end within one. A cut that no slice needs costs nothing but the 256
    /// bytes that describe it: launches that follow each other in a slice are one.
    pub fine: bool,
    /// Threads that compile pipelines, the calling one among them; by default there is no other. A browser has none.
    pub threads: usize,
    /// Activations, by name, that get a buffer of their own and keep their contents between steps, for others to look at.
    pub keep: Vec<String>,
    /// Buffers to use for storages of these names instead of new ones, say the parameters of another plan.
    pub existing: Vec<(String, wgpu::Buffer)>,
}
