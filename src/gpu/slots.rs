//! Staging in the steady state: a ring of mapped buffers uploads the inputs of each run of a plan, and a buffer reads results back.
//!
//! `Queue::write_buffer` would take effect before the whole submit and allocate a staging buffer each time; a slot is filled while it is
//! mapped, copied by the encoder, and mapped again when that submit has run.

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
    /// Receives the result of mapping the slot; empty while the slot is in flight.
    mapped: Signal<Result<(), wgpu::BufferAsyncError>>,
    state: SlotState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// In flight, or not mapped yet.
    Away,
    /// Mapped: it can be filled.
    Ready,
    /// It holds data that was not submitted yet.
    Filled,
}

impl Slot {
    /// Whether the slot was encoded and its encoder was dropped: then no callback is left that could send.
    fn is_lost(&self) -> bool {
        self.state == SlotState::Away && self.mapped.is_alone()
    }
}

impl Slots {
    /// One for each submit that may be in flight, and one to fill.
    pub const COUNT: u64 = 3;

    /// Bytes that [`Slots::new`] allocates.
    pub fn needs(bytes: u64) -> u64 {
        Slots::COUNT * bytes
    }

    /// Allocates [`Slots::COUNT`] upload buffers of `bytes` each and asks the device to map them.
    pub async fn new(gpu: &Gpu, bytes: u64) -> Result<Slots> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let create = || (0..Slots::COUNT).map(|_| gpu.create_buffer("slot", bytes, usage)).collect::<Vec<_>>();
        let buffers = gpu.guarded("allocating slots", create).await?;
        let slot = |buffer| Slot { buffer, mapped: Signal::new(), state: SlotState::Away };
        let slots: Vec<Slot> = buffers.into_iter().map(slot).collect();
        for slot in &slots {
            gpu.map(&slot.buffer, wgpu::MapMode::Write, bytes, slot.mapped.clone());
        }
        Ok(Slots { gpu: gpu.clone(), slots, next: 0, bytes })
    }

    fn at(&self, ahead: usize) -> usize {
        (self.next + ahead) % self.slots.len()
    }

    /// Whether the slot that is `ahead` places after the next one can be filled now.
    pub fn ready(&mut self, ahead: usize) -> Result<bool> {
        let (index, there) = (self.at(ahead), ahead < self.slots.len());
        let slot = &mut self.slots[index];
        if let Some(result) = slot.mapped.take() {
            result.map_err(|e| self.gpu.failed(format!("an input slot could not be mapped: {e}")))?;
            slot.state = SlotState::Ready;
        }
        Ok(there && slot.state == SlotState::Ready)
    }

    /// Maps again the slots whose data was never submitted because their encoders were dropped.
    pub fn recall(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == SlotState::Filled || slot.is_lost()) {
            slot.state = SlotState::Away;
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
        assert!(slot.state == SlotState::Ready, "the slot is {:?}", slot.state);
        assert_eq!(data.len() as u64, self.bytes, "a slot is filled whole");
        {
            let view = slot.buffer.get_mapped_range_mut(..);
            let mut view = view.map_err(|e| self.gpu.failed(format!("an input slot could not be written: {e}")))?;
            view.slice(..).copy_from_slice(data);
        }
        slot.buffer.unmap();
        slot.state = SlotState::Filled;
        Ok(())
    }

    /// Copies a filled slot to `target`, and maps the slot again when the encoder's submit has run.
    pub fn encode(&self, ahead: usize, encoder: &mut wgpu::CommandEncoder, target: &wgpu::Buffer) {
        let slot = &self.slots[self.at(ahead)];
        assert!(slot.state == SlotState::Filled, "the slot is {:?}", slot.state);
        encoder.copy_buffer_to_buffer(&slot.buffer, 0, target, 0, self.bytes);
        let sender = slot.mapped.clone();
        encoder.map_buffer_on_submit(&slot.buffer, wgpu::MapMode::Write, .., move |result| sender.send(result));
    }

    /// Advances the ring past `count` slots that were submitted.
    pub fn commit(&mut self, count: usize) {
        for _ in 0..count {
            self.slots[self.next].state = SlotState::Away;
            self.next = self.at(1);
        }
    }
}

/// One staging buffer that reads results back without blocking.
pub struct Readback {
    gpu: Gpu,
    buffer: wgpu::Buffer,
    mapped: Signal<(Instant, Result<(), wgpu::BufferAsyncError>)>,
    request: ReadState,
    came: Option<Instant>,
    behind: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadState {
    None,
    /// In flight, with the caller's tag.
    Asked(u64),
    /// In flight, and the result is no longer wanted.
    Forgotten,
}

impl Readback {
    /// Allocates the buffer, `bytes` long, that results are copied to.
    pub async fn new(gpu: &Gpu, bytes: u64) -> Result<Readback> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let buffer = gpu.guarded("allocating the read-back", || gpu.create_buffer("readback", bytes, usage)).await?;
        Ok(Readback { gpu: gpu.clone(), buffer, mapped: Signal::new(), request: ReadState::None, came: None, behind: 0 })
    }

    /// Whether no request is in flight.
    pub fn idle(&self) -> bool {
        self.request == ReadState::None
    }

    /// Encodes a copy of the start of `source`, and maps it when the encoder's submit has run; `poll` returns `tag` with the bytes.
    ///
    /// # Panics
    /// When a request is in flight.
    pub fn request(&mut self, encoder: &mut wgpu::CommandEncoder, source: &wgpu::Buffer, tag: u64) {
        assert!(self.idle(), "a read-back is in flight");
        self.request = ReadState::Asked(tag);
        encoder.copy_buffer_to_buffer(source, 0, &self.buffer, 0, self.buffer.size());
        let sender = self.mapped.clone();
        encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Read, .., move |result| sender.send((Instant::now(), result)));
    }

    /// Submits a copy of the start of `source`, which runs after everything submitted so far; `poll` returns `tag` with the bytes. Does
    /// nothing while a request is in flight. `behind` is the number of slices that were submitted before it, see [`Readback::behind`].
    ///
    /// # Errors
    /// [`crate::error::Error::DeviceLost`] when the device is lost.
    pub fn fetch(&mut self, source: &wgpu::Buffer, tag: u64, behind: u64) -> Result<()> {
        if self.idle() {
            self.behind = behind;
            let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read-back") });
            self.request(&mut encoder, source, tag);
            self.gpu.submit(encoder);
        }
        self.gpu.check()
    }

    /// The number of slices that were submitted before the last [`Readback::fetch`].
    pub fn behind(&self) -> u64 {
        self.behind
    }

    /// Discards the result of the request in flight as outdated. The next request must wait until it has arrived.
    pub fn forget(&mut self) {
        if !self.idle() {
            self.request = ReadState::Forgotten;
        }
    }

    /// When the bytes that [`Readback::poll`] returned last arrived, which may be long before that poll.
    pub fn came(&self) -> Option<Instant> {
        self.came
    }

    /// The bytes and the tag of the request in flight, once they have arrived.
    pub fn poll(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let Some((came, result)) = self.mapped.take() else { return Ok(None) };
        self.came = Some(came);
        let failed = |e: &dyn std::fmt::Display| self.gpu.failed(format!("results could not be read back: {e}"));
        result.map_err(|e| failed(&e))?;
        let bytes = match self.request {
            ReadState::Asked(tag) => Some((tag, self.buffer.get_mapped_range(..).map_err(|e| failed(&e))?.to_vec())),
            ReadState::None | ReadState::Forgotten => None,
        };
        self.request = ReadState::None;
        self.buffer.unmap();
        Ok(bytes)
    }
}
