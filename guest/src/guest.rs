//! The model and the scene on one device.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wgpt::low_level::gpu::wait;
use wgpt::low_level::text::TokenStore;
use wgpt::low_level::train::config::Schedule;
use wgpt::{Budget, Corpus, DataConfig, Gpu, ModelConfig, Options, RunConfig, Tokenizer, TrainConfig, Trainer, block_on, presets};
use winit::event_loop::OwnedDisplayHandle;
use winit::window::Window;

use crate::canvas::Canvas;
use crate::frame_times::FrameTimes;
use crate::scene::Scene;
use crate::screenshot::Screenshot;
use crate::{Result, say};

/// Radians a second.
const TURN: f32 = 0.2;
/// Characters that the scene shows.
const ROWS: usize = 40;

pub struct Guest {
    trainer: Trainer,
    data: TokenStore,
    budget: Budget,
    /// The tokens that the scene shows.
    shown: Vec<u32>,
    scene: Scene,
    canvas: Canvas,
    window: Arc<Window>,
    gpu: Arc<Gpu>,
    /// The first error that reached the device's error handler.
    uncaught: Arc<Mutex<Option<String>>>,
    /// Whether the last frame had no surface to draw to.
    skipped: bool,
    times: FrameTimes,
    frames: u64,
    begun: Instant,
    progress: Progress,
    waits: u64,
}

/// The progress that is printed once a second.
struct Progress {
    since: Instant,
    losses: Vec<f32>,
    /// The last reported step, and the mean loss of the steps that were printed last.
    step: u64,
    loss: Option<f32>,
}

impl Progress {
    fn text(&mut self) -> String {
        if !self.losses.is_empty() {
            self.loss = Some(self.losses.iter().sum::<f32>() / self.losses.len() as f32);
            self.losses.clear();
        }
        self.loss.map_or("no step yet".into(), |loss| format!("step {}, loss {loss:.3}", self.step))
    }
}

impl Guest {
    pub fn open(window: Arc<Window>, display: OwnedDisplayHandle, budget: Duration) -> Result<Guest> {
        let (gpu, uncaught, canvas) = connect(&window, display)?;

        let (config, tokenizer, data) = lesson()?;
        let options = Options { fine: true, ..Options::default() };
        let trainer = block_on(&gpu, Trainer::new(&gpu, &config, &options))?;

        let shown = commonest(&tokenizer, &data)?;
        let scene = scene(&gpu, &canvas, &trainer, &shown)?;
        let refresh = window.current_monitor().and_then(|monitor| monitor.refresh_rate_millihertz());
        let refresh = refresh.filter(|&rate| rate > 0).map(|rate| Duration::from_secs_f64(1e3 / f64::from(rate)));
        let budget = if budget.is_zero() { Budget::dispatches(0) } else { Budget::time(budget) };
        Ok(Guest {
            trainer,
            data,
            budget,
            shown,
            scene,
            canvas,
            window,
            gpu,
            uncaught,
            skipped: false,
            times: FrameTimes::new(refresh),
            frames: 0,
            begun: Instant::now(),
            progress: Progress { since: Instant::now(), losses: vec![], step: 0, loss: None },
            waits: wait::waits(),
        })
    }

    /// Continues on another device, after an error for which [`is_of_device`] is true.
    pub fn recover(self, display: OwnedDisplayHandle) -> Result<Guest> {
        let Guest { mut trainer, data, budget, shown, scene: old, canvas, window, gpu, mut times, frames, begun, progress, waits, .. } =
            self;
        // A window has one surface, and only the trainer still holds the old device, which it drops.
        drop((old, canvas, gpu));
        let (before, (gpu, uncaught, canvas)) = (wait::waits(), connect(&window, display)?);
        block_on(&gpu, trainer.recover(&gpu))?;
        say(&format!("the device was lost: training continues from step {}", trainer.step_count()));
        let scene = scene(&gpu, &canvas, &trainer, &shown)?;
        times.interrupted();
        // Recovering may wait, drawing may not.
        let waits = waits + wait::waits() - before;
        let skipped = false;
        Ok(Guest { trainer, data, budget, shown, scene, canvas, window, gpu, uncaught, skipped, times, frames, begun, progress, waits })
    }

    /// Destroys the device, as a driver that is reset would.
    pub fn lose(&self) {
        self.gpu.device().destroy();
    }

    /// One frame: encodes a slice of training and the scene into one encoder and submits it.
    pub fn frame(&mut self) -> Result<()> {
        let Some(target) = self.canvas.acquire()? else {
            self.skipped = true;
            return self.check();
        };
        let view = target.texture.create_view(&wgpu::TextureViewDescriptor::default());
        let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());

        let ticket = self.trainer.encode(&mut encoder, &self.data, self.budget)?;
        self.scene.draw(&self.gpu, &mut encoder, &view, self.canvas.size(), self.angle());
        self.gpu.queue().submit([encoder.finish()]);
        ticket.submitted();

