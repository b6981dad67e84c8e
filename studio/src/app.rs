//! The program: shows that it is opening the model, then runs the window, and takes the screenshot before it ends if one was requested.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use eframe::egui::{self, Align2, Key, KeyboardShortcut, Modifiers, Vec2};
use wgpt::Gpu;

use crate::LEAST;
use crate::args::Args;
use crate::ask::{self, Answer};
use crate::chooser::Chooser;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::style::{self, ACCENT, QUIET, TEXT, WARN, font};
use crate::window::{Asked, Window};

pub struct App {
    args: Args,
    gpu: Gpu,
    format: wgpu::TextureFormat,
    stage: Stage,
    failure: Failure,
    /// The step at which the program ends.
    last: u64,
    picture: Picture,
    wish: Option<Wish>,
    /// The wish waits until a save is done.
    saving: bool,
    /// The window may close.
    closes: bool,
    chooser: Option<Chooser>,
    /// The save that was printed last.
    printed: Option<(u64, PathBuf)>,
}

/// A user's request that ends the current training; it is carried out once no steps would be lost against the user's will.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    Close,
    Restart,
    Open(PathBuf),
}

enum Stage {
    /// Number of frames that have shown the opening message.
    Opening(u32),
    Open(Box<Window>),
    Failed(String),
}

/// The final screenshot: whether it was requested, and the image once it has arrived.
#[derive(Default)]
struct Picture {
    asked: bool,
    come: Arc<Mutex<Option<Arc<egui::ColorImage>>>>,
}

impl App {
    pub fn new(
        context: &eframe::CreationContext<'_>,
        args: Args,
        failure: Failure,
    ) -> Result<App, Box<dyn std::error::Error + Send + Sync>> {
        style::apply(&context.egui_ctx);
        let state = context.wgpu_render_state.as_ref().ok_or("this needs egui's wgpu renderer")?;
        let gpu = Gpu::from_wgpu(state.device.clone(), state.queue.clone());
        // The window owns the device, so the window handles its loss and reports it to the engine.
        let (lost, of_device, name) = (gpu.on_lost(), failure.clone(), gpu.info().name.clone());
        state.device.set_device_lost_callback(move |reason, message| {
            of_device.set(format!("the device {name} was lost ({message})"));
            lost(reason, message);
        });
        let failed = gpu.on_lost();
        state.device.on_uncaptured_error(Arc::new(move |error| {
            failed(wgpu::DeviceLostReason::Unknown, error.to_string().lines().next().unwrap_or_default().to_owned());
        }));
        let (format, stage) = (state.target_format, Stage::Opening(0));
        let picture = Picture::default();
        let (wish, saving, closes, chooser, printed) = (None, false, false, None, None);
        Ok(App { args, gpu, format, stage, failure, last: u64::MAX, picture, wish, saving, closes, chooser, printed })
    }

    /// Opens the engine, after a frame has shown the opening message. Besides "Measure", only this blocks on the device.
    fn open(&mut self) {
        let opened = Engine::new(&self.gpu, &self.args.what, self.args.out.as_deref());
        self.stage = match opened {
            Ok(mut engine) => {
                if let Some(steps) = self.args.steps {
                    self.last = engine.step + steps;
                    engine.last = self.last;
                }
                Stage::Open(Box::new(Window::new(engine, self.format, self.args.budget)))
            }
            Err(error) => {
                self.failure.set_error(&error);
                Stage::Failed(error.to_string())
            }
        };
    }

