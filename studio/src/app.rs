//! The program: opens what was asked for behind a first picture, shows it, and ends with a picture if one was asked for.

use std::sync::{Arc, Mutex};

use eframe::egui::{self, Align2, Vec2};
use wgpt::gpu::Gpu;

use crate::engine::Engine;
use crate::style::{self, ACCENT, QUIET, TEXT, WARN, font};
use crate::window::{Asked, Window};
use crate::{Args, LEAST, Told};

pub struct App {
    args: Args,
    gpu: Gpu,
    format: wgpu::TextureFormat,
    stage: Stage,
    told: Told,
    /// The step at which the program ends.
    last: u64,
    picture: Picture,
}

enum Stage {
    /// So many pictures say that it is being opened.
    Opening(u32),
    Open(Box<Window>),
    Failed(String),
}

/// The last picture: asked for, and taken once it has come.
#[derive(Default)]
struct Picture {
    asked: bool,
    come: Arc<Mutex<Option<Arc<egui::ColorImage>>>>,
}

impl App {
    pub fn new(context: &eframe::CreationContext<'_>, args: Args, told: Told) -> Result<App, Box<dyn std::error::Error + Send + Sync>> {
        style::apply(&context.egui_ctx);
        let state = context.wgpu_render_state.as_ref().ok_or("this needs egui's wgpu renderer")?;
        let gpu = Gpu::from_wgpu(state.device.clone(), state.queue.clone());
        // The device is the window's: it is for the window to hear of its end, and to tell the engine.
        let (lost, telling, name) = (gpu.on_lost(), told.clone(), gpu.info().name.clone());
        state.device.set_device_lost_callback(move |reason, message| {
            let said = format!("the device {name} was lost ({message})");
            telling.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(said);
            lost(reason, message);
        });
        let failed = gpu.on_lost();
        state.device.on_uncaptured_error(Arc::new(move |error| {
            failed(wgpu::DeviceLostReason::Unknown, error.to_string().lines().next().unwrap_or_default().to_owned());
        }));
        let (format, stage) = (state.target_format, Stage::Opening(0));
        Ok(App { args, gpu, format, stage, told, last: u64::MAX, picture: Picture::default() })
    }

    /// Opens the engine once a picture has said so. This is the one place that waits for the device, beside "Measure".
    fn open(&mut self) {
        let opened = Engine::new(&self.gpu, &self.args.what);
        self.stage = match opened {
            Ok(mut engine) => {
                if let Some(steps) = self.args.steps {
                    self.last = engine.step + steps;
                    engine.last = self.last;
                }
                Stage::Open(Box::new(Window::new(engine, self.format, self.args.budget)))
            }
            Err(error) => {
                self.tell(error.to_string());
                Stage::Failed(error.to_string())
            }
        };
    }

    /// Keeps the first thing that went wrong for the end of the program.
    fn tell(&self, message: String) {
        self.told.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(message);
    }

    /// Ends the program after the steps that were asked for, with a picture if one was; at once when something went wrong on the way.
    fn finish(&mut self, ctx: &egui::Context) {
        if self.args.steps.is_none() {
            return;
        }
        let Stage::Open(window) = &mut self.stage else {
            if matches!(self.stage, Stage::Failed(_)) {
                ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            }
            return;
        };
        let half = window.engine.step >= self.last.saturating_sub(self.args.steps.unwrap_or(0) / 2);
        if self.args.screenshot.is_some() && half && !window.is_measured() {
            window.measure();
        }
        if window.error.is_none() && (window.engine.step < self.last || (self.args.screenshot.is_some() && !window.is_whole())) {
            return;
        }
        let Some(path) = &self.args.screenshot else { return ctx.send_viewport_cmd(egui::ViewportCommand::Close) };
        let come = self.picture.come.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(image) = come {
            if let Err(error) = save(path, &image) {
                self.tell(format!("{}: {error}", path.display()));
            }
            ctx.send_viewport_cmd(egui::ViewportCommand::Close);
        } else if !self.picture.asked {
            self.picture.asked = true;
            let come = self.picture.come.clone();
            ctx.request_screenshot(move |image| *come.lock().unwrap_or_else(|e| e.into_inner()) = Some(image));
        }
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        fit(ui.ctx());
        let all = ui.max_rect();
        ui.painter().rect_filled(all, 0.0, style::GROUND);
        let mut asked = Asked::Nothing;
        match &mut self.stage {
            Stage::Opening(pictures) => {
                message(ui, ACCENT, "wgpt studio", &format!("opening {}: compiling its kernels", self.args.what));
                *pictures += 1;
                if *pictures > 2 {
                    self.open();
                }
            }
            Stage::Open(window) => {
                asked = window.show(ui, all);
                if let Some(error) = window.error.clone() {
                    self.tell(error);
                }
            }
            Stage::Failed(error) => message(ui, WARN, "this cannot be opened", error),
        }
        if asked == Asked::Restart {
            // What is open goes first: both would need twice the memory.
            self.stage = Stage::Opening(0);
        }
        let ctx = ui.ctx().clone();
        self.finish(&ctx);
        ctx.request_repaint();
    }
}

/// Draws everything smaller where the window is smaller than its cards need: a window manager need not keep to the least size.
fn fit(ctx: &egui::Context) {
    let points = ctx.content_rect().size() * ctx.zoom_factor();
    let zoom = (points.x / LEAST[0]).min(points.y / LEAST[1]).clamp(0.2, 1.0);
    if (zoom - ctx.zoom_factor()).abs() > 0.01 {
        ctx.set_zoom_factor(zoom);
    }
}

/// A few words in the middle of the window.
fn message(ui: &egui::Ui, colour: egui::Color32, title: &str, text: &str) {
    let middle = ui.max_rect().center();
    let painter = ui.painter();
    painter.text(middle - Vec2::new(0.0, 40.0), Align2::CENTER_CENTER, title, font(30.0), colour);
    let galley = painter.layout(text.to_owned(), font(15.0), if colour == WARN { TEXT } else { QUIET }, ui.max_rect().width() * 0.6);
    painter.galley(middle - Vec2::new(galley.size().x / 2.0, 0.0), galley, TEXT);
}

/// Writes a picture as PNG.
fn save(path: &std::path::Path, image: &egui::ColorImage) -> Result<(), Box<dyn std::error::Error>> {
    let file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut encoder = png::Encoder::new(file, image.width() as u32, image.height() as u32);
    encoder.set_color(png::ColorType::Rgb);
    let rgb: Vec<u8> = image.pixels.iter().flat_map(|pixel| [pixel.r(), pixel.g(), pixel.b()]).collect();
    encoder.write_header()?.write_image_data(&rgb)?;
    Ok(())
}
