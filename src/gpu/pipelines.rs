//! The pipelines of a plan: one for each kernel and variant that it uses. The device keeps them for the next plan.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Gpu;
use super::kernel::{Access, Interface, Kernel, Module};
use super::options::Options;
use crate::error::Result;

/// A pipeline, with the layout its bind groups need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// Entry point, and the address of its module's text as a number, because a raw pointer is not `Send`.
type EntryKey = (&'static str, usize);

pub(crate) struct Pipelines(HashMap<EntryKey, Pipeline>);

/// All pipelines created on a device, for as long as the [`Gpu`] lives: a second engine of the same kind compiles nothing.
#[derive(Default)]
pub(crate) struct Made(Mutex<HashMap<PipelineContent, Pipeline>>);

/// The identity of a pipeline: two plans share one if their texts are equal, though each plan has its own copy.
#[derive(Clone)]
struct PipelineContent {
    entry: &'static str,
    checked: bool,
    module: Arc<Module>,
}

impl PipelineContent {
    fn parts(&self) -> (&'static str, bool, &str) {
        (self.entry, self.checked, &self.module.text)
    }
}

impl PartialEq for PipelineContent {
    fn eq(&self, other: &PipelineContent) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for PipelineContent {}

impl Hash for PipelineContent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl Made {
    fn find(&self, content: &PipelineContent) -> Option<Pipeline> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).get(content).cloned()
    }

    fn keep(&self, content: PipelineContent, pipeline: &Pipeline) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).insert(content, pipeline.clone());
    }
}

impl Pipelines {
    /// Creates the wanted pipelines that this device does not have yet, each once; entry points of the same text share a module.
    ///
    /// # Errors
    /// [`crate::error::Error::Device`] when the driver refuses a shader.
    pub async fn build<'a>(gpu: &Gpu, wanted: impl Iterator<Item = (&'a Kernel, &'a Interface)>, options: &Options) -> Result<Pipelines> {
        let (checked, threads) = (options.checked, options.threads);
        let (mut found, mut keys, mut wants, mut texts) = (HashMap::new(), vec![], vec![], vec![]);
        let content =
            |kernel: &Kernel, interface: &Interface| PipelineContent { entry: kernel.entry(), checked, module: interface.module.clone() };
        for (kernel, interface) in wanted {
            if keys.contains(&key(kernel, interface)) || found.contains_key(&key(kernel, interface)) {
                continue;
            }
            if let Some(made) = gpu.pipelines().find(&content(kernel, interface)) {
                found.insert(key(kernel, interface), made);
                continue;
            }
            keys.push(key(kernel, interface));
            let text = texts.iter().position(|other: &&Interface| Arc::ptr_eq(&other.module, &interface.module));
            wants.push((kernel, interface, text.unwrap_or(texts.len())));
            if text.is_none() {
                texts.push(interface);
            }
        }
        let modules = each(gpu, threads, "reading shaders", &texts, |interface| shader_module(gpu, interface, checked)).await?;
        let make = |(kernel, interface, text): &(&Kernel, &Interface, usize)| pipeline(gpu, kernel, interface, &modules[*text]);
        let made = each(gpu, threads, "building pipelines", &wants, make).await?;
        wants.iter().zip(&made).for_each(|((kernel, interface, _), made)| gpu.pipelines().keep(content(kernel, interface), made));
        found.extend(keys.into_iter().zip(made));
        Ok(Pipelines(found))
    }

    /// # Panics
    /// For a kernel that was not passed to [`Pipelines::build`].
    pub fn of(&self, kernel: &Kernel, interface: &Interface) -> &Pipeline {
        self.0.get(&key(kernel, interface)).unwrap_or_else(|| panic!("no pipeline was built for `{}`", kernel.name()))
    }
}

/// Calls `make` on each item, in order and on this thread: a browser has no others.
#[cfg(target_arch = "wasm32")]
async fn each<T, R>(gpu: &Gpu, _threads: usize, what: &str, items: &[T], make: impl Fn(&T) -> R) -> Result<Vec<R>> {
    gpu.guarded(what, || items.iter().map(&make).collect()).await
}

/// Calls `make` on each item; the results are in order.
#[cfg(not(target_arch = "wasm32"))]
async fn each<T: Sync, R: Send>(gpu: &Gpu, threads: usize, what: &str, items: &[T], make: impl Fn(&T) -> R + Sync) -> Result<Vec<R>> {
    match threads.min(items.len()) {
        0 | 1 => gpu.guarded(what, || items.iter().map(&make).collect()).await,
        threads => in_parallel(gpu, threads, what, items, make),
    }
}

/// As [`each`], on several threads including this one. Error scopes belong to threads, so each thread has its own.
#[cfg(not(target_arch = "wasm32"))]
fn in_parallel<T: Sync, R: Send>(gpu: &Gpu, threads: usize, what: &str, items: &[T], make: impl Fn(&T) -> R + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < items.len());
        let make_all = || std::iter::from_fn(take).map(|index| (index, make(&items[index]))).collect::<Vec<_>>();
        // On native backends a popped error scope is ready at once: this does not block.
        pollster::block_on(gpu.guarded(what, make_all))
    };
    let made: Vec<Result<Vec<(usize, R)>>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        std::iter::once(own).chain(others.into_iter().map(|other| other.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))).collect()
    });
    let mut made: Vec<(usize, R)> = made.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    made.sort_by_key(|(index, _)| *index);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}

fn key(kernel: &Kernel, interface: &Interface) -> EntryKey {
    (kernel.entry(), Arc::as_ptr(&interface.module).addr())
}

fn pipeline(gpu: &Gpu, kernel: &Kernel, interface: &Interface, module: &wgpu::ShaderModule) -> Pipeline {
    let device = gpu.device();
    let layout = bind_group_layout(device, kernel, interface);
    let descriptor = wgpu::PipelineLayoutDescriptor { label: Some(kernel.name()), bind_group_layouts: &[Some(&layout)], immediate_size: 0 };
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.name()),
        layout: Some(&device.create_pipeline_layout(&descriptor)),
        module,
        entry_point: Some(kernel.entry()),
        // Every kernel writes workgroup memory before it reads it; the kernel tests poison that memory in a first run.
        compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
        cache: gpu.pipeline_cache(),
    });
    Pipeline { pipeline, layout }
}

/// The shader module of a variant, with or without wgpu's run-time checks.
#[allow(unsafe_code)]
fn shader_module(gpu: &Gpu, interface: &Interface, checked: bool) -> wgpu::ShaderModule {
    let label = Some(interface.module.label.as_str());
    let descriptor = wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(interface.module.text.as_str().into()) };
    if checked {
        return gpu.device().create_shader_module(descriptor);
    }
    // SAFETY: the text is this crate's own. Every kernel bounds its indices by `Dims` and its loops by 65,536; src/selftest runs each of
    // them unchecked between poisoned guard zones, at odd sizes, and compares with a checked run.
    unsafe { gpu.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

fn bind_group_layout(device: &wgpu::Device, kernel: &Kernel, interface: &Interface) -> wgpu::BindGroupLayout {
    let entry = |binding, access, has_dynamic_offset, size| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match access {
                Access::Uniform => wgpu::BufferBindingType::Uniform,
                Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                Access::Write | Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
            },
            has_dynamic_offset,
            min_binding_size: std::num::NonZeroU64::new(size),
        },
        count: None,
    };
    let mut entries = vec![entry(interface.dims_binding, Access::Uniform, true, interface.dims_size)];
    entries.extend(interface.bindings.iter().map(|b| entry(b.index, b.access, false, b.stride)));
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.name()), entries: &entries })
}
