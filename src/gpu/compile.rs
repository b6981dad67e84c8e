//! A plan compiled for one adapter: chosen variants, fixed grids, and buffers, bind groups and pipelines that are created once.

use std::ops::Range;

use super::Gpu;
use super::commands::{self, Command, CommandKind, WorkInfo};
use super::kernel::Access;
use super::launch::{ALIGNMENT, interface};
use super::memory::{self, Layout};
use super::options::Options;
use super::pipelines::Pipelines;
use super::plan::{Action, Dispatch, Phase, Plan};
use super::tensor::Tensor;
use super::transfer::Transfer;
use super::variants::{self, Choice, Class};
use crate::error::{Error, Result};

/// A compiled plan. Replaying it allocates nothing.
pub struct Compiled {
    pub(crate) gpu: Gpu,
    pub(crate) commands: Vec<Command>,
    works: Vec<WorkInfo>,
    phases: Vec<(Phase, Range<usize>)>,
    pub(crate) buffers: Vec<wgpu::Buffer>,
    pub(crate) layout: Layout,
    /// The staging buffers of [`Compiled::write`] and [`Compiled::read`], which also reach the padding of a buffer.
    pub transfer: Transfer,
    /// The chosen variants, by kernel and shape class, in the order of recording; kernels with only one variant are left out.
    pub variants: Vec<Choice>,
    /// Whether consecutive launches of one work may be merged, up to this many workgroups.
    merges: bool,
    most_groups: u32,
    keep: Vec<String>,
    /// Without buffers and commands, see [`Plan::hollow`].
    hollow: bool,
}

/// Bytes of each buffer of a hollow plan.
const HOLLOW: u64 = 16;

/// The sizes of everything that compiling a plan will create.
#[derive(Debug, Clone)]
pub struct Needs {
    pub(crate) layout: Layout,
    /// Bytes of the uniform buffer that holds one `Dims` block per launch, each padded to 256.
    pub dims_bytes: u64,
    pub(crate) transfer_bytes: u64,
    /// Number of buffers.
    pub buffers: u64,
    /// Number of bind groups: one for each dispatch.
    pub bind_groups: u64,
}

impl Needs {
    /// All bytes of all buffers.
    pub fn total(&self) -> u64 {
        self.layout.total() + self.dims_bytes + self.transfer_bytes
    }
}

impl Plan {
    /// The exact sizes that [`Plan::compile`] will allocate. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Limit`] when something is larger than the adapter allows; [`Error::Usage`] for a chosen variant that does not run
    /// there, and for a kernel of which no variant is left.
    pub fn needs(&self, gpu: &Gpu, options: &Options) -> Result<Needs> {
        variants::check(self.dispatches(), gpu.traits(), &options.variants, &options.avoid)?;
        let mut layout = memory::layout(self, gpu.limits(), &options.keep)?;
        let mut buffers = layout.buffers.len() as u64 + 1 + Transfer::BUFFERS;
        for (label, size) in layout.labels.iter().zip(layout.buffers.iter_mut()) {
            // Buffers borrowed from another plan cost nothing here.
            if options.existing.iter().any(|(name, _)| name == label) {
                *size = 0;
                buffers -= 1;
            }
        }
        let launches: u64 = self.dispatches().map(|d| d.grid(gpu, options).launches()).sum();
        let dims_bytes = (launches * ALIGNMENT).max(ALIGNMENT);
        if dims_bytes > gpu.limits().max_buffer_size {
            return Err(Error::usage(format!("the plan has {launches} launches, too many for the one buffer of their `Dims` blocks")));
        }
        let bind_groups = self.dispatches().count() as u64;
        Ok(Needs { layout, dims_bytes, transfer_bytes: Transfer::BYTES, buffers, bind_groups })
    }

    /// Chooses variants and creates buffers, pipelines and bind groups.
    ///
    /// # Errors
    /// [`Error::Limit`] and [`Error::Usage`] as [`Plan::needs`], before anything is allocated; [`Error::Device`] when the driver refuses an allocation or a shader.
    pub async fn compile(&self, gpu: &Gpu, options: &Options) -> Result<Compiled> {
        let needs = self.needs(gpu, options)?;
        let buffers = gpu.guarded("allocating the plan's buffers", || self.create_buffers(gpu, &needs.layout, options)).await?;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let dims = gpu.guarded("allocating uniforms", || gpu.create_buffer("dims", needs.dims_bytes, usage)).await?;
        let transfer = gpu.guarded("allocating staging buffers", || Transfer::new(gpu)).await?;
        let pipelines = Pipelines::build(gpu, self.dispatches().map(|d| (&d.kernel, interface(d, gpu, options))), options).await?;
        let places = commands::Places { layout: &needs.layout, buffers: &buffers, dims: &dims };
        let built = gpu.guarded("binding buffers", || commands::build(self, gpu, options, &pipelines, places)).await?;
        transfer.write(gpu, &dims, 0, &built.blocks).await?;
        gpu.check()?;
        let variants = self.chosen_variants(gpu, options);
        let commands::Built { commands, works, phases, .. } = built;
        let most_groups = gpu.limits().max_compute_workgroups_per_dimension;
        Ok(Compiled {
            gpu: gpu.clone(),
            commands,
            works,
            phases,
            layout: needs.layout,
            transfer,
            variants,
            buffers,
            merges: options.max_groups == 0,
            most_groups,
            keep: options.keep.clone(),
            hollow: false,
        })
    }

