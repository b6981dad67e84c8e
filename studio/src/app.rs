//! The window: one frame of the model, then its cards.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eframe::egui::{self, Pos2, Rect, RichText, Vec2};
use wgpt::gpu::Gpu;
use wgpt::train::AttentionAt;

use crate::attention::{self, Heat};
use crate::engine::Engine;
use crate::style::{ACCENT, GAP, HEADING, INSET, QUIET, WARM, card, figure, quiet};
use crate::{Args, kernels, panels, style};

/// Frames whose times are shown.
const FRAMES: usize = 180;

pub struct App {
    args: Args,
    gpu: Gpu,
    format: wgpu::TextureFormat,
    engine: Engine,
    heat: Arc<Heat>,
    running: bool,
    /// The step at which it pauses.
    last: u64,
    budget: f32,
    learning_rate: f64,
    kernels: Vec<(String, f32)>,
    frames: VecDeque<f32>,
    shares: VecDeque<f32>,
    began: Instant,
    /// What went wrong; the window stays to show it.
    error: Option<String>,
    /// For who started the program.
    told: Arc<Mutex<Option<String>>>,
    asked_for_picture: bool,
    /// The picture that was asked for, once it has come.
    picture: Arc<Mutex<Option<Arc<egui::ColorImage>>>>,
}

impl App {
    pub fn new(
        context: &eframe::CreationContext<'_>,
        args: Args,
        told: Arc<Mutex<Option<String>>>,
    ) -> Result<App, Box<dyn std::error::Error + Send + Sync>> {
        style::apply(&context.egui_ctx);
        let state = context.wgpu_render_state.as_ref().ok_or("this needs egui's wgpu renderer")?;
        let gpu = Gpu::from_wgpu(state.device.clone(), state.queue.clone());
        state.device.set_device_lost_callback(gpu.on_lost());
        let engine = Engine::new(&gpu, args.what.as_deref())?;
        let heat = Heat::new(&state.device, state.target_format, &engine.map);
        let last = args.steps.map_or(u64::MAX, |steps| engine.step + steps);
        Ok(App {
            format: state.target_format,
            learning_rate: engine.opened.config.train.learning_rate,
            budget: args.budget,
            args,
            gpu,
            engine,
            heat,
            running: true,
            last,
            kernels: vec![],
            frames: VecDeque::new(),
            shares: VecDeque::new(),
            began: Instant::now(),
            error: None,
            told,
            asked_for_picture: false,
            picture: Arc::default(),
        })
    }

    /// The model's share of this frame.
    fn work(&mut self) {
        let frame = self.began.elapsed().as_secs_f32() * 1e3;
        self.began = Instant::now();
        if self.error.is_none() {
            let budget = Duration::from_secs_f32(self.budget / 1e3);
            if let Err(error) = self.engine.frame(budget, self.running, self.last) {
                self.fail(&error);
            }
        }
        let share = self.engine.opened.trainer.session.runner.last_slice().map_or(0.0, |slice| slice.as_secs_f32() * 1e3);
        for (values, value) in [(&mut self.frames, frame), (&mut self.shares, share)] {
            values.push_back(value);
            if values.len() > FRAMES {
                values.pop_front();
            }
        }
    }

    fn fail(&mut self, error: &wgpt::Error) {
        self.error = Some(error.to_string());
        if let Ok(mut told) = self.told.lock() {
            *told = Some(error.to_string());
        }
    }

    /// Does something that may fail.
    fn try_to(&mut self, act: impl FnOnce(&mut App) -> wgpt::Result<()>) {
        if let Err(error) = act(self) {
            self.fail(&error);
        }
    }

    /// Begins anew with what is open.
    fn restart(&mut self) {
        self.try_to(|app| {
            app.engine = Engine::new(&app.gpu, app.args.what.as_deref())?;
            app.heat = Heat::new(app.gpu.device(), app.format, &app.engine.map);
            (app.running, app.error) = (true, None);
            Ok(())
        });
    }

