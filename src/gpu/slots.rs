//! Staging in the steady state: a ring of mapped buffers that feeds each run of a plan its inputs, and one that brings results back.
//!
//! A plain queue write would land before the whole submit and make a staging buffer each time; a slot is filled while it is mapped,
//! copied into place by the encoder, and maps itself again when that submit has run.

use web_time::Instant;

use super::Gpu;
use super::wait::Signal;
use crate::error::Result;

/// Staging buffers of one size.
pub struct Slots {
    gpu: Gpu,
    slots: Vec<Slot>,
    next: usize,
    bytes: u64,
}

struct Slot {
    buffer: wgpu::Buffer,
    /// Set once the slot is mapped; `None` while it is on its way.
    mapped: Signal<Result<(), wgpu::BufferAsyncError>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In flight, or not mapped yet.
    Away,
    /// Mapped: it can be filled.
    Ready,
    /// It holds data that no submit has taken along.
    Filled,
}

impl Slot {
    /// Whether it went with an encoder that was dropped: nothing is left that would send.
    fn is_lost(&self) -> bool {
        self.state == State::Away && self.mapped.is_alone()
    }
}

impl Slots {
    /// As many as may be in flight, and one to fill.
    pub const COUNT: u64 = 3;

    /// Bytes that [`Slots::new`] allocates.
    pub fn needs(bytes: u64) -> u64 {
        Slots::COUNT * bytes
    }

    pub async fn new(gpu: &Gpu, bytes: u64) -> Result<Slots> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let create = || (0..Slots::COUNT).map(|_| gpu.create_buffer("slot", bytes, usage)).collect::<Vec<_>>();
        let buffers = gpu.guarded("allocating slots", create).await?;
        let slot = |buffer| Slot { buffer, mapped: Signal::new(), state: State::Away };
        let slots: Vec<Slot> = buffers.into_iter().map(slot).collect();
        for slot in &slots {
            gpu.map(&slot.buffer, wgpu::MapMode::Write, bytes, slot.mapped.clone());
        }
        Ok(Slots { gpu: gpu.clone(), slots, next: 0, bytes })
    }

    fn at(&self, ahead: usize) -> usize {
        (self.next + ahead) % self.slots.len()
    }

    /// Whether a slot can be filled now: the next one, or one `ahead` of it.
    pub fn ready(&mut self, ahead: usize) -> Result<bool> {
        let (index, there) = (self.at(ahead), ahead < self.slots.len());
        let slot = &mut self.slots[index];
        if let Some(result) = slot.mapped.take() {
            result.map_err(|e| self.gpu.failed(format!("an input slot could not be mapped: {e}")))?;
            slot.state = State::Ready;
        }
        Ok(there && slot.state == State::Ready)
    }

    /// Maps the slots again whose data no submit has taken along, and none will: the encoders that they were copied by are gone.
    pub fn recall(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Filled || slot.is_lost()) {
            slot.state = State::Away;
            self.gpu.map(&slot.buffer, wgpu::MapMode::Write, self.bytes, slot.mapped.clone());
        }
    }

    /// Writes a slot.
    ///
    /// # Panics
    /// When the slot is not [`ready`](Slots::ready) or `data` is not one slot long.
    pub fn fill(&mut self, ahead: usize, data: &[u8]) -> Result<()> {
        let index = self.at(ahead);
        let slot = &mut self.slots[index];
        assert!(slot.state == State::Ready, "the slot is {:?}", slot.state);
        assert_eq!(data.len() as u64, self.bytes, "a slot is filled whole");
        {
            let view = slot.buffer.get_mapped_range_mut(..);
            let mut view = view.map_err(|e| self.gpu.failed(format!("an input slot could not be written: {e}")))?;
            view.slice(..).copy_from_slice(data);
        }
        slot.buffer.unmap();
        slot.state = State::Filled;
        Ok(())
    }

    /// Copies a filled slot to `target` and lets it map itself again once the encoder's submit has run.
    pub fn encode(&self, ahead: usize, encoder: &mut wgpu::CommandEncoder, target: &wgpu::Buffer) {
        let slot = &self.slots[self.at(ahead)];
        assert!(slot.state == State::Filled, "the slot is {:?}", slot.state);
        encoder.copy_buffer_to_buffer(&slot.buffer, 0, target, 0, self.bytes);
        let sender = slot.mapped.clone();
        encoder.map_buffer_on_submit(&slot.buffer, wgpu::MapMode::Write, .., move |result| sender.send(result));
    }

    /// So many slots went with a submit.
    pub fn commit(&mut self, count: usize) {
        for _ in 0..count {
            self.slots[self.next].state = State::Away;
            self.next = self.at(1);
        }
    }
}

