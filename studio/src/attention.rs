//! The heat map: a fragment shader over the buffer that the engine computes attention into. Nothing is read back.

use std::sync::Arc;

use eframe::egui_wgpu::{Callback, CallbackResources, CallbackTrait};
use eframe::{egui, wgpu};
use wgpt::model::view::View;

const SHADER: &str = "
@group(0) @binding(0) var<storage, read> map: array<f32>;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) at: vec2<f32>,
}

@vertex
fn vertex(@builtin(vertex_index) i: u32) -> Corner {
    let at = vec2(f32(i & 1u), f32(i >> 1u));
    return Corner(vec4(at.x * 2.0 - 1.0, 1.0 - at.y * 2.0, 0.0, 1.0), at);
}

// Dark blue over teal to a warm white, in even steps of lightness.
fn colour(x: f32) -> vec3<f32> {
    let low = mix(vec3(0.055, 0.075, 0.11), vec3(0.10, 0.33, 0.42), smoothstep(0.0, 0.35, x));
    let high = mix(vec3(0.25, 0.78, 0.72), vec3(1.0, 0.93, 0.78), smoothstep(0.6, 1.0, x));
    return mix(low, high, smoothstep(0.2, 0.75, x));
}

@fragment
fn fragment(corner: Corner) -> @location(0) vec4<f32> {
    let cell = min(vec2<u32>(corner.at * f32(SIDE)), vec2(SIDE - 1u));
    if cell.x > cell.y {
        return vec4(0.043, 0.055, 0.075, 1.0); // ahead of the query: never looked at
    }
    // Late rows spread their one over many keys: a root keeps them readable.
    return vec4(colour(pow(clamp(map[cell.y * SIDE + cell.x], 0.0, 1.0), 0.45)), 1.0);
}
";

/// A pipeline over one map.
pub struct Heat {
    pipeline: wgpu::RenderPipeline,
    group: wgpu::BindGroup,
}

impl Heat {
    pub fn new(device: &wgpu::Device, format: wgpu::TextureFormat, map: &View) -> Arc<Heat> {
        let source = SHADER.replace("SIDE", &format!("{}u", map.shape[0]));
        let module = device
            .create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("heat"), source: wgpu::ShaderSource::Wgsl(source.into()) });
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("heat"),
            layout: None,
            vertex: wgpu::VertexState { module: &module, entry_point: None, compilation_options: Default::default(), buffers: &[] },
            primitive: wgpu::PrimitiveState { topology: wgpu::PrimitiveTopology::TriangleStrip, ..Default::default() },
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: None,
                compilation_options: Default::default(),
                targets: &[Some(format.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        let entries = [wgpu::BindGroupEntry { binding: 0, resource: map.binding() }];
        let layout = pipeline.get_bind_group_layout(0);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some("heat"), layout: &layout, entries: &entries });
        Arc::new(Heat { pipeline, group })
    }
}

struct Paint(Arc<Heat>);

impl CallbackTrait for Paint {
    fn paint(&self, _info: egui::PaintCallbackInfo, pass: &mut wgpu::RenderPass<'static>, _resources: &CallbackResources) {
        pass.set_pipeline(&self.0.pipeline);
        pass.set_bind_group(0, &self.0.group, &[]);
        pass.draw(0..4, 0..1);
    }
}

/// Draws the map over a rectangle.
pub fn paint(ui: &egui::Ui, rect: egui::Rect, heat: &Arc<Heat>) {
    ui.painter().add(Callback::new_paint_callback(rect, Paint(heat.clone())));
}