    /// Ends the program after the steps that were asked for, with a picture if one was.
    fn finish(&mut self, ctx: &egui::Context) {
        let done = self.args.steps.is_some() && self.engine.step >= self.last || self.error.is_some() && self.args.steps.is_some();
        if !done {
            return;
        }
        let picture = self.picture.lock().unwrap_or_else(|e| e.into_inner()).take();
        match (&self.args.screenshot, picture) {
            (None, _) => ctx.send_viewport_cmd(egui::ViewportCommand::Close),
            (Some(path), Some(image)) => {
                if let Err(error) = save(path, &image) {
                    let message = format!("{}: {error}", path.display());
                    self.told.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(message);
                }
                ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            }
            (Some(_), None) if !self.asked_for_picture => {
                // Let what was learned last be written and asked first.
                if self.engine.question.answers.is_empty() && self.error.is_none() {
                    return;
                }
                self.asked_for_picture = true;
                if self.kernels.is_empty() && self.error.is_none() {
                    self.try_to(|app| {
                        app.kernels = kernels::measure(&mut app.engine)?;
                        Ok(())
                    });
                }
                let picture = self.picture.clone();
                ctx.request_screenshot(move |image| *picture.lock().unwrap_or_else(|e| e.into_inner()) = Some(image));
            }
            (Some(_), None) => {}
        }
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.work();
        let all = ui.max_rect();
        ui.painter().rect_filled(all, 0.0, style::GROUND);
        let area = all.shrink(GAP);
        let (top, rest) = split_y(area, 58.0);
        self.header(ui, top);
        let (left, rest) = split_x(rest, (area.width() * 0.33).max(300.0));
        let middle_width = (rest.height() - 2.0 * INSET - HEADING - 34.0).min(rest.width() * 0.56) + 2.0 * INSET;
        let (middle, right) = split_x(rest, middle_width.min(rest.width() - 290.0));
        self.left(ui, left);
        self.middle(ui, middle);
        self.right(ui, right);
        if let Some(error) = &self.error {
            let rect = Rect::from_center_size(all.center(), Vec2::new(all.width() * 0.6, 110.0));
            card(
                ui,
                rect,
                "stopped",
                |_| (),
                |ui, _| {
                    ui.label(RichText::new(error).color(WARM));
                },
            );
        }
        let ctx = ui.ctx().clone();
        self.finish(&ctx);
        ctx.request_repaint();
    }
}