/// One staging buffer that results come back through, without a wait.
pub struct Readback {
    gpu: Gpu,
    buffer: wgpu::Buffer,
    mapped: Signal<(Instant, Result<(), wgpu::BufferAsyncError>)>,
    request: Request,
    came: Option<Instant>,
    behind: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    None,
    /// On its way, under the name that the caller gave it.
    Asked(u64),
    /// On its way, and no longer wanted.
    Forgotten,
}

impl Readback {
    pub async fn new(gpu: &Gpu, bytes: u64) -> Result<Readback> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let buffer = gpu.guarded("allocating the read-back", || gpu.create_buffer("readback", bytes, usage)).await?;
        Ok(Readback { gpu: gpu.clone(), buffer, mapped: Signal::new(), request: Request::None, came: None, behind: 0 })
    }

    /// Whether no request is in flight.
    pub fn idle(&self) -> bool {
        self.request == Request::None
    }

    /// Copies the start of `source` when this encoder's submit has run; `tag` comes back with the bytes.
    ///
    /// # Panics
    /// When a request is in flight.
    pub fn request(&mut self, encoder: &mut wgpu::CommandEncoder, source: &wgpu::Buffer, tag: u64) {
        assert!(self.idle(), "a read-back is in flight");
        self.request = Request::Asked(tag);
        encoder.copy_buffer_to_buffer(source, 0, &self.buffer, 0, self.buffer.size());
        let sender = self.mapped.clone();
        encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Read, .., move |result| sender.send((Instant::now(), result)));
    }

    /// Has the start of `source` copied behind everything submitted so far; `tag` comes back with the bytes. Nothing happens while a request
    /// is in flight. How many slices it is asked behind is kept, see [`Readback::behind`].
    ///
    /// # Errors
    /// [`crate::error::Error::Device`] when the device is lost.
    pub fn fetch(&mut self, source: &wgpu::Buffer, tag: u64, behind: u64) -> Result<()> {
        if self.idle() {
            self.behind = behind;
            let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read-back") });
            self.request(&mut encoder, source, tag);
            self.gpu.queue().submit([encoder.finish()]);
        }
        self.gpu.check()
    }

    /// How many slices the last [`Readback::fetch`] was asked behind.
    pub fn behind(&self) -> u64 {
        self.behind
    }

    /// Drops what a request in flight brings: the place that it was asked at is no more. The next one waits until it has come.
    pub fn forget(&mut self) {
        if !self.idle() {
            self.request = Request::Forgotten;
        }
    }

    /// When the last bytes that [`Readback::poll`] gave had come, however long they then waited for it.
    pub fn came(&self) -> Option<Instant> {
        self.came
    }

    /// The bytes of the request in flight, with its tag, once they have come.
    pub fn poll(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let Some((came, result)) = self.mapped.take() else { return Ok(None) };
        self.came = Some(came);
        let failed = |e: &dyn std::fmt::Display| self.gpu.failed(format!("results could not be read back: {e}"));
        result.map_err(|e| failed(&e))?;
        let bytes = match self.request {
            Request::Asked(tag) => Some((tag, self.buffer.get_mapped_range(..).map_err(|e| failed(&e))?.to_vec())),
            Request::None | Request::Forgotten => None,
        };
        self.request = Request::None;
        self.buffer.unmap();
        Ok(bytes)
    }
}
