//! Bytes between host and device through two staging buffers, made once and counted in the memory plan.

use super::Gpu;
use super::wait::Signal;
use crate::error::{Error, Result};

/// The staging buffers of a compiled plan.
pub struct Transfer {
    up: wgpu::Buffer,
    down: wgpu::Buffer,
}

/// Longer transfers go in pieces of this many bytes.
const PIECE: u64 = 1 << 20;

impl Transfer {
    /// Staging buffers of a compiled plan.
    pub const BUFFERS: u64 = 2;
    /// Their bytes.
    pub const BYTES: u64 = 2 * PIECE;

    pub(crate) fn new(gpu: &Gpu) -> Transfer {
        let up = gpu.create_buffer("staging up", PIECE, wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC);
        let down = gpu.create_buffer("staging down", PIECE, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        Transfer { up, down }
    }

    /// Copies `data`, whose length is a multiple of 4, to a byte offset of `target`.
    pub async fn write(&self, gpu: &Gpu, target: &wgpu::Buffer, offset: u64, data: &[u8]) -> Result<()> {
        for (index, piece) in data.chunks(PIECE as usize).enumerate() {
            map(gpu, &self.up, wgpu::MapMode::Write, PIECE).await?;
            {
                let mut view = self.up.get_mapped_range_mut(..piece.len() as u64).map_err(lost)?;
                view.slice(..).copy_from_slice(piece);
            }
            self.up.unmap();
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("upload") });
            encoder.copy_buffer_to_buffer(&self.up, 0, target, offset + index as u64 * PIECE, piece.len() as u64);
            gpu.queue().submit([encoder.finish()]);
        }
        gpu.check()
    }

    /// Copies `length` bytes, a multiple of 4, from a byte offset of `source`.
    pub async fn read(&self, gpu: &Gpu, source: &wgpu::Buffer, offset: u64, length: u64) -> Result<Vec<u8>> {
        let mut data = Vec::with_capacity(length as usize);
        while (data.len() as u64) < length {
            let done = data.len() as u64;
            let size = (length - done).min(PIECE);
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("download") });
            encoder.copy_buffer_to_buffer(source, offset + done, &self.down, 0, size);
            gpu.queue().submit([encoder.finish()]);
            map(gpu, &self.down, wgpu::MapMode::Read, size).await?;
            data.extend_from_slice(&self.down.get_mapped_range(..size).map_err(lost)?);
            self.down.unmap();
        }
        gpu.check()?;
        Ok(data)
    }
}

async fn map(gpu: &Gpu, buffer: &wgpu::Buffer, mode: wgpu::MapMode, size: u64) -> Result<()> {
    let mapped = Signal::new();
    let sender = mapped.clone();
    buffer.map_async(mode, ..size, move |result| sender.send(result));
    let result = mapped.await;
    gpu.check()?;
    result.map_err(lost)
}

fn lost(error: impl std::fmt::Display) -> Error {
    Error::Device(format!("a staging buffer could not be mapped: {error}"))
}
