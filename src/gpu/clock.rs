//! Timestamps around slices, on devices that have them: they measure the slice on the device, without the host's own work.

use super::Gpu;
use super::wait::Signal;

/// A pair of timestamps for each slice that may be in flight, and one for the next.
pub(crate) struct Clock {
    pairs: Vec<Pair>,
    next: usize,
    /// Seconds per tick.
    period: f64,
}

struct Pair {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    mapped: wgpu::Buffer,
    ready: Signal<Result<(), wgpu::BufferAsyncError>>,
}

const BYTES: u64 = 16;

impl Clock {
    /// None without `wgpu::Features::TIMESTAMP_QUERY`.
    pub fn new(gpu: &Gpu, pairs: usize) -> Option<Clock> {
        let device = gpu.device();
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let descriptor = wgpu::QuerySetDescriptor { label: Some("slice"), ty: wgpu::QueryType::Timestamp, count: 2 };
        let pair = |_| Pair {
            queries: device.create_query_set(&descriptor),
            resolved: gpu.create_buffer("slice times", BYTES, wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            mapped: gpu.create_buffer("slice times", BYTES, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            ready: Signal::new(),
        };
        let period = f64::from(gpu.queue().get_timestamp_period()) * 1e-9;
        Some(Clock { pairs: (0..pairs).map(pair).collect(), next: 0, period })
    }

    /// Bytes and number of the buffers for this many pairs.
    pub fn needs(gpu: &Gpu, pairs: usize) -> (u64, u64) {
        let buffers = if gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY) { 2 * pairs as u64 } else { 0 };
        (buffers * BYTES, buffers)
    }

    /// The pair for the next slice; it is used again if that slice is dropped.
    pub fn next(&self) -> usize {
        self.next
    }

    /// Writes a timestamp before everything that is encoded from now on.
    pub fn begin(&self, encoder: &mut wgpu::CommandEncoder, pair: usize) {
        self.stamp(encoder, pair, Some(0), None);
    }

    /// Writes a timestamp after everything encoded so far, and reads both back.
    pub fn end(&self, encoder: &mut wgpu::CommandEncoder, pair: usize) {
        self.stamp(encoder, pair, None, Some(1));
        let Pair { queries, resolved, mapped, ready } = &self.pairs[pair];
        encoder.resolve_query_set(queries, 0..2, resolved, 0);
        encoder.copy_buffer_to_buffer(resolved, 0, mapped, 0, BYTES);
        let sender = ready.clone();
        encoder.map_buffer_on_submit(mapped, wgpu::MapMode::Read, .., move |result| sender.send(result));
    }

    /// An empty pass with a timestamp.
    fn stamp(&self, encoder: &mut wgpu::CommandEncoder, pair: usize, begin: Option<u32>, end: Option<u32>) {
        let writes = wgpu::ComputePassTimestampWrites {
            query_set: &self.pairs[pair].queries,
            beginning_of_pass_write_index: begin,
            end_of_pass_write_index: end,
        };
        drop(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("slice time"), timestamp_writes: Some(writes) }));
    }

    /// Advances to the next pair, because the slice with this one was submitted.
    pub fn commit(&mut self) {
        self.next = (self.next + 1) % self.pairs.len();
    }

    /// Seconds between the two timestamps of a pair once they have arrived, which frees the pair. NaN if they could not be read.
    pub fn take(&self, pair: usize) -> Option<f64> {
        let Pair { mapped, ready, .. } = &self.pairs[pair];
        if ready.take()?.is_err() {
            return Some(f64::NAN);
        }
        let Ok(view) = mapped.get_mapped_range(..) else { return Some(f64::NAN) };
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        mapped.unmap();
        Some(ticks[1].saturating_sub(ticks[0]) as f64 * self.period)
    }
}
