//! The heat map: a fragment shader reads the buffer that the engine writes attention to. Nothing is read back.

use std::sync::Arc;

use eframe::egui::{Align2, Pos2, Rect, Stroke, Vec2};
use eframe::egui_wgpu::{Callback, CallbackResources, CallbackTrait};
use eframe::{egui, wgpu};
use wgpt::View;

use crate::engine::Look;
use crate::open::UNMET;
use crate::style::{ACCENT, LINE, QUIET, TEXT, font};

/// Space on the right for the labels of the last rows.
const WORDS: f32 = 62.0;

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
    let place = corner.at * f32(SIDE);
    let cell = min(vec2<u32>(place), vec2(SIDE - 1u));
    let pixel = fwidth(place);
    if cell.x > cell.y {
        return vec4(0.067, 0.086, 0.118, 1.0); // ahead of the query: never looked at
    }
    // A pixel between cells, where they have pixels to spare.
    if max(pixel.x, pixel.y) < 0.15 && any(fract(place) < pixel) {
        return vec4(0.067, 0.086, 0.118, 1.0);
    }
    // Late rows spread their one over many keys: a root keeps them readable.
    return vec4(colour(pow(clamp(map[cell.y * SIDE + cell.x], 0.0, 1.0), 0.45)), 1.0);
}
";

/// The pipeline for one map.
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

/// Draws the map with its labels: one row per query token, labelled at the end of the row, and one column per key token.
pub fn show(ui: &egui::Ui, rect: Rect, heat: &Arc<Heat>, look: &Look, unit: &str) {
    let time = look.map.shape[0];
    let named = (rect.height().min(rect.width() - WORDS)) / time as f32 >= 6.0;
    let side = rect.height().min(if named { rect.width() - WORDS } else { rect.width() });
    // A whole number of pixels per cell, if cells are large enough.
    let side = if side > time as f32 * 4.0 { (side / time as f32).floor() * time as f32 } else { side };
    let square = Rect::from_min_size(rect.min.round(), Vec2::splat(side));
    let painter = ui.painter();
    painter.add(Callback::new_paint_callback(square, Paint(heat.clone())));
    let cell = side / time as f32;
    let pointer = ui.input(|input| input.pointer.hover_pos()).filter(|pointer| square.contains(*pointer));
    let hovered = pointer.map(|pointer| ((pointer - square.min) / cell).floor()).map(|at| (at.y as usize, at.x as usize));
    let hovered = hovered.filter(|(row, column)| column <= row && *row < look.words.len());
    if named {
        for (row, word) in look.words.iter().enumerate() {
            let colour = match hovered {
                Some((query, key)) if row == query || row == key => TEXT,
                _ if word == UNMET => LINE.lerp_to_gamma(QUIET, 0.4),
                _ => QUIET,
            };
            let at = square.min + Vec2::new((row + 1) as f32 * cell + 5.0, (row as f32 + 0.5) * cell);
            painter.text(at, Align2::LEFT_CENTER, word, font((cell - 2.0).clamp(9.0, 12.0)), colour);
        }
    }
    corner(painter, rect, look, hovered, unit);
    if let Some((row, column)) = hovered {
        let stroke = Stroke::new(1.0, ACCENT);
        let across = Rect::from_min_size(square.min + Vec2::new(0.0, row as f32 * cell), Vec2::new((row + 1) as f32 * cell, cell));
        let down = Rect::from_min_size(
            square.min + Vec2::new(column as f32, column as f32) * cell,
            Vec2::new(cell, (time - column) as f32 * cell),
        );
        painter.rect_stroke(across, 1.0, stroke, egui::StrokeKind::Outside);
        painter.rect_stroke(down, 1.0, stroke, egui::StrokeKind::Outside);
    }
}

/// The text in the empty half: how to read the map, or the tokens under the pointer.
fn corner(painter: &egui::Painter, rect: Rect, look: &Look, hovered: Option<(usize, usize)>, unit: &str) {
    let at = |line: f32| Pos2::new(rect.right(), rect.top() + 6.0 + line * 16.0);
    let say = |line: f32, text: &str, colour| _ = painter.text(at(line), Align2::RIGHT_CENTER, text, font(12.0), colour);
    match hovered {
        Some((query, key)) => {
            say(0.0, &format!("“{}”", look.words[query]), TEXT);
            say(1.0, "takes from", QUIET);
            say(2.0, &format!("“{}”", look.words[key]), TEXT);
        }
        None => {
            say(0.0, &format!("each {unit}, row by row, takes from"), QUIET);
            say(1.0, &format!("the {unit}s before it"), QUIET);
            let step = match look.shown {
                Some((at, step)) if at == look.at => format!("a sample of step {step}"),
                Some(_) => "with the next step".into(),
                None => "after the first step".into(),
            };
            say(2.0, &step, QUIET);
        }
    }
}