    /// Takes the place of a compiled plan whose device was lost, so that everything on that device can be dropped before as much is
    /// allocated on another one. Its buffers are too small for anything, and it has no commands.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub(crate) async fn hollow(&self, gpu: &Gpu, options: &Options) -> Result<Compiled> {
        let Needs { layout, .. } = self.needs(gpu, options)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let create = || layout.labels.iter().map(|label| gpu.create_buffer(label, HOLLOW, usage)).collect();
        let buffers = gpu.guarded("allocating small buffers", create).await?;
        let transfer = gpu.guarded("allocating staging buffers", || Transfer::new(gpu)).await?;
        Ok(Compiled {
            gpu: gpu.clone(),
            commands: vec![],
            works: vec![],
            phases: vec![],
            buffers,
            layout,
            transfer,
            variants: self.chosen_variants(gpu, options),
            merges: false,
            most_groups: 0,
            keep: options.keep.clone(),
            hollow: true,
        })
    }

    /// All recorded dispatches, in order.
    pub fn dispatches(&self) -> impl Iterator<Item = &Dispatch> {
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

impl Compiled {
    /// The commands of a phase; empty for a phase that the plan does not have.
    pub fn phase(&self, phase: Phase) -> Range<usize> {
        self.phases.iter().find(|(p, _)| *p == phase).map_or(0..0, |(_, range)| range.clone())
    }

    /// `h.0.attn layer_norm.forward`: scope and kernel of a command.
    pub fn label(&self, index: usize) -> &str {
        &self.works[self.commands[index].work].label
    }

    /// The recorded works, in order. A dispatch may be cut into several commands.
    pub fn works(&self) -> &[WorkInfo] {
        &self.works
    }

    /// The index in [`Compiled::works`] of the work that a command belongs to.
    pub fn work_of(&self, command: usize) -> usize {
        self.commands[command].work
    }

    /// Number of commands in all phases.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether nothing was recorded, so that no phase has a command.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Encodes a range of commands into the caller's encoder. However a phase is cut into ranges, the results have the same bits.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, range: Range<usize>) {
        self.encode_all(encoder, &[range]);
    }

    /// Encodes several ranges, which may repeat, in as few passes as possible: a pass costs more than a dispatch.
    pub fn encode_all(&self, encoder: &mut wgpu::CommandEncoder, ranges: &[Range<usize>]) {
        let mut pass: Option<wgpu::ComputePass> = None;
        for range in ranges {
            let mut next = range.start;
            while next < range.end {
                let command = &self.commands[next];
                match &command.kind {
                    CommandKind::Clear { buffer } => {
                        drop(pass.take());
                        encoder.clear_buffer(&self.buffers[*buffer], 0, None);
                        next += 1;
                    }
                    CommandKind::Launch { .. } => {
                        let (groups, end) = self.merged(next..range.end);
                        self.launch(pass.get_or_insert_with(|| begin(encoder, None)), command, groups);
                        next = end;
                    }
                }
            }
        }
    }

    /// The number of workgroups of the launches at the start of `range` that can be merged, and the index of the next command. The
    /// workgroups of one work are numbered across its launches, so the first launch can run the groups of the next ones too.
    fn merged(&self, range: Range<usize>) -> (u32, usize) {
        let work = self.commands[range.start].work;
        let (mut total, mut end) = (0, range.start);
        for command in self.commands[range].iter().take_while(|command| command.work == work) {
            let CommandKind::Launch { groups, .. } = command.kind else { break };
            if total > 0 && (!self.merges || total + groups > self.most_groups) {
                break;
            }
            total += groups;
            end += 1;
        }
        (total, end)
    }

    /// Encodes one command `times` times in a pass of its own that writes timestamps.
    pub(crate) fn encode_timed(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        index: usize,
        times: u32,
        timestamps: Option<wgpu::ComputePassTimestampWrites>,
    ) {
        let command = &self.commands[index];
        let buffer = match &command.kind {
            CommandKind::Clear { buffer } => buffer,
            CommandKind::Launch { groups, .. } => {
                let mut pass = begin(encoder, timestamps);
                return (0..times).for_each(|_| self.launch(&mut pass, command, *groups));
            }
        };
        // A clear cannot be in a pass: an empty pass before it writes the first timestamp, an empty pass after it the last.
        if let Some(writes) = &timestamps {
            drop(begin(encoder, Some(wgpu::ComputePassTimestampWrites { end_of_pass_write_index: None, ..writes.clone() })));
        }
        (0..times).for_each(|_| encoder.clear_buffer(&self.buffers[*buffer], 0, None));
        if let Some(writes) = timestamps {
            drop(begin(encoder, Some(wgpu::ComputePassTimestampWrites { beginning_of_pass_write_index: None, ..writes })));
        }
    }

    fn launch(&self, pass: &mut wgpu::ComputePass, command: &Command, groups: u32) {
        let CommandKind::Launch { pipeline, bind_group, dims_offset, .. } = &command.kind else { return };
        pass.push_debug_group(&self.works[command.work].label);
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bind_group, &[*dims_offset]);
        pass.dispatch_workgroups(groups, 1, 1);
        pass.pop_debug_group();
    }

    /// The buffer of a tensor, and its byte offset in it. Step tensors share buffers.
    pub fn place(&self, tensor: &Tensor) -> (&wgpu::Buffer, u64) {
        (&self.buffers[self.layout.of_storage[tensor.storage]], tensor.offset)
    }

    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost) for a hollow plan.
    pub(crate) fn check_whole(&self) -> Result<()> {
        if self.hollow { Err(not_recovered()) } else { Ok(()) }
    }

    /// Whether [`Options::keep`] names this storage.
    pub fn keeps(&self, name: &str) -> bool {
        self.keep.iter().any(|kept| kept == name)
    }

    /// The buffers of all storages.
    pub fn buffers(&self) -> &[wgpu::Buffer] {
        &self.buffers
    }

    /// The buffer of a storage by name, for [`Options::existing`] of another plan.
    pub fn buffer_named(&self, name: &str) -> Option<&wgpu::Buffer> {
        let index = self.layout.labels.iter().position(|label| label == name)?;
        Some(&self.buffers[index])
    }

    /// Writes a tensor.
    ///
    /// # Panics
    /// When `data` does not have the tensor's length, or the elements of either are not 4 bytes long.
    pub async fn write<T: bytemuck::Pod>(&self, tensor: &Tensor, data: &[T]) -> Result<()> {
        check_words::<T>(tensor);
        assert_eq!(data.len(), tensor.len(), "`{}` has shape {:?}", tensor.name, tensor.shape);
        self.check_whole()?;
        let (buffer, offset) = self.place(tensor);
        self.transfer.write(&self.gpu, buffer, offset, bytemuck::cast_slice(data)).await
    }

    /// Reads a tensor back.
    ///
    /// # Panics
    /// When the elements of `T` or of the tensor are not 4 bytes long.
    pub async fn read<T: bytemuck::Pod>(&self, tensor: &Tensor) -> Result<Vec<T>> {
        self.read_part(tensor, 0..tensor.len()).await
    }

    /// Reads a range of a tensor's elements back.
    ///
    /// # Panics
    /// As [`Compiled::read`], and when the range is out of bounds.
    pub async fn read_part<T: bytemuck::Pod>(&self, tensor: &Tensor, elements: Range<usize>) -> Result<Vec<T>> {
        check_words::<T>(tensor);
        assert!(elements.end <= tensor.len(), "`{}` has shape {:?}, not {elements:?}", tensor.name, tensor.shape);
        self.check_whole()?;
        let (buffer, offset) = self.place(tensor);
        let [first, length] = [elements.start, elements.len()].map(|n| n as u64 * 4);
        let bytes = self.transfer.read(&self.gpu, buffer, offset + first, length).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

/// The error of an engine whose device was lost, until it was moved to another one.
pub(super) fn not_recovered() -> Error {
    Error::DeviceLost("the trainer has no device, because its recovery has not ended: recover it again".into())
}

/// # Panics
/// When the elements of either side are not 4 bytes long: the same number of elements of another size would reach beyond the tensor.
fn check_words<T>(tensor: &Tensor) {
    let sizes = [size_of::<T>() as u64, tensor.dtype.size()];
    assert!(sizes == [4, 4], "{tensor:?} and the host's list have elements of {sizes:?} bytes, and both must have 4");
}

fn begin(encoder: &mut wgpu::CommandEncoder, timestamp_writes: Option<wgpu::ComputePassTimestampWrites>) -> wgpu::ComputePass<'static> {
    encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("wgpt"), timestamp_writes }).forget_lifetime()
}
