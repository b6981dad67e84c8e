//! Transfers between host and device through two staging buffers, which are created once and counted in the memory plan.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Mutex;
use std::task::{Poll, Waker};

use super::Gpu;
use super::wait::Signal;
use crate::error::Result;

/// The staging buffers of a compiled plan. Each serves one transfer at a time; later transfers wait.
pub struct Transfer {
    up: Staging,
    down: Staging,
}

struct Staging {
    buffer: wgpu::Buffer,
    mode: wgpu::MapMode,
    turn: Mutex<Turn>,
}

/// Whether a transfer uses the buffer, and the wakers of those that wait.
#[derive(Default)]
struct Turn {
    taken: bool,
    waiting: VecDeque<Waker>,
}

/// The exclusive use of a staging buffer by one transfer; dropping it, as with a cancelled future, unmaps and releases the buffer.
struct Taken<'s> {
    staging: &'s Staging,
    mapping: Mapping,
}

#[derive(Default)]
enum Mapping {
    #[default]
    None,
    Asked(Signal<Result<(), wgpu::BufferAsyncError>>),
    Mapped,
}

/// Longer transfers are split into pieces of this many bytes.
pub(crate) const PIECE: u64 = 1 << 20;

impl Transfer {
    /// Number of staging buffers of a compiled plan.
    pub const BUFFERS: u64 = 2;
    /// Their size in bytes.
    pub const BYTES: u64 = 2 * PIECE;

    pub(crate) fn new(gpu: &Gpu) -> Transfer {
        let up = gpu.create_buffer("staging up", PIECE, wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC);
        let down = gpu.create_buffer("staging down", PIECE, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        Transfer { up: Staging::new(up, wgpu::MapMode::Write), down: Staging::new(down, wgpu::MapMode::Read) }
    }

    /// Copies `data`, whose length is a multiple of 4, to a byte offset of `target`.
    pub async fn write(&self, gpu: &Gpu, target: &wgpu::Buffer, offset: u64, data: &[u8]) -> Result<()> {
        let mut up = self.up.take().await;
        for (index, piece) in data.chunks(PIECE as usize).enumerate() {
            up.map(gpu, PIECE).await?;
            {
                let view = self.up.buffer.get_mapped_range_mut(..piece.len() as u64);
                view.map_err(|e| unmapped(gpu, e))?.slice(..).copy_from_slice(piece);
            }
            up.unmap();
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("upload") });
            encoder.copy_buffer_to_buffer(&self.up.buffer, 0, target, offset + index as u64 * PIECE, piece.len() as u64);
            gpu.submit(encoder);
        }
        gpu.check()
    }

    /// Copies `length` bytes, a multiple of 4, from a byte offset of `source`.
    pub async fn read(&self, gpu: &Gpu, source: &wgpu::Buffer, offset: u64, length: u64) -> Result<Vec<u8>> {
        let mut down = self.down.take().await;
        let mut data = Vec::with_capacity(length as usize);
        while (data.len() as u64) < length {
            let done = data.len() as u64;
            let size = (length - done).min(PIECE);
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("download") });
            encoder.copy_buffer_to_buffer(source, offset + done, &self.down.buffer, 0, size);
            gpu.submit(encoder);
            down.map(gpu, size).await?;
            data.extend_from_slice(&self.down.buffer.get_mapped_range(..size).map_err(|e| unmapped(gpu, e))?);
            down.unmap();
        }
        gpu.check()?;
        Ok(data)
    }
}

impl Staging {
    fn new(buffer: wgpu::Buffer, mode: wgpu::MapMode) -> Staging {
        Staging { buffer, mode, turn: Mutex::default() }
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits until no other transfer uses the buffer.
    async fn take(&self) -> Taken<'_> {
        poll_fn(|context| {
            let mut turn = self.turn();
            if turn.taken {
                turn.waiting.push_back(context.waker().clone());
                return Poll::Pending;
            }
            turn.taken = true;
            Poll::Ready(())
        })
        .await;
        Taken { staging: self, mapping: Mapping::None }
    }
}

impl Taken<'_> {
    async fn map(&mut self, gpu: &Gpu, size: u64) -> Result<()> {
        let mapped = Signal::new();
        self.mapping = Mapping::Asked(mapped.clone());
        gpu.map(&self.staging.buffer, self.staging.mode, size, mapped.clone());
        let result = mapped.await;
        self.mapping = if result.is_ok() { Mapping::Mapped } else { Mapping::None };
        gpu.check()?;
        result.map_err(|e| unmapped(gpu, e))
    }

    fn unmap(&mut self) {
        match std::mem::take(&mut self.mapping) {
            Mapping::None => {}
            // If mapping failed the buffer is not mapped, and unmapping it would be a validation error.
            Mapping::Asked(mapped) if matches!(mapped.take(), Some(Err(_))) => {}
            Mapping::Asked(_) | Mapping::Mapped => self.staging.buffer.unmap(),
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.unmap();
        let mut turn = self.staging.turn();
        turn.taken = false;
        // Wakes all of them: a single one might belong to a future that was dropped meanwhile.
        turn.waiting.drain(..).for_each(Waker::wake);
    }
}

fn unmapped(gpu: &Gpu, error: impl std::fmt::Display) -> crate::error::Error {
    gpu.failed(format!("a staging buffer could not be mapped: {error}"))
}
