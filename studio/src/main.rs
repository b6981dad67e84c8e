//! wgpt studio: a language model that trains on the device that draws this window.
//!
//!     studio [RUN_FOLDER | PRESET] [--out DIR] [--budget MS] [--steps N] [--screenshot FILE.png] [--size WxH]

mod app;
mod ask;
mod attention;
mod curve;
mod embedding;
mod engine;
mod kernels;
mod open;
mod plots;
mod prompt;
mod save;
mod style;
mod window;
mod writer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use app::App;

/// The command line's settings.
#[derive(Debug, Clone)]
pub struct Args {
    /// A run's folder or a preset's name.
    pub what: PathBuf,
    /// Where it is saved, or beside that if taken; with `steps`, it is saved after them.
    pub out: Option<PathBuf>,
    /// Milliseconds of each frame that the model may use.
    pub budget: f32,
    /// End after this many steps in this window.
    pub steps: Option<u64>,
    /// Where the last frame is saved as PNG.
    pub screenshot: Option<PathBuf>,
    pub size: [f32; 2],
}

/// Set by Ctrl-C or a request of the system to end: the program saves first.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the program was asked to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The first error, to print when the program ends.
pub type Told = Arc<Mutex<Option<String>>>;

/// The size that the cards need, in points; in a smaller window everything is scaled down.
const LEAST: [f32; 2] = [1120.0, 680.0];

const USAGE: &str = "usage: studio [RUN_FOLDER | PRESET] [--out DIR] [--budget MS] [--steps N] [--screenshot FILE.png] [--size WxH]";

/// Paths may be any bytes; all other words must be UTF-8.
fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Args, String> {
    let (mut what, mut out, mut steps, mut screenshot, mut budget, mut size) = (None, None, None, None, 8.0, [1280.0, 800.0]);
    while let Some(word) = words.next() {
        let shown = word.display().to_string();
        let mut path = |needs: &str| {
            let given = words.next().filter(|word| !word.is_empty());
            given.map(PathBuf::from).ok_or(format!("{shown} needs {needs}\n{USAGE}"))
        };
        let text = |path: PathBuf| path.display().to_string();
        match shown.as_str() {
            "--budget" => budget = number(&text(path("milliseconds")?), "--budget")?.clamp(0.5, 100.0),
            "--out" => out = Some(path("a folder")?),
            "--steps" => {
                let count = text(path("a number of steps")?);
                steps = Some(count.parse().map_err(|_| format!("--steps {count}: needs a whole number"))?);
            }
            "--screenshot" => screenshot = Some(path("a file")?),
            "--size" => {
                let given = text(path("WIDTHxHEIGHT")?);
                let (width, height) = given.split_once('x').ok_or(format!("--size {given}: needs WIDTHxHEIGHT, say 1280x800"))?;
                size = [number(width, "--size")?.clamp(400.0, 8192.0), number(height, "--size")?.clamp(240.0, 8192.0)];
            }
            flag if flag.starts_with('-') => return Err(format!("there is no flag {flag}\n{USAGE}")),
            _ if what.is_none() => what = Some(PathBuf::from(word)),
            _ => return Err(format!("{shown}: one run folder or preset is enough\n{USAGE}")),
        }
    }
    let what = what.unwrap_or_else(|| wgpt::presets::PRESETS[0].0.into());
    open::check(&what)?;
    if screenshot.is_some() && steps.is_none() {
        return Err("--screenshot saves the last frame: it needs --steps N".into());
    }
    Ok(Args { what, out, budget, steps, screenshot, size })
}

fn number(text: &str, flag: &str) -> Result<f32, String> {
    text.parse::<f32>().ok().filter(|number| number.is_finite() && *number >= 0.0).ok_or(format!("{flag} {text}: needs a number"))
}

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
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let args = match parse(words.into_iter()) {
        Ok(args) => args,
        Err(message) => return failed(&message),
    };
    let viewport = eframe::egui::ViewportBuilder::default()
        .with_title("wgpt studio")
        .with_inner_size(args.size)
        .with_min_inner_size(LEAST.map(|points| points / 2.0));
    let mut options = eframe::NativeOptions { viewport, ..Default::default() };
    with_features(&mut options);
    let listens = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    if let Err(e) = listens {
        return failed(&format!("Ctrl-C cannot be listened to: {e}"));
    }
    let told = Told::default();
    let telling = told.clone();
    let run = within_panics(&told, || {
        eframe::run_native("wgpt studio", options, Box::new(move |context| Ok(Box::new(App::new(context, args, telling)?))))
    });
    let message = told.lock().unwrap_or_else(|e| e.into_inner()).take();
    match (message, run) {
        (Some(message), _) => failed(&message),
        (None, Ok(Err(error))) => failed(&error.to_string()),
        (None, Ok(Ok(()))) => ExitCode::SUCCESS,
        (None, Err(panic)) => std::panic::resume_unwind(panic),
    }
}

/// Runs the window, whose renderer panics when its device is lost: if that loss is already in `told`, the panic message is suppressed.
fn within_panics<T>(told: &Told, run: impl FnOnce() -> T) -> std::thread::Result<T> {
    let (told, usual) = (told.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        if told.try_lock().is_ok_and(|message| message.is_none()) {
            usual(panic);
        }
    }));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
}

fn failed(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Args, String> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn flags_say_what_they_need() {
        let args = parsed(&["toy", "--out", "a b", "--steps", "3", "--size", "1280x800", "--budget", "4"]).unwrap();
        assert_eq!((args.what, args.out, args.steps), ("toy".into(), Some("a b".into()), Some(3)));
        assert_eq!(parsed(&[]).unwrap().what, PathBuf::from("shakespeare-word"));
        for (words, said) in [
            (&["--out", ""][..], "--out needs a folder"),
            (&["--out"], "--out needs a folder"),
            (&["--steps", "-1"], "--steps -1: needs a whole number"),
            (&["--size", "5"], "--size 5: needs WIDTHxHEIGHT"),
            (&["--screenshot", "a.png"], "it needs --steps N"),
            (&["nothing-here"], "nothing-here is neither a folder with a run"),
            (&["--flag"], "there is no flag --flag"),
            (&["toy", "toy"], "one run folder or preset is enough"),
        ] {
            let problem = parsed(words).unwrap_err();
            assert!(problem.contains(said), "{words:?}: {problem}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn paths_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(b"odd\xff".to_vec());
        let args = parse(["toy".into(), "--out".into(), odd()].into_iter()).unwrap();
        assert_eq!(args.out, Some(odd().into()));
        assert!(parse([odd()].into_iter()).unwrap_err().contains("is neither a folder with a run"));
        assert!(parse(["--steps".into(), odd()].into_iter()).unwrap_err().contains("needs a whole number"));
    }
}
