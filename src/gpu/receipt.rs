//! Receipts: proof that the device ran the commands that a host submitted.
//!
//! A device that finds one command of an encoder invalid, possibly one of the host's own, rejects the whole encoder: a browser drops the
//! command buffer and reports that to the device's error handler, yet the callbacks for the end of the submit still run. An error scope
//! would have to stay open from the encoding of a slice to the host's submit, across the host's own scopes. So each slice ends with the
//! copy of a number, which is then read back and compared.

use std::sync::{Arc, Mutex};

use super::Gpu;

/// A read-back buffer, and the number in it: 0 when it is new.
struct Slip {
    buffer: wgpu::Buffer,
    holds: u32,
}

type Free = Arc<Mutex<Vec<Slip>>>;

/// A slip that was encoded; it returns to `free` when the encoder has run or was dropped.
struct Away {
    slip: Option<Slip>,
    free: Free,
}

/// Slips for the slices in flight, and one for the next.
pub(crate) struct Receipts {
    /// 1 and 2, the sources of the copies.
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

    /// Bytes and number of the buffers for this many slips.
    pub fn needs(slips: usize) -> (u64, u64) {
        ((slips as u64 + 2) * BYTES, slips as u64 + 1)
    }

    /// Encodes a receipt: `done` is called once everything encoded so far has run, and dropped if the device rejected it.
    pub fn encode(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, done: impl FnOnce() + Send + 'static) {
        let slip = self.free.lock().unwrap_or_else(|e| e.into_inner()).pop().unwrap_or_else(|| Slip::new(gpu));
        // Not the number already in the slip: that would be read back even if the copy never ran.
        let number = if slip.holds == 1 { 2 } else { 1 };
        let buffer = slip.buffer.clone();
        encoder.copy_buffer_to_buffer(&self.numbers, u64::from(number - 1) * BYTES, &buffer, 0, BYTES);
        let mut away = Away { slip: Some(slip), free: self.free.clone() };
        encoder.map_buffer_on_submit(&buffer, wgpu::MapMode::Read, .., move |mapped| {
            let ran = match mapped {
                Ok(()) => away.slip.as_mut().and_then(Slip::read) == Some(number),
                // A lost device maps nothing: the next read reports that.
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

    /// Reads the number from the mapped buffer and unmaps it.
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