impl App {
    fn header(&mut self, ui: &mut egui::Ui, rect: Rect) {
        let engine = &self.engine;
        let number = |value: u64| if value > 9999 { format!("{},{:03}", value / 1000, value % 1000) } else { value.to_string() };
        let builder =
            egui::UiBuilder::new().max_rect(rect.shrink2(Vec2::new(4.0, 4.0))).layout(egui::Layout::left_to_right(egui::Align::Min));
        ui.scope_builder(builder, |ui| {
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                ui.label(RichText::new("wgpt studio").size(21.0).strong().color(ACCENT));
                let model = &engine.opened.config.model;
                ui.label(quiet(format!("{} · {} layers of {}, {} heads", engine.opened.name, model.n_layer, model.d_model, model.n_head)));
            });
            ui.add_space(36.0);
            figure(ui, &number(engine.step), "step");
            figure(ui, &engine.loss().map_or("–".into(), |loss| format!("{loss:.3}")), "loss, nats");
            figure(ui, &number(engine.tokens_per_second as u64), "tokens a second");
            let frame = mean(&self.frames);
            figure(ui, &format!("{frame:.1} ms"), "a frame");
        });
        let builder = egui::UiBuilder::new().max_rect(rect.shrink(8.0)).layout(egui::Layout::right_to_left(egui::Align::Center));
        ui.scope_builder(builder, |ui| {
            if ui.button("Restart").clicked() {
                self.restart();
            }
            if ui.button("One step").clicked() {
                (self.running, self.last) = (true, self.engine.opened.trainer.step_count() + 1);
            }
            let paused = !self.running || self.engine.opened.trainer.step_count() >= self.last;
            if ui.button(if paused { "Go on" } else { "Pause" }).clicked() {
                self.running = paused;
                self.last = u64::MAX;
            }
            ui.add_space(8.0);
            ui.label(quiet(self.gpu.info().name.clone()));
        });
    }

    fn left(&mut self, ui: &mut egui::Ui, rect: Rect) {
        let (top, rest) = split_y(rect, rect.height() * 0.38);
        let (middle, bottom) = split_y(rest, rest.height() * 0.52);
        card(ui, top, "loss", |_| (), |ui, _| panels::losses(ui, &self.engine));
        let (frames, shares): (Vec<f32>, Vec<f32>) = (self.frames.iter().copied().collect(), self.shares.iter().copied().collect());
        let mut budget = self.budget;
        let legend = |ui: &mut egui::Ui| {
            ui.label(quiet("budget").color(WARM));
            ui.label(quiet("model").color(ACCENT));
            ui.label(quiet("frame"));
        };
        card(ui, middle, "milliseconds", legend, |ui, body| {
            let (plot, slider) = split_y(body, body.height() - 30.0);
            ui.scope_builder(egui::UiBuilder::new().max_rect(plot), |ui| panels::frame_times(ui, &frames, &shares, budget));
            ui.scope_builder(egui::UiBuilder::new().max_rect(slider), |ui| {
                ui.add(egui::Slider::new(&mut budget, 0.5..=40.0).logarithmic(true).suffix(" ms").text(quiet("for the model")));
            });
        });
        self.budget = budget;
        let (mut measure, mut rate) = (false, self.learning_rate);
        let button =
            |ui: &mut egui::Ui| measure = ui.small_button("Measure").on_hover_text("waits for a step, dispatch by dispatch").clicked();
        card(ui, bottom, "kernels of a step", button, |ui, body| {
            let (bars, slider) = split_y(body, body.height() - 30.0);
            if self.kernels.is_empty() {
                ui.label(quiet("“Measure” times every dispatch of one step; the picture stands still meanwhile."));
            }
            panels::kernels(ui, bars, &self.kernels);
            ui.scope_builder(egui::UiBuilder::new().max_rect(slider), |ui| {
                let slider = egui::Slider::new(&mut rate, 1e-5..=2e-2).logarithmic(true).custom_formatter(|rate, _| format!("{rate:.1e}"));
                ui.add(slider.text(quiet("learning rate")));
            });
        });
        if measure {
            self.try_to(|app| {
                app.kernels = kernels::measure(&mut app.engine)?;
                Ok(())
            });
        }
        if rate != self.learning_rate {
            self.learning_rate = rate;
            self.try_to(|app| app.engine.opened.trainer.set_learning_rate(rate));
        }
    }

    fn middle(&mut self, ui: &mut egui::Ui, rect: Rect) {
        let model = &self.engine.opened.config.model;
        let (layers, heads, samples) = (model.n_layer, model.n_head, self.engine.opened.config.train.batch_size);
        let mut at = self.engine.at;
        let pickers = |ui: &mut egui::Ui| {
            pick(ui, "sample", &mut at.sample, samples);
            pick(ui, "head", &mut at.head, heads);
            pick(ui, "layer", &mut at.layer, layers);
        };
        let side = (rect.width() - 2.0 * INSET).min(rect.height() - 2.0 * INSET - HEADING - 24.0);
        let (map, below) = split_y(rect, side + 2.0 * INSET + HEADING + 20.0);
        card(ui, map, "attention", pickers, |ui, body| {
            let square = Rect::from_min_size(body.min, Vec2::splat(side));
            attention::paint(ui, square, &self.heat);
            let note = "rows: queries, columns: keys · drawn from the buffer it is computed in";
            ui.painter().text(Pos2::new(body.left(), square.bottom() + 12.0), egui::Align2::LEFT_CENTER, note, style::small(), QUIET);
        });
        if below.height() > 70.0 {
            card(ui, below, "it writes", |_| (), |ui, _| panels::text(ui, &self.engine));
        }
        self.show(at);
    }

    fn show(&mut self, at: AttentionAt) {
        self.try_to(|app| app.engine.show(at));
    }

    fn right(&mut self, ui: &mut egui::Ui, rect: Rect) {
        let (top, bottom) = split_y(rect, rect.height() * 0.58);
        card(ui, top, "embedding of tokens, two main directions", |_| (), |ui, body| panels::embedding(ui, body, &self.engine));
        card(ui, bottom, "next token", |_| (), |ui, body| panels::answers(ui, body, &mut self.engine));
    }
}

fn pick(ui: &mut egui::Ui, what: &str, chosen: &mut usize, count: usize) {
    let drag = egui::DragValue::new(chosen).range(0..=count.saturating_sub(1)).speed(0.05);
    ui.add_enabled(count > 1, drag);
    ui.label(quiet(what));
}

fn split_y(rect: Rect, height: f32) -> (Rect, Rect) {
    let y = (rect.top() + height).min(rect.bottom());
    (Rect::from_min_max(rect.min, Pos2::new(rect.right(), y)), Rect::from_min_max(Pos2::new(rect.left(), y + GAP), rect.max))
}

fn split_x(rect: Rect, width: f32) -> (Rect, Rect) {
    let x = (rect.left() + width).min(rect.right());
    (Rect::from_min_max(rect.min, Pos2::new(x, rect.bottom())), Rect::from_min_max(Pos2::new(x + GAP, rect.top()), rect.max))
}

fn mean(values: &VecDeque<f32>) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
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