    /// Ends the program after `--steps`, with a screenshot if one was requested; ends at once after an error.
    fn finish(&mut self, ctx: &egui::Context) {
        if self.args.steps.is_none() {
            return;
        }
        let Stage::Open(window) = &mut self.stage else {
            if matches!(self.stage, Stage::Failed(_)) {
                self.close(ctx);
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
        if self.args.out.is_some() && !kept(window) {
            return;
        }
        if let Some(Err(problem)) = &window.engine.saver.last {
            let problem = problem.clone();
            self.failure.set(problem);
            return self.close(ctx);
        }
        let Some(path) = &self.args.screenshot else { return self.close(ctx) };
        let come = self.picture.come.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(image) = come {
            if let Err(error) = save(path, &image) {
                self.failure.set(format!("{}: {error}", path.display()));
            }
            self.close(ctx);
        } else if !self.picture.asked {
            self.picture.asked = true;
            let come = self.picture.come.clone();
            ctx.request_screenshot(move |image| *come.lock().unwrap_or_else(|e| e.into_inner()) = Some(image));
        }
    }
}

/// Whether every step is saved or cannot be saved; starts a save if there are unsaved steps.
fn kept(window: &mut Window) -> bool {
    let saver = &mut window.engine.saver;
    if saver.is_resting() && saver.last.is_none() && window.error.is_none() && saver.unsaved(&window.engine.opened) > 0 {
        saver.ask();
    }
    saver.is_resting() || window.error.is_some() && !saver.is_writing()
}

impl App {
    fn close(&mut self, ctx: &egui::Context) {
        self.closes = true;
        ctx.send_viewport_cmd(egui::ViewportCommand::Close);
    }

    /// Handles requests from the keyboard, the window manager and the system.
    fn listen(&mut self, ctx: &egui::Context) {
        if ctx.input(|input| input.viewport().close_requested()) && !self.closes {
            ctx.send_viewport_cmd(egui::ViewportCommand::CancelClose);
            self.wish = Some(Wish::Close);
        }
        if crate::interrupted() && !self.closes && !(self.saving && self.wish == Some(Wish::Close)) {
            (self.wish, self.saving) = (Some(Wish::Close), true);
            self.save();
        }
        let pressed = |key| ctx.input_mut(|input| input.consume_shortcut(&KeyboardShortcut::new(Modifiers::COMMAND, key)));
        if pressed(Key::S) {
            self.save();
        }
        if pressed(Key::O) {
            self.chooser.get_or_insert_with(Chooser::new);
        }
        let dropped = ctx.input(|input| input.raw.dropped_files.first().map(|file| file.path().to_path_buf()));
        if let Some(path) = dropped {
            match crate::open::check(&path) {
                Ok(_) => self.wish = Some(Wish::Open(path)),
                Err(problem) => self.chooser.insert(Chooser::new()).refuse(problem),
            }
        }
    }

    /// Starts a save if there are unsaved steps.
    fn save(&mut self) {
        if let Stage::Open(window) = &mut self.stage
            && window.unsaved() > 0
        {
            window.engine.saver.ask();
        }
    }

    /// Shows the dialogs, and carries out the wish once no steps would be lost.
    fn settle(&mut self, ctx: &egui::Context) {
        self.print();
        if let Stage::Open(window) = &mut self.stage
            && let Some(Err(problem)) = &window.engine.saver.last
            && self.args.steps.is_none()
            && !crate::interrupted()
        {
            // A failed save cancels the wish that was waiting for it.
            (self.wish, self.saving) = (None, false);
            if ask::problem(ctx, "not saved", problem) {
                window.engine.saver.last = None;
            }
            return;
        }
        if let Some(chooser) = &mut self.chooser
            && let Some(chosen) = chooser.show(ctx)
        {
            self.chooser = None;
            self.wish = chosen.map(Wish::Open).or(self.wish.take());
        }
        if let Some(wish) = self.wish.clone()
            && self.may_go(ctx, &wish)
        {
            (self.wish, self.saving, self.chooser) = (None, false, None);
            self.go(ctx, wish);
        }
    }

    /// Whether the training may end: it is saved, or the user does not want that. Asks the user if necessary.
    fn may_go(&mut self, ctx: &egui::Context, wish: &Wish) -> bool {
        let Stage::Open(window) = &mut self.stage else { return true };
        // A script says with `--steps` and `--out` what to save.
        if self.args.steps.is_some() && !crate::interrupted() {
            return true;
        }
        if window.error.is_some() {
            return !window.engine.saver.is_writing();
        }
        // Pauses training: otherwise there would always be another unsaved step.
        window.engine.running &= !self.saving;
        if !window.engine.saver.is_resting() {
            return false;
        }
        let steps = window.unsaved();
        match &window.engine.saver.last {
            Some(Err(problem)) if self.saving => {
                let problem = problem.clone();
                self.failure.set(problem);
                return true;
            }
            _ if steps == 0 => return true,
            _ if self.saving => {
                window.engine.saver.ask();
                return false;
            }
            _ => {}
        }
        let before = match wish {
            Wish::Close => "when the window closes",
            Wish::Restart => "when it begins again",
            Wish::Open(_) => "when something else is opened",
        };
        match ask::unsaved(ctx, steps, before) {
            None => {}
            Some(Answer::Save) => {
                self.saving = true;
                window.engine.saver.ask();
            }
            Some(Answer::Discard) => return true,
            Some(Answer::Cancel) => self.wish = None,
        }
        false
    }

    fn go(&mut self, ctx: &egui::Context, wish: Wish) {
        match wish {
            Wish::Close => return self.close(ctx),
            Wish::Restart => {}
            Wish::Open(what) => {
                self.args.what = what;
                // Forgets the error of the run that could not be opened.
                if matches!(self.stage, Stage::Failed(_)) {
                    self.failure.clear();
                }
            }
        }
        // Drops the open engine first: both together would need twice the memory.
        self.stage = Stage::Opening(0);
    }

    /// Prints each save once, for users who started the program in a terminal.
    fn print(&mut self) {
        if let Stage::Open(window) = &self.stage
            && let Some(Ok(saved)) = &window.engine.saver.last
            && self.printed.as_ref() != Some(saved)
        {
            // A closed stdout is no error.
            let _ = writeln!(std::io::stdout(), "step {} is saved in {}", saved.0, saved.1.display());
            self.printed = Some(saved.clone());
        }
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        fit(ui.ctx());
        let ctx = ui.ctx().clone();
        self.listen(&ctx);
        let all = ui.max_rect();
        ui.painter().rect_filled(all, 0.0, style::GROUND);
        let mut asked = Asked::Nothing;
        match &mut self.stage {
            Stage::Opening(pictures) => {
                message(ui, ACCENT, "wgpt studio", &format!("opening {}: compiling its kernels", self.args.what.display()));
                *pictures += 1;
                if *pictures > 2 {
                    self.open();
                }
            }
            Stage::Open(window) => {
                asked = window.show(ui, all);
                if let Some(error) = window.error.clone() {
                    self.failure.set(error);
                }
            }
            Stage::Failed(error) => {
                message(ui, WARN, "this cannot be opened", error);
                let button = egui::Rect::from_center_size(all.center() + Vec2::new(0.0, 110.0), Vec2::new(140.0, 30.0));
                if ui.put(button, egui::Button::new("Open another")).clicked() {
                    asked = Asked::Open;
                }
            }
        }
        match asked {
            Asked::Nothing => {}
            Asked::Restart => self.wish = Some(Wish::Restart),
            Asked::Open => _ = self.chooser.get_or_insert_with(Chooser::new),
        }
        self.settle(&ctx);
        self.finish(&ctx);
        ctx.request_repaint();
    }
}

/// Scales everything down in a window that is smaller than the cards need: a window manager may ignore the minimum size.
fn fit(ctx: &egui::Context) {
    let points = ctx.content_rect().size() * ctx.zoom_factor();
    let zoom = (points.x / LEAST[0]).min(points.y / LEAST[1]).clamp(0.2, 1.0);
    if (zoom - ctx.zoom_factor()).abs() > 0.01 {
        ctx.set_zoom_factor(zoom);
    }
}

/// A short message in the middle of the window.
fn message(ui: &egui::Ui, colour: egui::Color32, title: &str, text: &str) {
    let middle = ui.max_rect().center();
    let painter = ui.painter();
    painter.text(middle - Vec2::new(0.0, 40.0), Align2::CENTER_CENTER, title, font(30.0), colour);
    let galley = painter.layout(text.to_owned(), font(15.0), if colour == WARN { TEXT } else { QUIET }, ui.max_rect().width() * 0.6);
    painter.galley(middle - Vec2::new(galley.size().x / 2.0, 0.0), galley, TEXT);
}

/// Writes an image as PNG.
fn save(path: &std::path::Path, image: &egui::ColorImage) -> Result<(), Box<dyn std::error::Error>> {
    let file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut encoder = png::Encoder::new(file, image.width() as u32, image.height() as u32);
    encoder.set_color(png::ColorType::Rgb);
    let rgb: Vec<u8> = image.pixels.iter().flat_map(|pixel| [pixel.r(), pixel.g(), pixel.b()]).collect();
    encoder.write_header()?.write_image_data(&rgb)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use eframe::egui::{Pos2, RawInput, Rect};
    use wgpt::Request;

    use super::*;

    /// A window manager may give the window any size, from one frame to the next. Nothing here renders, so this is the layout alone.
    #[test]
    fn the_window_may_have_any_size() {
        let gpu = pollster::block_on(Gpu::request(&Request::default())).unwrap();
        let engine = Engine::new(&gpu, "toy".as_ref(), None).unwrap();
        let mut window = Window::new(engine, wgpu::TextureFormat::Bgra8Unorm, 8.0);
        window.measure();
        let ctx = egui::Context::default();
        style::apply(&ctx);
        let mut chooser = Chooser::new();
        let sizes = [(1280, 800), (560, 340), (1, 1), (1120, 680), (400, 900), (3000, 240), (0, 300), (150, 100), (5000, 4000)];
        for (width, height) in sizes {
            let screen_rect = Some(Rect::from_min_size(Pos2::ZERO, Vec2::new(width as f32, height as f32)));
            let mut drawn = 0;
            // The zoom of a frame takes effect in the next.
            for _ in 0..3 {
                let screen_rect = screen_rect.map(|rect| rect / ctx.zoom_factor());
                let output = ctx.run_ui(RawInput { screen_rect, ..RawInput::default() }, |ui| {
                    fit(ui.ctx());
                    let all = ui.max_rect();
                    window.show(ui, all);
                    chooser.show(ui.ctx());
                });
                drawn = output.shapes.len();
            }
            let least = width as f32 >= LEAST[0] / 4.0 && height as f32 >= LEAST[1] / 4.0;
            assert!(window.error.is_none() && (!least || drawn > 100), "{width}x{height}: {drawn} shapes, {:?}", window.error);
        }
    }
}
