//! A host application in small: a bare device, a picture drawn each frame, passes of its own over lent tensors.

use std::sync::{Arc, Mutex, MutexGuard};

use wgpt::low_level::gpu::adapter;
use wgpt::{Gpu, Request, View};

/// A device as egui would open it: no features, `Limits::default()`.
pub async fn bare_device() -> Gpu {
    device_with(wgpu::Features::empty()).await
}

/// The same with some features.
pub async fn device_with(required_features: wgpu::Features) -> Gpu {
    let adapters = adapter::list(&Request::default()).await;
    let adapter = &adapters[adapter::choose(&adapters, &Request::default()).expect("tests need an adapter")];
    let opened = adapter.request_device(&wgpu::DeviceDescriptor { required_features, ..Default::default() }).await;
    let (device, queue) = opened.expect("the baseline limits");
    eprintln!("tests run on {} ({})", device.adapter_info().name, device.adapter_info().driver_info);
    Gpu::from_wgpu(device, queue)
}

/// Draws a triangle each frame.
pub struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::RenderPipeline,
    target: wgpu::TextureView,
    errors: Arc<Mutex<Vec<String>>>,
    /// Tests count waits and buffers of the whole process, so that there is one host at a time.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

const TRIANGLE: &str = "
@vertex fn vertex(@builtin(vertex_index) i: u32) -> @builtin(position) vec4<f32> {
    return vec4(f32(i & 1u) - 0.5, f32(i >> 1u) - 0.5, 0.0, 1.0);
}
@fragment fn fragment() -> @location(0) vec4<f32> { return vec4(0.2, 0.4, 0.6, 1.0); }";

/// A pixel for each element of a square matrix.
const MATRIX: &str = "
@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@vertex fn vertex(@builtin(vertex_index) i: u32) -> @builtin(position) vec4<f32> {
    return vec4(f32(i & 1u) * 4.0 - 1.0, f32(i >> 1u) * 4.0 - 1.0, 0.0, 1.0);
}
@fragment fn fragment(@builtin(position) at: vec4<f32>) -> @location(0) vec4<f32> {
    return vec4(matrix[u32(at.y) * SIDEu + u32(at.x)], 0.0, 0.0, 1.0);
}";

const SCALE: &str = "
@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@compute @workgroup_size(64) fn scale(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&values) { values[id.x] *= FACTOR; }
}";

impl Host {
    pub fn new(gpu: &Gpu) -> Host {
        let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
        let (device, queue) = (gpu.device().clone(), gpu.queue().clone());
        let errors = Arc::<Mutex<Vec<String>>>::default();
        let sink = errors.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| sink.lock().unwrap().push(error.to_string())));
        let pipeline = pipeline(&device, TRIANGLE, wgpu::TextureFormat::Rgba8Unorm);
        let target = texture(&device, 64, wgpu::TextureFormat::Rgba8Unorm).create_view(&wgpu::TextureViewDescriptor::default());
        Host { device, queue, pipeline, target, errors, _alone: alone }
    }

    pub fn draw(&self, encoder: &mut wgpu::CommandEncoder) {
        self.render(encoder, &self.pipeline, None, &self.target);
    }

    fn render(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        pipeline: &wgpu::RenderPipeline,
        group: Option<&wgpu::BindGroup>,
        view: &wgpu::TextureView,
    ) {
        let ops = wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::BLACK), store: wgpu::StoreOp::Store };
        let attachment = wgpu::RenderPassColorAttachment { view, depth_slice: None, resolve_target: None, ops };
        let descriptor = wgpu::RenderPassDescriptor { color_attachments: &[Some(attachment)], ..wgpu::RenderPassDescriptor::default() };
        let mut pass = encoder.begin_render_pass(&descriptor);
        pass.set_pipeline(pipeline);
        if let Some(group) = group {
            pass.set_bind_group(0, group, &[]);
        }
        pass.draw(0..3, 0..1);
    }

    /// Draws a square matrix, a pixel an element, and reads the picture back.
    pub fn picture(&self, view: &View) -> Vec<f32> {
        let side = *view.shape.last().unwrap();
        let pipeline = pipeline(&self.device, &MATRIX.replace("SIDE", &side.to_string()), wgpu::TextureFormat::R32Float);
        let group = self.group(&pipeline.get_bind_group_layout(0), view);
        let texture = texture(&self.device, side as u32, wgpu::TextureFormat::R32Float);
        let pitch = 256;
        let buffer = self.staging(u64::from(pitch) * side as u64);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.render(&mut encoder, &pipeline, Some(&group), &texture.create_view(&wgpu::TextureViewDescriptor::default()));
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(pitch), rows_per_image: None };
        let target = wgpu::TexelCopyBufferInfo { buffer: &buffer, layout };
        encoder.copy_texture_to_buffer(texture.as_image_copy(), target, texture.size());
        self.queue.submit([encoder.finish()]);
        let padded = self.mapped(&buffer);
        padded.chunks(pitch as usize / 4).flat_map(|row| row[..side].to_vec()).collect()
    }

    /// A tensor's values.
    pub fn read(&self, view: &View) -> Vec<f32> {
        let buffer = self.staging(view.bytes);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&view.buffer, view.offset, &buffer, 0, view.bytes);
        self.queue.submit([encoder.finish()]);
        let mut values = self.mapped(&buffer);
        values.truncate(view.shape.iter().product());
        values
    }

    /// A compute pass of the host's over a tensor of the model.
    pub fn scale(&self, view: &View, factor: f32) {
        let source = SCALE.replace("FACTOR", &format!("{factor:?}"));
        let module = module(&self.device, &source);
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let group = self.group(&pipeline.get_bind_group_layout(0), view);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(view.bytes.div_ceil(256) as u32, 1, 1);
        }
        self.queue.submit([encoder.finish()]);
    }

    fn group(&self, layout: &wgpu::BindGroupLayout, view: &View) -> wgpu::BindGroup {
        let entries = [wgpu::BindGroupEntry { binding: 0, resource: view.binding() }];
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
    }

    fn staging(&self, size: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }

    fn mapped(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
        buffer.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        bytemuck::pod_collect_to_vec(&buffer.get_mapped_range(..).unwrap())
    }

    /// What wgpu has found fault with, which then no longer counts.
    pub fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut self.errors.lock().unwrap())
    }

    /// Fails if wgpu has found fault with anything.
    pub fn check(&self) {
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let errors = self.errors.lock().unwrap();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

fn module(device: &wgpu::Device, source: &str) -> wgpu::ShaderModule {
    device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(source.into()) })
}

fn texture(device: &wgpu::Device, side: u32, format: wgpu::TextureFormat) -> wgpu::Texture {
    device.create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width: side, height: side, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
        view_formats: &[],
    })
}

fn pipeline(device: &wgpu::Device, source: &str, format: wgpu::TextureFormat) -> wgpu::RenderPipeline {
    let module = module(device, source);
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: None,
        layout: None,
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers: &[],
        },
        primitive: wgpu::PrimitiveState::default(),
        depth_stencil: None,
        multisample: wgpu::MultisampleState::default(),
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &[Some(format.into())],
        }),
        multiview_mask: None,
        cache: None,
    })
}
