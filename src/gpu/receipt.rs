//! Receipts: proof that a device ran what a host submitted to it.
//!
//! A device that finds one command of an encoder invalid, which may be one of the host's own, refuses all of them: a browser drops the
//! command buffer and tells the device's error handler. What waits for the submit to end is called all the same. An error scope would have
//! to stay open from the encoding of a slice to the host's submit, across scopes of the host's own, so a slice ends in the copy of a
//! number instead, which must come back.

use std::sync::{Arc, Mutex};

use super::Gpu;

/// A buffer that brings a number back, and the number that it holds: 0 when it is new.
struct Slip {
    buffer: wgpu::Buffer,
    holds: u32,
}

type Free = Arc<Mutex<Vec<Slip>>>;

/// A slip that went with an encoder; it comes back when that has run, or is dropped.
struct Away {
    slip: Option<Slip>,
    free: Free,
}

/// Slips for the slices that may be in flight, and one to encode.
pub(crate) struct Receipts {
    /// 1 and 2, to copy from.
    numbers: wgpu::Buffer,
    free: Free,
}

const BYTES: u64 = 4;

impl Receipts {
    pub fn new(gpu: &Gpu, slips: usize) -> Receipts {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let numbers = gpu.create_buffer("receipt numbers", 2 * BYTES, usage);
        gpu.queue().write_buffer(&numbers, 0, bytemuck::cast_slice(&[1u32, 2]));
        Receipts { numbers, free: Arc::new(Mutex::new((0..slips).map(|_| Slip::new(gpu)).collect())) }
    }

    /// Bytes and number of the buffers for so many slips.
    pub fn needs(slips: usize) -> (u64, u64) {
        ((slips as u64 + 2) * BYTES, slips as u64 + 1)
    }

    /// Encodes a receipt: `done` is called once everything encoded so far has run, and dropped if it was refused.
    pub fn encode(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, done: impl FnOnce() + Send + 'static) {
        let slip = self.free.lock().unwrap_or_else(|e| e.into_inner()).pop().unwrap_or_else(|| Slip::new(gpu));
        // Never the number that the slip holds: that would come back without a copy.
        let number = if slip.holds == 1 { 2 } else { 1 };
        let buffer = slip.buffer.clone();
        encoder.copy_buffer_to_buffer(&self.numbers, u64::from(number - 1) * BYTES, &buffer, 0, BYTES);
        let mut away = Away { slip: Some(slip), free: self.free.clone() };
        encoder.map_buffer_on_submit(&buffer, wgpu::MapMode::Read, .., move |mapped| {
            let ran = match mapped {
                Ok(()) => away.slip.as_mut().and_then(Slip::read) == Some(number),
                // A device that is lost maps nothing: what reads next meets that.
                Err(_) => true,
            };
            drop(away);
            if ran {
                done();
            }
        });
    }
}

impl Slip {
    fn new(gpu: &Gpu) -> Slip {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Slip { buffer: gpu.create_buffer("receipt", BYTES, usage), holds: 0 }
    }

    /// Takes the number out of the mapped buffer.
    fn read(&mut self) -> Option<u32> {
        let number = bytemuck::pod_read_unaligned(&self.buffer.get_mapped_range(..).ok()?);
        self.buffer.unmap();
        self.holds = number;
        Some(number)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(|e| e.into_inner()).extend(self.slip.take());
    }
}
