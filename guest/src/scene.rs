//! The scene: a bar for each pair of characters, as high as the cosine between their embeddings, see `scene.wgsl`.

use bytemuck::{Pod, Zeroable};
use wgpt::{Gpu, View};
use wgpu::util::DeviceExt;

const DEPTH: wgpu::TextureFormat = wgpu::TextureFormat::Depth24Plus;
const BACKGROUND: wgpu::Color = wgpu::Color { r: 0.006, g: 0.008, b: 0.018, a: 1.0 };

/// The visible faces of a bar, by corner number (bit 0 is x, bit 1 up, bit 2 z): the top, and the two sides towards the eye.
const FACES: [u16; 18] = [2, 3, 6, 6, 3, 7, 1, 3, 5, 5, 3, 7, 4, 5, 6, 6, 5, 7];

/// Mirrors `Frame` in the shader.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Frame {
    angle: f32,
    aspect: f32,
    characters: u32,
    quads: u32,
}

/// The render targets, as large as the image.
struct Targets {
    size: [u32; 2],
    /// The multisampled target that is resolved into the image; `None` with one sample per pixel, which is drawn directly.
    colour: Option<wgpu::TextureView>,
    depth: wgpu::TextureView,
}

pub struct Scene {
    pipeline: wgpu::RenderPipeline,
    group: wgpu::BindGroup,
    uniform: wgpu::Buffer,
    faces: wgpu::Buffer,
    format: wgpu::TextureFormat,
    /// Samples per pixel.
    samples: u32,
    targets: Targets,
    frame: Frame,
}

impl Scene {
    /// `table` is the embedding table (V, C); `order` gives the token of each row of bars.
    pub fn new(gpu: &Gpu, format: wgpu::TextureFormat, table: &View, order: &[u32]) -> Scene {
        let device = gpu.device();
        // A software adapter pays for every sample.
        let samples = if gpu.info().device_type == wgpu::DeviceType::Cpu { 1 } else { 4 };
        let pipeline = pipeline(device, format, samples);
        let (characters, quads) = (order.len() as u32, table.shape[1] as u32 / 4);
        let frame = Frame { angle: 0.0, aspect: 1.0, characters, quads };
        let buffer =
            |contents: &[u8], usage| device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: Some("scene"), contents, usage });
        let uniform = buffer(bytemuck::bytes_of(&frame), wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        let faces = buffer(bytemuck::cast_slice(&FACES), wgpu::BufferUsages::INDEX);
        let order = buffer(bytemuck::cast_slice(order), wgpu::BufferUsages::STORAGE);
        // The trainer's own weight buffer: no copy, no read-back.
        let resources = [uniform.as_entire_binding(), table.binding(), order.as_entire_binding()];
        let entries: Vec<_> = (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some("scene"), layout: &layout, entries: &entries });
        Scene { pipeline, group, uniform, faces, format, samples, targets: targets(device, format, samples, [1, 1]), frame }
    }

    /// Draws into `view`, whose size in pixels is `size`.
    pub fn draw(&mut self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, view: &wgpu::TextureView, size: [u32; 2], angle: f32) {
        if size != self.targets.size {
            self.targets = targets(gpu.device(), self.format, self.samples, size);
        }
        self.frame = Frame { angle, aspect: size[0] as f32 / size[1] as f32, ..self.frame };
        gpu.queue().write_buffer(&self.uniform, 0, bytemuck::bytes_of(&self.frame));
        let Targets { colour, depth, .. } = &self.targets;
        let store = if colour.is_some() { wgpu::StoreOp::Discard } else { wgpu::StoreOp::Store };
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("scene"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: colour.as_ref().unwrap_or(view),
                depth_slice: None,
                resolve_target: colour.is_some().then_some(view),
                ops: wgpu::Operations { load: wgpu::LoadOp::Clear(BACKGROUND), store },
            })],
            depth_stencil_attachment: Some(wgpu::RenderPassDepthStencilAttachment {
                view: depth,
                depth_ops: Some(wgpu::Operations { load: wgpu::LoadOp::Clear(1.0), store: wgpu::StoreOp::Discard }),
                stencil_ops: None,
            }),
            ..wgpu::RenderPassDescriptor::default()
        });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.set_index_buffer(self.faces.slice(..), wgpu::IndexFormat::Uint16);
        pass.draw_indexed(0..FACES.len() as u32, 0, 0..self.frame.characters * self.frame.characters);
    }
}

fn pipeline(device: &wgpu::Device, format: wgpu::TextureFormat, samples: u32) -> wgpu::RenderPipeline {
    let module = device.create_shader_module(wgpu::include_wgsl!("scene.wgsl"));
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("scene"),
        layout: None,
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some("vertex"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers: &[],
        },
        primitive: wgpu::PrimitiveState::default(),
        depth_stencil: Some(wgpu::DepthStencilState {
            format: DEPTH,
            depth_write_enabled: Some(true),
            depth_compare: Some(wgpu::CompareFunction::Less),
            stencil: wgpu::StencilState::default(),
            bias: wgpu::DepthBiasState::default(),
        }),
        multisample: wgpu::MultisampleState { count: samples, ..wgpu::MultisampleState::default() },
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some("fragment"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &[Some(format.into())],
        }),
        multiview_mask: None,
        cache: None,
    })
}

fn targets(device: &wgpu::Device, format: wgpu::TextureFormat, samples: u32, size: [u32; 2]) -> Targets {
    let texture = |format| {
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("scene"),
            size: wgpu::Extent3d { width: size[0], height: size[1], depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: samples,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
            view_formats: &[],
        });
        texture.create_view(&wgpu::TextureViewDescriptor::default())
    };
    Targets { size, colour: (samples > 1).then(|| texture(format)), depth: texture(DEPTH) }
}
