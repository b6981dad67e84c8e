//! The smallest window in which a model trains: winit, raw wgpu, and the `toy` preset in each frame's own encoder.
//!
//!     cargo run --release --package winit-example
//!
//! The window turns from red to green while the loss in its title falls. `guest/` is a full program: it draws the model's own weights,
//! trains while it is hidden, and measures its frames.

use std::sync::Arc;
use std::time::Duration;

use wgpt::{Budget, Corpus, Gpu, Options, Trainer, block_on, presets};
use wgpu::CurrentSurfaceTexture as Current;
use winit::application::ApplicationHandler;
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::window::{Window, WindowId};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Device time that training may take of a frame.
const BUDGET: Duration = Duration::from_millis(4);

struct Game {
    // Fields are dropped in this order: the surface before its instance and window.
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    instance: wgpu::Instance,
    window: Arc<Window>,
    gpu: Gpu,
    trainer: Trainer,
    corpus: Corpus,
    /// The latest loss as a part of a uniform guess's, 1 before the first step.
    part: f64,
}

impl Game {
    fn open(event_loop: &ActiveEventLoop) -> Result<Game> {
        let window = Arc::new(event_loop.create_window(Window::default_attributes().with_title("compiling"))?);
        let display = Box::new(event_loop.owned_display_handle());
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_with_display_handle(display).with_env());
        let surface = instance.create_surface(window.clone())?;
        let wanted = wgpu::RequestAdapterOptions { compatible_surface: Some(&surface), ..Default::default() };
        let adapter = pollster::block_on(instance.request_adapter(&wanted))?;
        // Neither feature is needed: timestamps make budgets accurate, subgroups make kernels faster.
        let required_features = adapter.features() & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP);
        let wanted = wgpu::DeviceDescriptor { required_features, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&wanted))?;
        let config = surface.get_default_config(&adapter, 1, 1).ok_or("the adapter cannot present to this window")?;

        let gpu = Gpu::from_wgpu(device, queue);
        gpu.device().set_device_lost_callback(gpu.on_lost());
        let mut run = presets::preset("toy")?;
        let (tokenizer, corpus) = Corpus::build(&run.data, &[presets::TOY_TEXT], &run.tokenizer, None)?;
        run.model = run.model.with_vocab(tokenizer.vocab_size())?;
        let trainer = block_on(&gpu, Trainer::new(&gpu, &run, &Options { fine: true, ..Options::default() }))?;

        let mut game = Game { surface, config, instance, window, gpu, trainer, corpus, part: 1.0 };
        game.resize();
        Ok(game)
    }

    /// Gives the surface the window's size, unless that is 0, as of a minimized window.
    fn resize(&mut self) {
        let (size, most) = (self.window.inner_size(), self.gpu.device().limits().max_texture_dimension_2d);
        if size.width > 0 && size.height > 0 {
            (self.config.width, self.config.height) = (size.width.min(most), size.height.min(most));
            self.surface.configure(self.gpu.device(), &self.config);
        }
    }

    /// The texture to draw to; `None` if this frame has none.
    fn acquire(&mut self) -> Result<Option<wgpu::SurfaceTexture>> {
        match self.surface.get_current_texture() {
            Current::Success(texture) | Current::Suboptimal(texture) => return Ok(Some(texture)),
            Current::Outdated => self.resize(),
            Current::Lost => {
                self.surface = self.instance.create_surface(self.window.clone())?;
                self.resize();
            }
            Current::Timeout | Current::Occluded | Current::Validation => {}
        }
        Ok(None)
    }

    /// One frame: a slice of training and the picture, in one encoder and one submit.
    fn frame(&mut self) -> Result<()> {
        let Some(target) = self.acquire()? else {
            // A hidden window has no display to wait for.
            std::thread::sleep(Duration::from_millis(16));
            return Ok(());
        };
        let view = target.texture.create_view(&wgpu::TextureViewDescriptor::default());
        let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let ticket = self.trainer.encode(&mut encoder, &self.corpus.train, Budget::time(BUDGET))?;
        self.draw(&mut encoder, &view);
        self.gpu.queue().submit([encoder.finish()]);
        ticket.submitted();
        self.window.pre_present_notify();
        self.gpu.queue().present(target);

        let guess = (self.trainer.config().model.vocab_size as f64).ln();
        while let Some(report) = self.trainer.poll()? {
            self.part = f64::from(report.loss) / guess;
            self.window.set_title(&format!("step {}: loss {:.3}", report.step, report.loss));
        }
        Ok(())
    }

    /// Clears the window with a colour from red to green.
    fn draw(&self, encoder: &mut wgpu::CommandEncoder, view: &wgpu::TextureView) {
        let part = self.part.clamp(0.0, 1.0);
        let colour = wgpu::Color { r: 0.6 * part, g: 0.5 * (1.0 - part), b: 0.1, a: 1.0 };
        let ops = wgpu::Operations { load: wgpu::LoadOp::Clear(colour), store: wgpu::StoreOp::Store };
        let attachment = wgpu::RenderPassColorAttachment { view, depth_slice: None, resolve_target: None, ops };
        let pass = wgpu::RenderPassDescriptor { color_attachments: &[Some(attachment)], ..Default::default() };
        drop(encoder.begin_render_pass(&pass));
    }
}

struct App {
    game: Option<Game>,
    failed: Result<()>,
}

impl App {
    /// Keeps the first error, which ends the program.
    fn end_if_failed(&mut self, event_loop: &ActiveEventLoop, result: Result<()>) {
        if result.is_err() {
            self.failed = result;
            event_loop.exit();
        }
    }
}

impl ApplicationHandler for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.game.is_none() {
            let opened = Game::open(event_loop).map(|game| self.game = Some(game));
            self.end_if_failed(event_loop, opened);
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(game) = &mut self.game else { return };
        match event {
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::Resized(_) => game.resize(),
            WindowEvent::RedrawRequested if self.failed.is_ok() => {
                let drawn = game.frame();
                self.end_if_failed(event_loop, drawn);
            }
            _ => {}
        }
    }

    fn about_to_wait(&mut self, _: &ActiveEventLoop) {
        self.game.iter().for_each(|game| game.window.request_redraw());
    }

    /// Drops the surface while the connection to the display is still open.
    fn exiting(&mut self, _: &ActiveEventLoop) {
        self.game = None;
    }
}

fn main() -> Result<()> {
    let mut app = App { game: None, failed: Ok(()) };
    EventLoop::new()?.run_app(&mut app)?;
    app.failed
}
