//! WGSL, buffers and time; this module knows nothing about language models.
//!
//! A [`Gpu`] is a device with its features and limits, opened here or borrowed from a host application. naga parses the kernels
//! ([`kernel`]); dispatches are recorded into a [`plan`] over virtual tensors, laid out in memory ([`memory`]) before anything is
//! allocated, compiled, and replayed ([`run`]).

pub mod adapter;
mod broken;
mod clock;
pub mod commands;
pub mod compile;
pub mod extent;
mod fault;
pub mod guest;
pub mod kernel;
mod launch;
pub mod memory;
pub mod options;
mod pace;
pub mod passes;
mod pipelines;
pub mod plan;
pub mod probe;
pub mod profile;
mod receipt;
pub mod run;
pub mod slice;
pub mod slots;
pub mod tensor;
pub mod transfer;
pub mod tune;
pub mod variants;
pub mod wait;

use std::sync::{Arc, Mutex, OnceLock};

use crate::error::{Error, Result, bytes};

/// The properties of a device that decide which kernel variants it runs.
#[derive(Debug, Clone, Default)]
pub struct Traits {
    /// The "GPU" is a CPU: barriers and per-lane loads are expensive, registers and scalar loads are cheap.
    pub software: bool,
    /// The subgroup size, when the device has subgroups of one fixed size.
    pub subgroup: Option<u32>,
    /// Rows and columns of the cooperative matrices of f16 that the device multiplies and accumulates in f32, if it has any.
    pub cooperative: Option<u32>,
    /// The limits that the device was opened with.
    pub limits: wgpu::Limits,
}

impl Traits {
    /// Whether a workgroup of `bytes` of memory can multiply cooperative matrices of `size` x `size` in subgroups of `subgroup`.
    pub fn multiplies(&self, size: u32, subgroup: u32, bytes: u32) -> bool {
        let memory = self.limits.max_compute_workgroup_storage_size;
        self.cooperative == Some(size) && self.subgroup == Some(subgroup) && memory >= bytes
    }
}

/// A device with its queue, features and limits. Cheap to clone; all clones share one failure state.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    traits: Traits,
    /// The first failure that no error scope caught.
    failure: Arc<Mutex<Option<Error>>>,
    created: Mutex<Created>,
    pipeline_cache: OnceLock<wgpu::PipelineCache>,
    pipelines: pipelines::Made,
    faults: fault::DeviceFaults,
}

/// The result of mapping a buffer.
pub(crate) type Mapped = std::result::Result<(), wgpu::BufferAsyncError>;

/// Counts of the buffers created by [`Gpu::create_buffer`], the only place that creates any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Created {
    /// Number of buffers created; dropping one does not lower it.
    pub buffers: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

