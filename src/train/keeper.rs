//! Snapshots in host memory, taken while training goes on: what a trainer recovers from when its device is lost.
//!
//! ```text
//!   due, between two steps      mapped              copied to host memory, piece by piece
//!   idle ────────────> one submit of copies ────> arrived ────────────────────────> idle, with a newer snapshot
//! ```

use std::time::Duration;

use web_time::Instant;

use crate::error::{Error, Result, bytes};
use crate::gpu::compile::Compiled;
use crate::gpu::guest::Guest;
use crate::gpu::tensor::Tensor;
use crate::gpu::wait::Signal;
use crate::gpu::{Gpu, Mapped};
use crate::model::Model;
use crate::model::pools::{PoolSlice, Pools};
use crate::model::session::{Session, TrainProgress};
use crate::ops::step::State;
use crate::train::trainer::Snapshot;

/// Everything of a training at one step, in host memory: what a checkpoint holds, and the ring of records.
#[derive(Clone)]
pub struct KeptState {
    /// Completed steps.
    pub step: u64,
    /// The contents of each storage, see [`sources`].
    parts: Vec<Vec<u8>>,
    slices: Vec<PoolSlice>,
    moments: usize,
}

/// The copies of a trainer's state: the buffers that they go through, and the newest that has arrived.
pub(super) struct Keeper {
    /// Seconds between two copies; zero takes none.
    every: Duration,
    /// One for each of [`sources`]; none if no copies are taken.
    staging: Vec<StagedPart>,
    request: Option<KeepRequest>,
    newest: Option<KeptState>,
    /// The memory of the one before, for the next.
    spare: Vec<Vec<u8>>,
    /// When the last copy was requested, or the keeper was created.
    last: Instant,
}

struct StagedPart {
    source: Tensor,
    buffer: wgpu::Buffer,
    mapped: Signal<Mapped>,
}

/// A copy in flight, or on its way from mapped buffers to host memory.
struct KeepRequest {
    step: u64,
    /// Number of slices that were submitted before it.
    behind: u64,
    /// How many of the buffers are mapped, the first ones.
    mapped: usize,
    /// What was copied from them so far, and the number of the buffer that comes next.
    parts: Vec<Vec<u8>>,
    next: usize,
}

/// The storages of a training plan that hold its state: for each segment the weights and each moment; then the device's state and the
/// records.
fn sources(model: &Model) -> Vec<Tensor> {
    let segments = model.pools.segments.iter();
    let pools = segments.flat_map(|segment| [Some(&segment.params), Some(&segment.m), segment.v.as_ref()].into_iter().flatten());
    pools.chain([&model.state, &model.records]).cloned().collect()
}

impl Keeper {
    /// Bytes and number of the buffers that [`Keeper::new`] creates.
    pub fn needs(every: f64, model: &Model) -> (u64, u64) {
        let sources = if every > 0.0 { sources(model) } else { vec![] };
        (sources.iter().map(Tensor::bytes).sum(), sources.len() as u64)
    }

    /// A keeper that takes a copy every `every` seconds; 0 takes none.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] and [`Error::Device`] when the driver refuses the buffers.
    pub async fn new(every: f64, session: &Session) -> Result<Keeper> {
        let every = Duration::try_from_secs_f64(every).unwrap_or(Duration::MAX);
        let mut keeper = Keeper { every, staging: vec![], request: None, newest: None, spare: vec![], last: Instant::now() };
        keeper.open(session).await?;
        Ok(keeper)
    }

    /// Creates the buffers on the session's device.
    pub async fn open(&mut self, session: &Session) -> Result<()> {
        if self.every.is_zero() {
            return Ok(());
        }
        let (gpu, usage) = (&session.gpu, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let stage = |source: Tensor| {
            let buffer = gpu.create_buffer("snapshot", source.bytes(), usage);
            StagedPart { source, buffer, mapped: Signal::new() }
        };
        let create = || sources(&session.model).into_iter().map(stage).collect();
        self.staging = gpu.guarded("allocating snapshots", create).await?;
        self.last = Instant::now();
        Ok(())
    }

    /// Drops the buffers, with a copy in flight. What has arrived stays.
    pub fn close(&mut self) {
        self.staging.clear();
        self.request = None;
    }

    /// The newest copy that has arrived.
    pub fn newest(&self) -> Option<&KeptState> {
        self.newest.as_ref()
    }

    /// Replaces what has arrived, and forgets a copy in flight.
    pub fn replace(&mut self, state: KeptState) {
        self.newest = Some(state);
        self.forget();
    }

    /// Forgets a copy in flight, whose buffers are then used again once it has arrived.
    pub fn forget(&mut self) {
        if let Some(request) = &mut self.request {
            request.step = FORGOTTEN;
        }
    }

    /// Whether a copy should be requested between the next two steps.
    pub fn is_due(&self) -> bool {
        !self.staging.is_empty() && self.request.is_none() && self.last.elapsed() >= self.every
    }

    /// Requests a copy of the current state, which is that after all submits so far.
    pub fn request(&mut self, gpu: &Gpu, compiled: &Compiled, guest: &Guest<TrainProgress>) {
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("snapshot") });
        for StagedPart { source, buffer, mapped } in &mut self.staging {
            let (from, offset) = compiled.place(source);
            encoder.copy_buffer_to_buffer(from, offset, buffer, 0, source.bytes());
            *mapped = Signal::new();
            let sender = mapped.clone();
            encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, .., move |result| sender.send(result));
        }
        gpu.submit(encoder);
        self.last = Instant::now();
        let mut parts = std::mem::take(&mut self.spare);
        parts.resize(self.staging.len(), vec![]);
        parts.iter_mut().for_each(Vec::clear);
        self.request = Some(KeepRequest { step: guest.place().step, behind: guest.submitted(), mapped: 0, parts, next: 0 });
    }

    /// Copies at most `most` bytes of what has arrived; true if a snapshot is complete with them.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is lost, [`Error::OutOfMemory`] when the host has no memory for the copy.
    pub fn take_in(&mut self, gpu: &Gpu, guest: &Guest<TrainProgress>, pools: &Pools, most: usize) -> Result<bool> {
        let Some(request) = &mut self.request else { return Ok(false) };
        while let Some(part) = self.staging.get(request.mapped) {
            match part.mapped.take() {
                Some(Ok(())) => request.mapped += 1,
                Some(Err(e)) => return Err(gpu.failed(format!("a snapshot could not be read back: {e}"))),
                None => return Ok(false),
            }
        }
        let usable = request.step != FORGOTTEN && guest.have_ended(request.behind);
        if usable && !request.copy(gpu, &self.staging, most)? {
            return Ok(false);
        }
        self.staging.iter().for_each(|part| part.buffer.unmap());
        let Some(KeepRequest { step, parts, .. }) = self.request.take().filter(|_| usable) else { return Ok(false) };
        let state = KeptState::with(step, parts, pools);
        self.spare = self.newest.replace(state).map(|old| old.parts).unwrap_or_default();
        Ok(true)
    }
}

