//! Turns recorded works into commands to replay: bind groups, `Dims` blocks, and grids cut into launches.

use std::ops::Range;
use std::sync::Arc;

use super::Gpu;
use super::kernel::{Access, Interface, Value};
use super::launch::{ALIGNMENT, interface};
use super::memory::Layout;
use super::options::Options;
use super::pipelines::Pipelines;
use super::plan::{Action, Dispatch, Phase, Plan, Work};

/// One launch or clear.
pub(crate) struct Command {
    /// Predicted cost: FLOPs plus priced bytes, see [`Dispatch::cost`]. [`super::run::Runner`] learns how many seconds a unit takes.
    pub cost: f64,
    /// Index of the recorded work that it belongs to.
    pub work: usize,
    pub kind: CommandKind,
}

pub(crate) enum CommandKind {
    Launch { pipeline: wgpu::ComputePipeline, bind_group: wgpu::BindGroup, dims_offset: u32, groups: u32 },
    Clear { buffer: usize },
}

/// The properties of a recorded work after its variant was chosen.
#[derive(Debug, Clone)]
pub struct WorkInfo {
    /// `h.0.attn layer_norm.forward`: scope and kernel, the label on the device.
    pub label: String,
    /// `layer_norm.forward`, or `clear`.
    pub kernel: String,
    /// Its place in the model: `h.0.attn`.
    pub scope: Arc<str>,
    /// Empty for a clear.
    pub variant: &'static str,
    /// The phase that it was recorded in.
    pub phase: Phase,
    /// Floating-point operations of one run, a fused multiply-add counted as two; 0 for a clear.
    pub flops: u64,
    /// Bytes that memory must move at least, see [`Dispatch::bytes`]; for a clear, the size of the buffer.
    pub bytes: u64,
    /// Whether it reads none of its outputs, so that running it again changes nothing.
    pub repeatable: bool,
}

impl WorkInfo {
    fn new(work: &Work, gpu: &Gpu, options: &Options, layout: &Layout) -> WorkInfo {
        let (kernel, variant, bytes, repeatable) = match &work.action {
            Action::Dispatch(dispatch) => {
                let interface = interface(dispatch, gpu, options);
                let repeatable = interface.bindings.iter().all(|binding| binding.access != Access::ReadWrite);
                (dispatch.kernel.name(), interface.module.variant.name, dispatch.bytes(), repeatable)
            }
            Action::Clear(storage) => ("clear", "", layout.buffers[layout.of_storage[*storage]], true),
        };
        let (label, scope, kernel) = (work.label(), work.scope.clone(), kernel.to_owned());
        WorkInfo { label, kernel, scope, variant, phase: work.phase, flops: work.flops(), bytes, repeatable }
    }
}

/// The layout and buffers of a plan's tensors.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub layout: &'a Layout,
    pub buffers: &'a [wgpu::Buffer],
    pub dims: &'a wgpu::Buffer,
}

/// The commands to replay, and the contents of the dims buffer.
#[derive(Default)]
pub(crate) struct Built {
    pub commands: Vec<Command>,
    pub works: Vec<WorkInfo>,
    pub phases: Vec<(Phase, Range<usize>)>,
    pub blocks: Vec<u8>,
}

/// Builds the commands of a plan whose pipelines have been created.
pub(crate) fn build(plan: &Plan, gpu: &Gpu, options: &Options, pipelines: &Pipelines, places: Places) -> Built {
    let mut built = Built::default();
    for (index, work) in plan.works.iter().enumerate() {
        let start = built.commands.len();
        built.works.push(WorkInfo::new(work, gpu, options, places.layout));
        match &work.action {
            Action::Dispatch(dispatch) => built.launches(index, dispatch, gpu, options, pipelines, places),
            Action::Clear(storage) => {
                let buffer = places.layout.of_storage[*storage];
                let cost = places.layout.buffers[buffer] as f64;
                built.commands.push(Command { cost, work: index, kind: CommandKind::Clear { buffer } });
            }
        }
        let end = built.commands.len();
        match built.phases.last_mut() {
            Some((phase, range)) if *phase == work.phase => range.end = end,
            _ => built.phases.push((work.phase, start..end)),
        }
    }
    built
}

impl Built {
    fn launches(&mut self, work: usize, dispatch: &Dispatch, gpu: &Gpu, options: &Options, pipelines: &Pipelines, places: Places) {
        let interface = interface(dispatch, gpu, options);
        let built = pipelines.of(&dispatch.kernel, interface);
        let bind_group = bind_group(gpu, dispatch, interface, &built.layout, places, &self.works[work].label);
        let grid = dispatch.grid(gpu, options);
        let mut first = 0;
        while first < grid.groups {
            let groups = (grid.groups - first).min(grid.per_launch);
            let kind = CommandKind::Launch {
                pipeline: built.pipeline.clone(),
                bind_group: bind_group.clone(),
                dims_offset: self.block(interface, first as u32, &dispatch.dims),
                groups: groups as u32,
            };
            let cost = dispatch.cost() * groups as f64 / grid.groups as f64;
            self.commands.push(Command { cost, work, kind });
            first += groups;
        }
    }

    /// Appends a `Dims` block and returns its offset.
    fn block(&mut self, interface: &Interface, first_group: u32, values: &[Value]) -> u32 {
        let offset = self.blocks.len();
        self.blocks.resize(offset + ALIGNMENT as usize, 0);
        let block = &mut self.blocks[offset..];
        block[..4].copy_from_slice(&first_group.to_le_bytes());
        for (field, value) in interface.dims.iter().zip(values) {
            let bits = match value {
                Value::U32(value) => *value,
                Value::F32(value) => value.to_bits(),
            };
            block[field.offset as usize..field.offset as usize + 4].copy_from_slice(&bits.to_le_bytes());
        }
        offset as u32
    }
}

fn bind_group(
    gpu: &Gpu,
    dispatch: &Dispatch,
    interface: &Interface,
    layout: &wgpu::BindGroupLayout,
    places: Places,
    label: &str,
) -> wgpu::BindGroup {
    let binding =
        |buffer, offset, size| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: std::num::NonZeroU64::new(size) });
    let dims = wgpu::BindGroupEntry { binding: interface.dims_binding, resource: binding(places.dims, 0, interface.dims_size) };
    let mut entries = vec![dims];
    for (declared, tensor) in interface.bindings.iter().zip(&dispatch.tensors) {
        let buffer = &places.buffers[places.layout.of_storage[tensor.storage]];
        let size = tensor.bytes().max(declared.stride);
        entries.push(wgpu::BindGroupEntry { binding: declared.index, resource: binding(buffer, tensor.offset, size) });
    }
    gpu.device().create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
}
