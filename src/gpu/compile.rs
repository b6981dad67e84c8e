//! A plan made ready for one adapter: variants chosen, grids fixed, buffers, bind groups and pipelines made once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Gpu;
use super::kernel::{Access, Interface, Kernel, Value};
use super::memory::{self, Layout};
use super::plan::{Action, Dispatch, Phase, Plan};
use super::tensor::Tensor;
use super::transfer::Transfer;
use super::variants::{self, Choice, Class};
use crate::error::{Error, Result};

/// Offsets of `Dims` blocks and of pool slices: the largest alignment that any WebGPU device asks for.
const ALIGNMENT: u64 = 256;

/// How to compile.
#[derive(Clone, Default)]
pub struct Options {
    /// Keep wgpu's bounds checks and loop guards in the shaders.
    pub checked: bool,
    /// Variants by kernel and shape class; dispatches that no choice fits take their default.
    pub variants: Vec<Choice>,
    /// Cut every dispatch into launches of at most this many workgroups; 0: as the price asks.
    pub max_groups: u32,
    /// Buffers to use for storages of these names instead of new ones, say the parameters of another plan.
    pub existing: Vec<(String, wgpu::Buffer)>,
}

/// A compiled plan. Replaying it allocates nothing.
pub struct Compiled {
    pub(crate) gpu: Gpu,
    pub(crate) commands: Vec<Command>,
    phases: Vec<(Phase, Range<usize>)>,
    pub(crate) buffers: Vec<wgpu::Buffer>,
    pub layout: Layout,
    pub transfer: Transfer,
    /// The variants taken, by kernel and shape class, in the order of recording; kernels with a single form are left out.
    pub variants: Vec<Choice>,
}

/// What [`Compiled::encode`] replays.
pub(crate) struct Command {
    /// Predicted work: FLOPs plus moved bytes, a unit that [`super::run::Runner`] learns the pace of.
    pub cost: f64,
    pub label: String,
    pub kind: CommandKind,
}

pub(crate) enum CommandKind {
    Launch { pipeline: wgpu::ComputePipeline, bind_group: wgpu::BindGroup, dims_offset: u32, groups: u32 },
    Clear { buffer: usize },
}

/// The sizes of everything that compiling a plan will create.
#[derive(Debug, Clone)]
pub struct Needs {
    pub layout: Layout,
    pub dims_bytes: u64,
    pub transfer_bytes: u64,
    /// Number of buffers.
    pub buffers: u64,
}

impl Needs {
    /// All bytes of all buffers.
    pub fn total(&self) -> u64 {
        self.layout.total() + self.dims_bytes + self.transfer_bytes
    }
}

/// A grid cut into launches.
struct Grid {
    groups: u64,
    per_launch: u64,
}

impl Plan {
    /// What [`Plan::compile`] will allocate, exactly, without allocating.
    ///
    /// # Errors
    /// [`Error::Limit`] when something is larger than the adapter allows; [`Error::Usage`] for a chosen variant that does not run there.
    pub fn needs(&self, gpu: &Gpu, options: &Options) -> Result<Needs> {
        variants::check(self.dispatches(), gpu.traits(), &options.variants)?;
        let mut layout = memory::layout(self, gpu.limits())?;
        let mut buffers = layout.buffers.len() as u64 + 1 + Transfer::BUFFERS;
        for (label, size) in layout.labels.iter().zip(layout.buffers.iter_mut()) {
            // What another plan lends costs nothing here.
            if options.existing.iter().any(|(name, _)| name == label) {
                *size = 0;
                buffers -= 1;
            }
        }
        let launches: u64 = self.dispatches().map(|d| d.grid(gpu, options).launches()).sum();
        let dims_bytes = (launches * ALIGNMENT).max(ALIGNMENT);
        if dims_bytes > gpu.limits().max_buffer_size {
            return Err(Error::usage(format!("the plan has {launches} launches, more than one buffer can describe")));
        }
        Ok(Needs { layout, dims_bytes, transfer_bytes: Transfer::BYTES, buffers })
    }