impl Gpu {
    /// Opens the adapter that fits `request` best (see [`adapter::choose`]).
    ///
    /// # Errors
    /// [`Error::Adapter`] when there is no adapter or it is too small; the message says what to do about it.
    pub async fn request(request: &adapter::Request) -> Result<Gpu> {
        let adapters = adapter::list(request).await;
        let chosen = adapter::choose(&adapters, request)?;
        let adapter = &adapters[chosen];
        let info = adapter.get_info();
        let mut required_limits = adapter.limits();
        let timestamps = if request.timestamps { wgpu::Features::TIMESTAMP_QUERY } else { wgpu::Features::empty() };
        let mut required_features = adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE | timestamps);
        let wanted = request.experimental && !request.baseline;
        let cooperative = adapter::cooperative_matrices(adapter).filter(|_| wanted);
        if cooperative.is_some() {
            required_features |= adapter::COOPERATIVE;
        }
        if request.baseline {
            required_limits = wgpu::Limits::default();
            required_features = wgpu::Features::empty();
        }
        let mut descriptor =
            wgpu::DeviceDescriptor { label: Some("wgpt"), required_features, required_limits, ..wgpu::DeviceDescriptor::default() };
        if cooperative.is_some() {
            descriptor.experimental_features = experimental_features();
        }
        let opened = adapter.request_device(&descriptor).await;
        let (device, queue) = opened.map_err(|e| Error::Adapter(format!("the adapter {} could not be opened: {e}", info.name)))?;
        let gpu = Gpu::new(device, queue, cooperative, fault::DeviceFaults::of_process());
        gpu.listen();
        Ok(gpu)
    }

    /// Borrows a host application's device; needs no feature and no more than `wgpu::Limits::default()`.
    ///
    /// The host keeps its own error handlers: error scopes catch the failures of this crate's calls.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Gpu {
        Gpu::new(device, queue, None, fault::DeviceFaults::default())
    }

    /// As [`Gpu::from_wgpu`], for a device that was opened with [`adapter::COOPERATIVE`], and the
    /// [`adapter::cooperative_matrices`] of its adapter: a device alone does not report them.
    pub fn from_wgpu_cooperative(device: wgpu::Device, queue: wgpu::Queue, matrices: u32) -> Gpu {
        Gpu::new(device, queue, Some(matrices), fault::DeviceFaults::default())
    }

    fn new(device: wgpu::Device, queue: wgpu::Queue, cooperative: Option<u32>, faults: fault::DeviceFaults) -> Gpu {
        let info = device.adapter_info();
        let fixed = info.subgroup_min_size == info.subgroup_max_size;
        let has_subgroups = device.features().contains(wgpu::Features::SUBGROUP);
        let traits = Traits {
            software: info.device_type == wgpu::DeviceType::Cpu,
            subgroup: (fixed && has_subgroups).then_some(info.subgroup_max_size),
            cooperative,
            limits: device.limits(),
        };
        let failure = Arc::default();
        let (created, pipeline_cache, pipelines) = (Mutex::default(), OnceLock::new(), pipelines::Made::default());
        Gpu(Arc::new(Inner { device, queue, info, traits, failure, created, pipeline_cache, pipelines, faults }))
    }

    /// Installs error handlers on a device of our own, so that errors do not panic; [`Gpu::check`] returns them.
    fn listen(&self) {
        let failure = self.0.failure.clone();
        self.0.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let first_line = error.to_string().lines().next().unwrap_or_default().to_owned();
            let mut slot = failure.lock().unwrap_or_else(|e| e.into_inner());
            slot.get_or_insert(match error {
                wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory(format!("the device is out of memory: {first_line}")),
                _ => Error::Device(format!("the device reported an error: {first_line}")),
            });
        }));
        let on_lost = self.on_lost();
        self.0.device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                on_lost(reason, message);
            }
        });
    }

    /// `Err` once the device was lost or reported an error that no error scope caught.
    pub fn check(&self) -> Result<()> {
        let mut slot = self.0.failure.lock().unwrap_or_else(|e| e.into_inner());
        if self.0.faults.refused() {
            slot.get_or_insert_with(|| self.out_of_memory("a buffer"));
        }
        slot.clone().map_or(Ok(()), Err)
    }

    /// For a host's `set_device_lost_callback`: records that the borrowed device was lost; every later call that needs it returns an error.
    /// The closure holds no reference to the device: a callback that did would keep it alive for ever.
    pub fn on_lost(&self) -> impl Fn(wgpu::DeviceLostReason, String) + Send + Sync + 'static {
        let (failure, name) = (self.0.failure.clone(), self.0.info.name.clone());
        move |reason, message| {
            let mut slot = failure.lock().unwrap_or_else(|e| e.into_inner());
            slot.get_or_insert(Error::DeviceLost(lost(&name, reason, &message)));
        }
    }

    /// The error for a failed driver call: the loss of the device if it is lost, which every later call then also returns; otherwise
    /// `what`, which only this caller gets. A lost device first shows as a buffer that cannot be mapped.
    pub(crate) fn failed(&self, what: impl std::fmt::Display) -> Error {
        self.ask().err().unwrap_or_else(|| Error::Device(what.to_string()))
    }

    /// Checks that the device still works: a lost one cannot map a new buffer.
    pub(crate) fn ask(&self) -> Result<()> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let descriptor = wgpu::BufferDescriptor { label: Some("are you there"), size: 16, usage, mapped_at_creation: true };
        let scope = self.0.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let alive = self.0.device.create_buffer(&descriptor).get_mapped_range_mut(..).is_ok();
        drop(scope.pop());
        if !alive {
            self.on_lost()(wgpu::DeviceLostReason::Unknown, "it does not respond".into());
        }
        self.check()
    }

    /// Maps the first `bytes` bytes of a buffer and sends the result to `mapped`. On a lost device wgpu also raises a validation error, and
    /// panics if there is no handler for it; the scope drops that error, because the signal already carries it.
    pub(crate) fn map(&self, buffer: &wgpu::Buffer, mode: wgpu::MapMode, bytes: u64, mapped: wait::Signal<Mapped>) {
        let scope = self.0.device.push_error_scope(wgpu::ErrorFilter::Validation);
        buffer.map_async(mode, ..bytes, move |result| mapped.send(result));
        drop(scope.pop());
    }

    /// Whether both are clones of one [`Gpu`]. `wgpu::Device`s of two instances can compare equal: each instance numbers its own.
    pub(crate) fn is(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The pipelines that were compiled on this device.
    pub(crate) fn pipelines(&self) -> &pipelines::Made {
        &self.0.pipelines
    }

    /// The device, on which a host creates the encoders that slices are encoded into.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The device's queue: blocking calls submit to it, and a host submits the encoders of its slices to it.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// Name, driver, backend and device type of the adapter, as wgpu reports them.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.0.info
    }

    /// The driver's description of itself, with its version, or at least its name.
    pub fn driver(&self) -> &str {
        let info = self.info();
        if info.driver_info.is_empty() { &info.driver } else { &info.driver_info }
    }

    /// The properties that decide which kernel variants run; fixed when the device was opened or borrowed.
    pub fn traits(&self) -> &Traits {
        &self.0.traits
    }

    /// The limits that the device was opened with; plans are checked against them before anything is allocated.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.0.traits.limits
    }

    /// Creates a buffer and counts it. Tests compare memory plans with this count.
    pub fn create_buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let mut created = self.0.created.lock().unwrap_or_else(|e| e.into_inner());
        created.buffers += 1;
        created.bytes += size;
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        self.0.faults.allocation();
        self.0.device.create_buffer(&descriptor)
    }

    /// Submits one encoder; all submits of the engine go through here. If the device is lost, the caller learns that from [`Gpu::check`] or
    /// from what it waits for.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        if self.0.faults.submit() {
            self.0.device.destroy();
        }
        self.0.queue.submit([encoder.finish()])
    }

    /// Buffers created so far.
    pub fn created(&self) -> Created {
        *self.0.created.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Compiles later pipelines through a driver cache that starts with `data`: the result of [`Gpu::pipeline_cache_data`] on this adapter,
    /// or nothing. Does nothing without `wgpu::Features::PIPELINE_CACHE`, or if there is a cache already.
    ///
    /// # Safety
    /// wgpu and the driver check only the header of `data`: it must be the unchanged result of [`Gpu::pipeline_cache_data`].
    #[allow(unsafe_code)]
    pub unsafe fn keep_pipelines(&self, data: Option<&[u8]>) {
        if !self.0.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return;
        }
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("wgpt"), data, fallback: true };
        // SAFETY: the caller promises it; with `fallback` the driver ignores data of another driver.
        self.0.pipeline_cache.get_or_init(|| unsafe { self.0.device.create_pipeline_cache(&descriptor) });
    }

    fn pipeline_cache(&self) -> Option<&wgpu::PipelineCache> {
        self.0.pipeline_cache.get()
    }

    /// The contents of the driver's pipeline cache, to be stored for the next process.
    pub fn pipeline_cache_data(&self) -> Option<Vec<u8>> {
        self.0.pipeline_cache.get()?.get_data()
    }

    /// Runs `make` inside error scopes, so that a failed allocation or pipeline is an `Err` and not a panic.
    pub(crate) async fn guarded<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        // On a lost device creation does not fail: it returns objects that cannot be used.
        self.check()?;
        let memory = self.0.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.0.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.0.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let made = make();
        let (internal, validation, memory) = (internal.pop(), validation.pop(), memory.pop());
        let refused = self.0.faults.refused();
        if memory.await.is_some() || refused {
            return Err(self.out_of_memory(what));
        }
        match (validation.await, internal.await) {
            (Some(e), _) | (_, Some(e)) => Err(self.failed(format!("{what}: {}", e.to_string().replace('\n', " ")))),
            _ => Ok(made),
        }
    }

    fn out_of_memory(&self, what: &str) -> Error {
        let (name, total) = (&self.0.info.name, bytes(self.created().bytes));
        let advice = "a smaller model or train.batch_size takes less memory";
        Error::OutOfMemory(format!("{name} is out of memory at {what}, {total} in all: {advice}"))
    }
}

/// The message for a lost device, with the driver's reason, which is often empty.
fn lost(name: &str, reason: wgpu::DeviceLostReason, message: &str) -> String {
    match (message.trim().trim_end_matches('.'), reason) {
        ("", wgpu::DeviceLostReason::Destroyed) => format!("the device {name} was destroyed"),
        ("", _) => format!("the device {name} was lost; its driver gave no reason"),
        (message, _) => format!("the device {name} was lost ({message})"),
    }
}

/// The token that wgpu requires to open a device with experimental features.
#[allow(unsafe_code)]
fn experimental_features() -> wgpu::ExperimentalFeatures {
    // SAFETY: the caller of [`Gpu::request`] opted in, knowing that wgpu promises less of these; the kernel tests run them.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_without_a_message_is_still_a_sentence() {
        use wgpu::DeviceLostReason::{Destroyed, Unknown};
        assert_eq!(lost("llvmpipe", Unknown, " "), "the device llvmpipe was lost; its driver gave no reason");
        assert_eq!(lost("llvmpipe", Destroyed, ""), "the device llvmpipe was destroyed");
        assert_eq!(lost("llvmpipe", Unknown, "Parent device is lost."), "the device llvmpipe was lost (Parent device is lost)");
    }
}
