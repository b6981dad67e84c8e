//! wgpt studio: a language model that learns inside the device that draws this window.
//!
//!     studio [RUN_FOLDER | PRESET] [--budget MS] [--steps N] [--screenshot FILE.png] [--size WxH]

mod app;
mod attention;
mod embedding;
mod engine;
mod kernels;
mod open;
mod panels;
mod style;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use app::App;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Args {
    /// A run's folder or a preset's name.
    pub what: Option<String>,
    /// Milliseconds of a frame that the model may take.
    pub budget: f32,
    /// Stop after so many steps of this window.
    pub steps: Option<u64>,
    /// Where the last frame is saved.
    pub screenshot: Option<PathBuf>,
    pub size: [f32; 2],
}

const USAGE: &str = "usage: studio [RUN_FOLDER | PRESET] [--budget MS] [--steps N] [--screenshot FILE.png] [--size WxH]";

fn parse(words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args { what: None, budget: 8.0, steps: None, screenshot: None, size: [1280.0, 800.0] };
    let mut words = words;
    while let Some(word) = words.next() {
        let mut value = |what: &str| words.next().ok_or(format!("{word} needs {what}\n{USAGE}"));
        match word.as_str() {
            "--help" | "-h" => return Err(USAGE.to_owned()),
            "--budget" => args.budget = number(&value("milliseconds")?, "--budget")?.clamp(0.5, 100.0),
            "--steps" => args.steps = Some(number(&value("a number of steps")?, "--steps")? as u64),
            "--screenshot" => args.screenshot = Some(value("a file")?.into()),
            "--size" => {
                let size = value("WIDTHxHEIGHT")?;
                let (width, height) = size.split_once('x').ok_or(format!("--size {size}: needs WIDTHxHEIGHT, say 1280x800"))?;
                args.size = [number(width, "--size")?.max(900.0), number(height, "--size")?.max(600.0)];
            }
            flag if flag.starts_with('-') => return Err(format!("there is no flag {flag}\n{USAGE}")),
            _ if args.what.is_none() => args.what = Some(word),
            _ => return Err(format!("{word}: one run folder or preset is enough\n{USAGE}")),
        }
    }
    Ok(args)
}

fn number(text: &str, flag: &str) -> Result<f32, String> {
    text.parse::<f32>().ok().filter(|number| number.is_finite() && *number >= 0.0).ok_or(format!("{flag} {text}: needs a number"))
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let viewport = eframe::egui::ViewportBuilder::default().with_title("wgpt studio").with_inner_size(args.size);
    let mut options = eframe::NativeOptions { viewport, ..Default::default() };
    // Nothing is asked of the device beyond what egui asks, but timestamps where there are any: budgets are then kept closely.
    if let eframe::egui_wgpu::WgpuSetup::CreateNew(setup) = &mut options.wgpu_options.wgpu_setup {
        setup.device_descriptor = Arc::new(|adapter| wgpu::DeviceDescriptor {
            label: Some("studio"),
            required_features: adapter.features() & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP),
            ..Default::default()
        });
    }
    let failure = Arc::<Mutex<Option<String>>>::default();
    let told = failure.clone();
    let run = eframe::run_native("wgpt studio", options, Box::new(move |context| Ok(Box::new(App::new(context, args, told)?))));
    let failed = failure.lock().ok().and_then(|mut failure| failure.take());
    match (run, failed) {
        (Ok(()), None) => ExitCode::SUCCESS,
        (Err(error), _) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        (_, Some(message)) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