    /// Chooses variants, makes buffers, pipelines and bind groups.
    ///
    /// # Errors
    /// [`Error::Limit`] and [`Error::Usage`] as [`Plan::needs`], before anything is allocated; [`Error::Device`] when the driver refuses an allocation or a shader.
    pub async fn compile(&self, gpu: &Gpu, options: &Options) -> Result<Compiled> {
        let needs = self.needs(gpu, options)?;
        let buffers = gpu.guarded("allocating the plan's buffers", || self.create_buffers(gpu, &needs.layout, options)).await?;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let dims = gpu.guarded("allocating uniforms", || gpu.create_buffer("dims", needs.dims_bytes, usage)).await?;
        let transfer = gpu.guarded("allocating staging buffers", || Transfer::new(gpu)).await?;
        let mut builder =
            Builder { gpu, options, layout: &needs.layout, buffers: &buffers, dims: &dims, blocks: vec![], pipelines: HashMap::new() };
        let (commands, phases) = gpu.guarded("building pipelines", || builder.commands(self)).await?;
        let blocks = std::mem::take(&mut builder.blocks);
        transfer.write(gpu, &dims, 0, &blocks).await?;
        gpu.check()?;
        let variants = self.chosen_variants(gpu, options);
        Ok(Compiled { gpu: gpu.clone(), commands, phases, layout: needs.layout, transfer, variants, buffers })
    }

    pub(crate) fn dispatches(&self) -> impl Iterator<Item = &Dispatch> {
        self.works.iter().filter_map(|work| match &work.action {
            Action::Dispatch(dispatch) => Some(dispatch),
            Action::Clear(_) => None,
        })
    }

    fn create_buffers(&self, gpu: &Gpu, layout: &Layout, options: &Options) -> Vec<wgpu::Buffer> {
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let mut usages = vec![storage; layout.buffers.len()];
        for dispatch in self.dispatches() {
            let bindings = &dispatch.kernel.interfaces()[0].bindings;
            for (_, tensor) in bindings.iter().zip(&dispatch.tensors).filter(|(b, _)| b.access == Access::Uniform) {
                usages[layout.of_storage[tensor.storage]] |= wgpu::BufferUsages::UNIFORM;
            }
        }
        let create = |((label, &size), usage): ((&String, &u64), wgpu::BufferUsages)| {
            let lent = options.existing.iter().find(|(name, _)| name == label).map(|(_, buffer)| buffer.clone());
            lent.unwrap_or_else(|| gpu.create_buffer(label, size, usage))
        };
        layout.labels.iter().zip(&layout.buffers).zip(usages).map(create).collect()
    }

    fn chosen_variants(&self, gpu: &Gpu, options: &Options) -> Vec<Choice> {
        let mut chosen: Vec<Choice> = vec![];
        for dispatch in self.dispatches().filter(|dispatch| dispatch.kernel.interfaces().len() > 1) {
            let variant = interface(dispatch, gpu, options).module.variant.name.to_owned();
            let choice = Choice { kernel: dispatch.kernel.name().to_owned(), class: Some(Class::of(dispatch)), variant };
            if !chosen.contains(&choice) {
                chosen.push(choice);
            }
        }
        chosen
    }
}

/// The variant that a dispatch takes.
fn interface<'d>(dispatch: &'d Dispatch, gpu: &Gpu, options: &Options) -> &'d Interface {
    let wanted = variants::wanted(&options.variants, dispatch);
    &dispatch.kernel.interfaces()[dispatch.kernel.choose(gpu.traits(), &dispatch.extent, wanted)]
}

impl Grid {
    fn launches(&self) -> u64 {
        self.groups.div_ceil(self.per_launch)
    }
}

impl Dispatch {
    /// FLOPs plus bytes: one byte moved is priced as two operations.
    pub(crate) fn cost(&self) -> f64 {
        self.flops as f64 + 2.0 * self.bytes() as f64
    }

    fn grid(&self, gpu: &Gpu, options: &Options) -> Grid {
        let interface = interface(self, gpu, options);
        let groups = self.extent.workgroups(interface.tile).max(1);
        let allowed = u64::from(gpu.limits().max_compute_workgroups_per_dimension);
        // A launch cannot be cut once it is submitted, so that none may be long: a quarter of a second on a slow adapter of its kind.
        let longest = if gpu.traits().software { 5e8 } else { 2e10 };
        let by_price = (groups as f64 * longest / self.cost()).ceil() as u64;
        let wanted = if options.max_groups > 0 { u64::from(options.max_groups) } else { by_price };
        Grid { groups, per_launch: wanted.clamp(1, allowed) }
    }
}

