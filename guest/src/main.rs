//! A spinning scene in raw wgpu and winit; a language model trains on the same device, one slice in every frame.
//!
//! The part about the model is in `guest.rs`: it lends the device, creates a trainer, and encodes a slice into each frame's own encoder.
//! This file is the window.

mod canvas;
mod frame_times;
mod guest;
mod scene;
mod screenshot;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::{ElementState, KeyEvent, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop};
use winit::keyboard::{Key, NamedKey};
use winit::window::{Window, WindowId};

use guest::Guest;

pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const HELP: &str = "guest: a scene that spins while a language model trains in its device

  --frames N         end after N frames
  --budget MS        milliseconds of training in each frame (default 4; 0 draws alone)
  --screenshot FILE  write the last frame to a PNG file
";

/// How often training advances while the window is hidden.
const UNSEEN: Duration = Duration::from_millis(16);

pub struct Args {
    frames: Option<u64>,
    budget: Duration,
    screenshot: Option<PathBuf>,
}

impl Args {
    /// `None` if help was requested.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>> {
        let mut parsed = Args { frames: None, budget: Duration::from_millis(4), screenshot: None };
        while let Some(flag) = args.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            let value = args.next().ok_or_else(|| format!("{flag} is no flag or lacks its value; see --help"))?;
            let bad = |what: &str| format!("{flag} {value}: {what} is needed");
            match flag.as_str() {
                "--frames" => parsed.frames = Some(value.parse().map_err(|_| bad("a number of frames"))?),
                "--budget" => {
                    let milliseconds: f64 = value.parse().map_err(|_| bad("a number of milliseconds"))?;
                    parsed.budget = Duration::try_from_secs_f64(milliseconds / 1e3).map_err(|_| bad("a number of milliseconds"))?;
                }
                "--screenshot" => parsed.screenshot = Some(value.into()),
                _ => return Err(format!("there is no flag {flag}; see --help").into()),
            }
        }
        Ok(Some(parsed))
    }
}

/// Prints a line; a closed stdout is ignored.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

struct App {
    args: Args,
    guest: Option<Guest>,
    /// The window is hidden.
    occluded: bool,
    failed: Result<()>,
}

impl App {
    /// Keeps the first failure, which ends the program.
    fn end_if_failed(&mut self, event_loop: &ActiveEventLoop, result: Result<()>) {
        if result.is_err() && self.failed.is_ok() {
            self.failed = result;
        }
        if self.failed.is_err() {
            event_loop.exit();
        }
    }

    fn open(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        let attributes = Window::default_attributes().with_title("guest").with_inner_size(LogicalSize::new(960, 600));
        let window = Arc::new(event_loop.create_window(attributes)?);
        self.guest = Some(Guest::open(window, event_loop.owned_display_handle(), self.args.budget)?);
        Ok(())
    }

    fn redraw(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        let Some(guest) = &mut self.guest else { return Ok(()) };
        guest.frame()?;
        if self.args.frames.is_some_and(|frames| guest.frames() >= frames) {
            event_loop.exit();
        }
        Ok(())
    }
}

impl ApplicationHandler for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.guest.is_none() {
            let opened = self.open(event_loop);
            self.end_if_failed(event_loop, opened);
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::KeyboardInput {
                event: KeyEvent { logical_key: Key::Named(NamedKey::Escape), state: ElementState::Pressed, .. },
                ..
            } => event_loop.exit(),
            WindowEvent::Occluded(occluded) => self.occluded = occluded,
            WindowEvent::Resized(_) => {
                if let Some(guest) = &mut self.guest {
                    guest.resize();
                }
            }
            WindowEvent::RedrawRequested if self.failed.is_ok() => {
                let drawn = self.redraw(event_loop);
                self.end_if_failed(event_loop, drawn);
            }
            _ => {}
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let Some(guest) = &mut self.guest else { return };
        if self.occluded || guest.is_unseen() {
            let trained = guest.train_unseen();
            event_loop.set_control_flow(ControlFlow::WaitUntil(Instant::now() + UNSEEN));
            self.end_if_failed(event_loop, trained);
        } else {
            event_loop.set_control_flow(ControlFlow::Wait);
            guest.window().request_redraw();
        }
    }

    /// Drops the guest while the connection to the display is still open.
    fn exiting(&mut self, event_loop: &ActiveEventLoop) {
        if let Some(guest) = self.guest.take()
            && self.failed.is_ok()
        {
            let closed = guest.close(self.args.screenshot.as_deref());
            self.end_if_failed(event_loop, closed);
        }
    }
}

fn run() -> Result<()> {
    let Some(args) = Args::parse(std::env::args().skip(1))? else {
        say(HELP.trim_end());
        return Ok(());
    };
    let mut app = App { args, guest: None, occluded: false, failed: Ok(()) };
    EventLoop::new()?.run_app(&mut app)?;
    app.failed
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "guest: {error}");
            ExitCode::FAILURE
        }
    }
}