        self.window.pre_present_notify();
        self.gpu.queue().present(target);
        self.times.presented();
        self.frames += 1;
        self.take_reports()
    }

    /// Replaces a frame when there is nothing to draw to: submits the slice alone.
    pub fn train_unseen(&mut self) -> Result<()> {
        self.skipped = false;
        self.times.interrupted();
        self.trainer.advance(&self.data, self.budget)?;
        self.take_reports()
    }

    fn take_reports(&mut self) -> Result<()> {
        while let Some(report) = self.trainer.poll()? {
            self.progress.step = report.step;
            self.progress.losses.push(report.loss);
        }
        if self.progress.since.elapsed() >= Duration::from_secs(1) {
            self.tell();
        }
        self.check()
    }

    fn tell(&mut self) {
        let rate = self.progress.losses.len() as f64 / self.progress.since.elapsed().as_secs_f64();
        let (seconds, progress) = (self.begun.elapsed().as_secs_f64(), self.progress.text());
        say(&format!("{seconds:5.0} s  {progress} ({rate:.1} steps a second) | {}", self.times.second()));
        self.window.set_title(&format!("guest: {progress}"));
        self.progress.since = Instant::now();
    }

    /// Prints a summary and saves a screenshot, if requested.
    pub fn close(mut self, screenshot: Option<&Path>) -> Result<()> {
        let waits = wait::waits() - self.waits;
        say(&format!("{}; {waits} waits of the engine", self.times.all()));
        say(&format!("{} after {:.1} s", self.progress.text(), self.begun.elapsed().as_secs_f64()));
        if let Some(path) = screenshot {
            let picture = Screenshot::new(&self.gpu, self.canvas.format(), self.canvas.size());
            let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.scene.draw(&self.gpu, &mut encoder, &picture.view(), self.canvas.size(), self.angle());
            picture.save(&self.gpu, encoder, path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        self.check()
    }

    fn angle(&self) -> f32 {
        0.5 + TURN * self.begun.elapsed().as_secs_f32()
    }

    fn check(&self) -> Result<()> {
        self.gpu.check()?;
        let uncaught = self.uncaught.lock().unwrap_or_else(PoisonError::into_inner).take();
        uncaught.map_or(Ok(()), |message| Err(message.into()))
    }

    pub fn resize(&mut self) {
        self.canvas.resize();
    }

    pub fn is_unseen(&self) -> bool {
        self.skipped || self.canvas.is_hidden()
    }

    pub fn window(&self) -> &Window {
        &self.window
    }

    pub fn frames(&self) -> u64 {
        self.frames
    }
}

/// Whether an error says that another device is needed.
pub fn is_of_device(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(wgpt::Error::DeviceLost(_) | wgpt::Error::OutOfMemory(_)))
}

type Connected = (Arc<Gpu>, Arc<Mutex<Option<String>>>, Canvas);

/// Opens a device that can present to the window.
fn connect(window: &Arc<Window>, display: OwnedDisplayHandle) -> Result<Connected> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_with_display_handle(Box::new(display)).with_env());
    let surface = instance.create_surface(window.clone())?;
    let wanted = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        compatible_surface: Some(&surface),
        ..wgpu::RequestAdapterOptions::default()
    };
    let adapter = pollster::block_on(instance.request_adapter(&wanted))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features() & wgpu::Features::TIMESTAMP_QUERY,
        required_limits: wgpu::Limits::default(),
        ..wgpu::DeviceDescriptor::default()
    }))?;
    let gpu = Arc::new(Gpu::from_wgpu(device, queue));
    let uncaught = listen(&gpu);
    say(&format!("{}, {}", gpu.info().name, gpu.info().driver_info));
    let canvas = Canvas::new(instance, surface, &adapter, gpu.device(), window.clone())?;
    Ok((gpu, uncaught, canvas))
}

/// The scene of a trainer's embedding table.
fn scene(gpu: &Gpu, canvas: &Canvas, trainer: &Trainer, shown: &[u32]) -> Result<Scene> {
    let table = trainer.view("wte")?.swap_remove(0);
    Ok(Scene::new(gpu, canvas.format(), &table, shown))
}

/// Installs the host's own handlers: a lost device is reported to the engine, any other error is kept for the end of the frame.
fn listen(gpu: &Gpu) -> Arc<Mutex<Option<String>>> {
    gpu.device().set_device_lost_callback(gpu.on_lost());
    let uncaught = Arc::<Mutex<Option<String>>>::default();
    let sink = uncaught.clone();
    gpu.device().on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        sink.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
    }));
    uncaught
}

/// A character model of Shakespeare, small enough to learn while one watches.
fn lesson() -> Result<(RunConfig, Tokenizer, TokenStore)> {
    let preset = presets::preset("shakespeare-char")?;
    let mut config = RunConfig {
        model: ModelConfig { n_layer: 1, n_head: 2, d_model: 32, seq_len: 16, ..preset.model },
        train: TrainConfig { batch_size: 8, learning_rate: 5e-3, schedule: Schedule::Constant, warmup_steps: 30, ..preset.train },
        data: DataConfig { val_fraction: 0.0, ..preset.data },
        ..preset
    };
    let text = presets::embedded(&config.data.files).ok_or("the preset has no text")?;
    let (tokenizer, corpus) = Corpus::build(&config.data, &[text], &config.tokenizer, None)?;
    config.model = config.model.with_vocab(tokenizer.vocab_size())?;
    Ok((config, tokenizer, corpus.train))
}

/// The most frequent tokens of a text, ordered as punctuation, capitals, small letters, vowels first, so that tokens that should become
/// similar are neighbours.
fn commonest(tokenizer: &Tokenizer, data: &TokenStore) -> Result<Vec<u32>> {
    let mut counts = vec![0u64; tokenizer.vocab_size()];
    let mut text = vec![];
    data.window(0, data.len(), &mut text)?;
    text.iter().for_each(|&id| counts[id as usize] += 1);
    let mut ids: Vec<u32> = (0..counts.len() as u32).collect();
    ids.sort_by_key(|&id| Reverse(counts[id as usize]));
    ids.truncate(ROWS);
    let mut tokens = vec![];
    for id in ids {
        let token = tokenizer.token(id)?;
        let first = token.chars().next().unwrap_or('\0');
        let kind = (first.is_alphabetic(), first.is_lowercase(), first.is_alphabetic() && !"aeiouAEIOU".contains(first));
        tokens.push((kind, token, id));
    }
    tokens.sort();
    Ok(tokens.into_iter().map(|(_, _, id)| id).collect())
}