/// A pipeline, with the layout its bind groups need.
struct Built {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

struct Builder<'a> {
    gpu: &'a Gpu,
    options: &'a Options,
    layout: &'a Layout,
    buffers: &'a [wgpu::Buffer],
    dims: &'a wgpu::Buffer,
    /// Contents of the dims buffer.
    blocks: Vec<u8>,
    /// By kernel and variant.
    pipelines: HashMap<(String, &'static str), Arc<Built>>,
}

impl Builder<'_> {
    fn commands(&mut self, plan: &Plan) -> (Vec<Command>, Vec<(Phase, Range<usize>)>) {
        let mut commands = vec![];
        let mut phases: Vec<(Phase, Range<usize>)> = vec![];
        for work in &plan.works {
            let start = commands.len();
            let label = work.label();
            match &work.action {
                Action::Dispatch(dispatch) => self.launches(dispatch, &label, &mut commands),
                Action::Clear(storage) => {
                    let buffer = self.layout.of_storage[*storage];
                    let cost = self.layout.buffers[buffer] as f64;
                    commands.push(Command { cost, label, kind: CommandKind::Clear { buffer } });
                }
            }
            match phases.last_mut() {
                Some((phase, range)) if *phase == work.phase => range.end = commands.len(),
                _ => phases.push((work.phase, start..commands.len())),
            }
        }
        (commands, phases)
    }

    fn launches(&mut self, dispatch: &Dispatch, label: &str, commands: &mut Vec<Command>) {
        let interface = interface(dispatch, self.gpu, self.options);
        let built = self.pipeline(&dispatch.kernel, interface);
        let bind_group = self.bind_group(dispatch, interface, &built.layout, label);
        let grid = dispatch.grid(self.gpu, self.options);
        let mut first = 0;
        while first < grid.groups {
            let groups = (grid.groups - first).min(grid.per_launch);
            let dims_offset = self.block(interface, first as u32, &dispatch.dims);
            let kind = CommandKind::Launch {
                pipeline: built.pipeline.clone(),
                bind_group: bind_group.clone(),
                dims_offset,
                groups: groups as u32,
            };
            let cost = dispatch.cost() * groups as f64 / grid.groups as f64;
            commands.push(Command { cost, label: label.to_owned(), kind });
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

    fn bind_group(&self, dispatch: &Dispatch, interface: &Interface, layout: &wgpu::BindGroupLayout, label: &str) -> wgpu::BindGroup {
        let binding = |buffer, offset, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: std::num::NonZeroU64::new(size) })
        };
        let dims = wgpu::BindGroupEntry { binding: interface.dims_binding, resource: binding(self.dims, 0, interface.dims_size) };
        let mut entries = vec![dims];
        for (declared, tensor) in interface.bindings.iter().zip(&dispatch.tensors) {
            let buffer = &self.buffers[self.layout.of_storage[tensor.storage]];
            let size = tensor.bytes().max(declared.stride);
            entries.push(wgpu::BindGroupEntry { binding: declared.index, resource: binding(buffer, tensor.offset, size) });
        }
        self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
    }

    fn pipeline(&mut self, kernel: &Kernel, interface: &Interface) -> Arc<Built> {
        let key = (kernel.name().to_owned(), interface.module.variant.name);
        if let Some(built) = self.pipelines.get(&key) {
            return built.clone();
        }
        let device = self.gpu.device();
        let module = shader_module(self.gpu, interface, self.options.checked);
        let layout = bind_group_layout(device, kernel, interface);
        let descriptor =
            wgpu::PipelineLayoutDescriptor { label: Some(kernel.name()), bind_group_layouts: &[Some(&layout)], immediate_size: 0 };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name()),
            layout: Some(&device.create_pipeline_layout(&descriptor)),
            module: &module,
            entry_point: Some(kernel.entry()),
            // Every kernel writes workgroup memory before it reads it; the kernel tests poison it through their first run.
            compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
            cache: None,
        });
        let built = Arc::new(Built { pipeline, layout });
        self.pipelines.insert(key, built.clone());
        built
    }
}

