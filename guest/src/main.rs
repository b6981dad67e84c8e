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

use clap::Parser;
use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::{ElementState, KeyEvent, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop};
use winit::keyboard::{Key, NamedKey};
use winit::window::{Window, WindowId};

use guest::{Guest, is_of_device};

pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// How often training advances while the window is hidden.
const UNSEEN: Duration = Duration::from_millis(16);

/// A scene that spins while a language model trains in its device
#[derive(Debug, Parser)]
#[command(name = "guest", version, after_help = "Exit codes: 0 success, 1 failure, 2 usage error.")]
struct Args {
    /// End after this many frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Milliseconds of training in each frame; 0 only draws
    #[arg(long, value_name = "MS", default_value = "4", value_parser = milliseconds)]
    budget: Duration,
    /// Lose the device after this many frames, to see how training recovers
    #[arg(long, value_name = "N")]
    lose: Option<u64>,
    /// Save the last frame as PNG
    #[arg(long, value_name = "FILE.png")]
    screenshot: Option<PathBuf>,
}

fn milliseconds(text: &str) -> Result<Duration, &'static str> {
    let number = text.parse::<f64>().ok();
    number.and_then(|number| Duration::try_from_secs_f64(number / 1e3).ok()).ok_or("a number of milliseconds, 0 or more, is needed")
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

    /// Replaces the device if it was lost; returns every other error.
    fn recover_if_lost(&mut self, event_loop: &ActiveEventLoop, result: Result<()>) -> Result<()> {
        match (result, self.guest.take()) {
            (Err(error), Some(guest)) if is_of_device(&*error) => self.guest = Some(guest.recover(event_loop.owned_display_handle())?),
            (result, guest) => {
                self.guest = guest;
                return result;
            }
        }
        Ok(())
    }

    fn redraw(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        let Some(guest) = &mut self.guest else { return Ok(()) };
        if self.args.lose.is_some_and(|frames| guest.frames() >= frames) {
            self.args.lose = None;
            guest.lose();
        }
        let drawn = guest.frame();
        self.recover_if_lost(event_loop, drawn)?;
        let Some(guest) = &self.guest else { return Ok(()) };
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
            let trained = self.recover_if_lost(event_loop, trained);
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
    let mut app = App { args: Args::parse(), guest: None, occluded: false, failed: Ok(()) };
    EventLoop::new()?.run_app(&mut app)?;
    app.failed
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr is no error.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> clap::error::Result<Args> {
        Args::try_parse_from([&["guest"], words].concat())
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let args = parsed(&[]).unwrap();
        assert_eq!((args.frames, args.budget, args.screenshot), (None, Duration::from_millis(4), None));
        let args = parsed(&["--frames", "9", "--budget", "0.5", "--screenshot", "a.png"]).unwrap();
        assert_eq!((args.frames, args.budget, args.screenshot), (Some(9), Duration::from_micros(500), Some("a.png".into())));
    }

    #[test]
    fn an_error_names_the_option_the_value_and_what_is_needed() {
        for (words, said) in [
            (&["--budget=-1"][..], "invalid value '-1' for '--budget <MS>': a number of milliseconds, 0 or more, is needed"),
            (&["--budget", "nan"], "invalid value 'nan' for '--budget <MS>'"),
            (&["--frames", "many"], "invalid value 'many' for '--frames <N>'"),
            (&["--screenshot"], "a value is required for '--screenshot <FILE.png>'"),
            (&["--flag"], "unexpected argument '--flag' found"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.to_string().contains(said) && error.exit_code() == 2, "{words:?}: {error}");
        }
    }
}
