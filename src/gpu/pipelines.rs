//! The pipelines of a plan: one for each kernel and variant that it uses.

use std::collections::HashMap;
use std::sync::Arc;

use super::Gpu;
use super::kernel::{Access, Interface, Kernel, Module};
use crate::error::Result;

/// A pipeline, with the layout its bind groups need.
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// By entry point, and by the text that it is an entry point of.
type Key = (&'static str, *const Module);

pub(crate) struct Pipelines(HashMap<Key, Pipeline>);

impl Pipelines {
    /// Makes what is wanted, each once.
    ///
    /// # Errors
    /// [`crate::error::Error::Device`] when the driver refuses a shader.
    pub async fn build<'a>(gpu: &Gpu, wanted: impl Iterator<Item = (&'a Kernel, &'a Interface)>, checked: bool) -> Result<Pipelines> {
        let mut made = HashMap::new();
        let make = || {
            for (kernel, interface) in wanted {
                made.entry(key(kernel, interface)).or_insert_with(|| pipeline(gpu, kernel, interface, checked));
            }
        };
        gpu.guarded("building pipelines", make).await?;
        Ok(Pipelines(made))
    }

    /// # Panics
    /// For a kernel that [`Pipelines::build`] was not asked for.
    pub fn of(&self, kernel: &Kernel, interface: &Interface) -> &Pipeline {
        self.0.get(&key(kernel, interface)).unwrap_or_else(|| panic!("no pipeline was built for `{}`", kernel.name()))
    }
}

fn key(kernel: &Kernel, interface: &Interface) -> Key {
    (kernel.entry(), Arc::as_ptr(&interface.module))
}

fn pipeline(gpu: &Gpu, kernel: &Kernel, interface: &Interface, checked: bool) -> Pipeline {
    let device = gpu.device();
    let module = shader_module(gpu, interface, checked);
    let layout = bind_group_layout(device, kernel, interface);
    let descriptor = wgpu::PipelineLayoutDescriptor { label: Some(kernel.name()), bind_group_layouts: &[Some(&layout)], immediate_size: 0 };
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.name()),
        layout: Some(&device.create_pipeline_layout(&descriptor)),
        module: &module,
        entry_point: Some(kernel.entry()),
        // Every kernel writes workgroup memory before it reads it; the kernel tests poison it through their first run.
        compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
        cache: None,
    });
    Pipeline { pipeline, layout }
}

/// The module of a variant, with or without wgpu's run-time checks.
#[allow(unsafe_code)]
fn shader_module(gpu: &Gpu, interface: &Interface, checked: bool) -> wgpu::ShaderModule {
    let label = Some(interface.module.label.as_str());
    let descriptor = wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(interface.module.text.as_str().into()) };
    if checked {
        return gpu.device().create_shader_module(descriptor);
    }
    // SAFETY: the text is this crate's own. Every kernel bounds its indices by `Dims` and its loops by 65,536; tests/kernels runs each
    // of them unchecked between poisoned guard zones, at odd sizes, and compares with a checked run.
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
