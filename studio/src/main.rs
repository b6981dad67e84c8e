//! wgpt studio: a language model that trains on the device that draws this window.

mod app;
mod args;
mod ask;
mod attention;
mod chooser;
mod curve;
mod embedding;
mod engine;
mod failure;
mod folder;
mod kernels;
mod open;
mod plots;
mod prompt;
mod save;
mod style;
mod window;
mod writer;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

use app::App;
use args::Args;
use failure::Failure;

/// Set by Ctrl-C or a request of the system to end: the program saves first.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the program was asked to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The size that the cards need, in points; in a smaller window everything is scaled down.
const LEAST: [f32; 2] = [1120.0, 680.0];

/// Requests two more features than egui, if the adapter has them: timestamps, which make budgets accurate, and subgroups, without which a
/// software adapter is several times slower.
fn with_features(options: &mut eframe::NativeOptions) {
    if let eframe::egui_wgpu::WgpuSetup::CreateNew(setup) = &mut options.wgpu_options.wgpu_setup {
        let describe = setup.device_descriptor.clone();
        setup.device_descriptor = Arc::new(move |adapter| {
            let mut descriptor = describe(adapter);
            descriptor.required_features |= adapter.features() & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP);
            descriptor
        });
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let viewport = eframe::egui::ViewportBuilder::default()
        .with_title("wgpt studio")
        .with_inner_size(args.size)
        .with_min_inner_size(LEAST.map(|points| points / 2.0));
    let mut options = eframe::NativeOptions { viewport, ..Default::default() };
    with_features(&mut options);
    let failure = Failure::default();
    let handled = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    if let Err(e) = handled {
        failure.set(format!("Ctrl-C cannot be handled: {e}"));
        return failure.report();
    }
    let of_app = failure.clone();
    let run = within_panics(&failure, || {
        eframe::run_native("wgpt studio", options, Box::new(move |context| Ok(Box::new(App::new(context, args, of_app)?))))
    });
    match run {
        Ok(Ok(())) => {}
        Ok(Err(error)) => failure.set(error.to_string()),
        Err(panic) if !failure.is_set() => std::panic::resume_unwind(panic),
        Err(_) => {}
    }
    failure.report()
}

/// Runs the window, whose renderer panics when its device is lost: if that loss is the failure already, the panic message is suppressed.
fn within_panics<T>(failure: &Failure, run: impl FnOnce() -> T) -> std::thread::Result<T> {
    let (failure, usual) = (failure.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        if !failure.is_set() {
            usual(panic);
        }
    }));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
}