/// The module of a variant, with or without wgpu's run-time checks.
#[allow(unsafe_code)]
fn shader_module(gpu: &Gpu, interface: &Interface, checked: bool) -> wgpu::ShaderModule {
    let label = Some(interface.module.label.as_str());
    let descriptor = wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(interface.module.text.as_str().into()) };
    if checked {
        return gpu.device().create_shader_module(descriptor);
    }
    // SAFETY: the text is this crate's own. Every kernel bounds its indices by `Dims` and its loops by 65,536; tests/kernels runs each
    // of them unchecked between poisoned guard zones, at odd sizes, and compares with a checked run.
    unsafe { gpu.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

fn bind_group_layout(device: &wgpu::Device, kernel: &Kernel, interface: &Interface) -> wgpu::BindGroupLayout {
    let entry = |binding, access, has_dynamic_offset, size| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match access {
                Access::Uniform => wgpu::BufferBindingType::Uniform,
                Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                Access::Write | Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
            },
            has_dynamic_offset,
            min_binding_size: std::num::NonZeroU64::new(size),
        },
        count: None,
    };
    let mut entries = vec![entry(interface.dims_binding, Access::Uniform, true, interface.dims_size)];
    entries.extend(interface.bindings.iter().map(|b| entry(b.index, b.access, false, b.stride)));
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.name()), entries: &entries })
}

impl Compiled {
    /// The commands of a phase; empty for a phase that the plan does not have.
    pub fn phase(&self, phase: Phase) -> Range<usize> {
        self.phases.iter().find(|(p, _)| *p == phase).map_or(0..0, |(_, range)| range.clone())
    }

    /// `h.0.attn layer_norm.forward`: scope and kernel of a command.
    pub fn label(&self, index: usize) -> &str {
        &self.commands[index].label
    }

    /// Number of commands in all phases.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Encodes a stretch of commands into a caller's encoder. Any cut of a phase into stretches gives the same bits.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, range: Range<usize>) {
        let mut pass: Option<wgpu::ComputePass> = None;
        for command in &self.commands[range] {
            match &command.kind {
                CommandKind::Clear { buffer } => {
                    drop(pass.take());
                    encoder.clear_buffer(&self.buffers[*buffer], 0, None);
                }
                CommandKind::Launch { pipeline, bind_group, dims_offset, groups } => {
                    let pass = pass.get_or_insert_with(|| {
                        let descriptor = wgpu::ComputePassDescriptor { label: Some("wgpt"), timestamp_writes: None };
                        encoder.begin_compute_pass(&descriptor).forget_lifetime()
                    });
                    pass.push_debug_group(&command.label);
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, bind_group, &[*dims_offset]);
                    pass.dispatch_workgroups(*groups, 1, 1);
                    pass.pop_debug_group();
                }
            }
        }
    }

    /// The buffer that a tensor lies in, and its byte offset there. Step tensors share theirs with others.
    pub fn place(&self, tensor: &Tensor) -> (&wgpu::Buffer, u64) {
        (&self.buffers[self.layout.of_storage[tensor.storage]], tensor.offset)
    }

    /// All buffers that storages lie in.
    pub fn buffers(&self) -> &[wgpu::Buffer] {
        &self.buffers
    }

    /// The buffer of a storage by name, for [`Options::existing`] of another plan.
    pub fn buffer_named(&self, name: &str) -> Option<&wgpu::Buffer> {
        let index = self.layout.labels.iter().position(|label| label == name)?;
        Some(&self.buffers[index])
    }

    /// Writes a tensor; `data` is as long as the tensor.
    pub async fn write<T: bytemuck::Pod>(&self, tensor: &Tensor, data: &[T]) -> Result<()> {
        assert_eq!(data.len(), tensor.len(), "`{}` has shape {:?}", tensor.name, tensor.shape);
        let (buffer, offset) = self.place(tensor);
        self.transfer.write(&self.gpu, buffer, offset, bytemuck::cast_slice(data)).await
    }

    /// Reads a tensor back.
    pub async fn read<T: bytemuck::Pod>(&self, tensor: &Tensor) -> Result<Vec<T>> {
        let (buffer, offset) = self.place(tensor);
        let bytes = self.transfer.read(&self.gpu, buffer, offset, tensor.len() as u64 * 4).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}