/// The step of a request whose result is not wanted.
const FORGOTTEN: u64 = u64::MAX;

impl KeepRequest {
    /// Copies the next `most` bytes; true once all are copied.
    fn copy(&mut self, gpu: &Gpu, staging: &[StagedPart], most: usize) -> Result<bool> {
        let mut left = most.next_multiple_of(8);
        while let Some(StagedPart { buffer, .. }) = staging.get(self.next).filter(|_| left > 0) {
            let (into, whole) = (&mut self.parts[self.next], buffer.size() as usize);
            if into.try_reserve_exact(whole - into.len()).is_err() {
                return Err(Error::OutOfMemory(format!("this machine has no memory for {} of a snapshot", bytes(whole as u64))));
            }
            let piece = left.min(whole - into.len());
            let (from, to) = (into.len() as u64, (into.len() + piece) as u64);
            let view = buffer.get_mapped_range(from..to);
            into.extend_from_slice(&view.map_err(|e| gpu.failed(format!("a snapshot could not be read back: {e}")))?);
            left -= piece;
            if into.len() == whole {
                self.next += 1;
            }
        }
        Ok(self.next == staging.len())
    }
}

impl KeptState {
    /// Reads all of it from the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is lost.
    pub(super) async fn read(session: &Session) -> Result<KeptState> {
        let mut parts = vec![];
        for source in sources(&session.model) {
            parts.push(bytemuck::cast_slice(&session.compiled.read::<u32>(&source).await?).to_vec());
        }
        Ok(KeptState::with(session.guest.place().step, parts, &session.model.pools))
    }

    /// The state of a snapshot, which was checked against these pools, and no records.
    pub(super) fn of(snapshot: &Snapshot, model: &Model) -> KeptState {
        let parts = sources(model).iter().map(|source| vec![0; source.bytes() as usize]).collect();
        let mut kept = KeptState::with(snapshot.step, parts, &model.pools);
        let lists = std::iter::once(&snapshot.weights).chain(&snapshot.moments);
        for (list, values) in lists.enumerate() {
            for (param, values) in model.pools.table.iter().zip(values) {
                let mut rest = bytemuck::cast_slice::<f32, u8>(values);
                for slice in model.pools.slices.iter().filter(|slice| slice.param == param.name) {
                    let (part, range) = kept.place(slice, list);
                    let (head, tail) = rest.split_at(range.len());
                    kept.parts[part][range].copy_from_slice(head);
                    rest = tail;
                }
            }
        }
        let state = kept.parts.len() - 2;
        kept.parts[state][..size_of::<State>()].copy_from_slice(bytemuck::bytes_of(&snapshot.state));
        kept
    }

    fn with(step: u64, parts: Vec<Vec<u8>>, pools: &Pools) -> KeptState {
        KeptState { step, parts, slices: pools.slices.clone(), moments: pools.moments() }
    }

    /// Where a slice of the weights (list 0) or of a moment (from 1) is: the part, and the range of bytes in it.
    fn place(&self, slice: &PoolSlice, list: usize) -> (usize, std::ops::Range<usize>) {
        let (from, bytes) = (slice.offset as usize, 4 * slice.shape.iter().product::<usize>());
        (slice.segment * (1 + self.moments) + list, from..from + bytes)
    }

    /// Number of moments of each weight.
    pub fn moments(&self) -> usize {
        self.moments
    }

    /// The values of a parameter, or of one of its moments (from 0).
    pub fn values(&self, param: &str, moment: Option<usize>) -> Vec<f32> {
        let list = moment.map_or(0, |moment| moment + 1);
        let mut values = vec![];
        for slice in self.slices.iter().filter(|slice| slice.param == param) {
            let (part, range) = self.place(slice, list);
            values.extend(bytemuck::pod_collect_to_vec::<u8, f32>(&self.parts[part][range]));
        }
        values
    }

    /// The device's block of state.
    pub fn state(&self) -> State {
        bytemuck::pod_read_unaligned(&self.parts[self.parts.len() - 2][..size_of::<State>()])
    }

    /// The records of the last steps.
    pub(super) fn records(&self) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.parts[self.parts.len() - 1])
    }
}
