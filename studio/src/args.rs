//! The command line.

use std::path::PathBuf;

use clap::Parser;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::open;

/// Watch a language model learn, inside the device that draws the window
#[derive(Debug, Clone, Parser)]
#[command(name = "studio", version, after_help = after_help())]
pub struct Args {
    /// A folder with a run of `wgpt train`, a text file to train on, or a preset
    #[arg(value_name = "RUN_FOLDER | TEXT | PRESET", default_value = wgpt::presets::PRESETS[0].0)]
    #[arg(value_parser = PathBufValueParser::new().try_map(|what| open::check(&what).map(|_| what)))]
    pub what: PathBuf,
    /// Folder to save into, or DIR-2, DIR-3, ... if it is taken; with --steps, the run is saved after them
    /// [default: runs/NAME for a text or preset, beside an opened run]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Milliseconds of each frame that the model may use, 0.5 to 100
    #[arg(long, value_name = "MS", default_value = "8", value_parser = |text: &str| number(text, "milliseconds", [0.5, 100.0]))]
    pub budget: f32,
    /// End after this many steps in this window
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Save the last frame as PNG
    #[arg(long, value_name = "FILE.png", requires = "steps")]
    pub screenshot: Option<PathBuf>,
    /// Size of the window in points; below 1120x680 everything is drawn smaller
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1280x800", value_parser = size)]
    pub size: [f32; 2],
}

fn after_help() -> String {
    let width = wgpt::presets::PRESETS.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let presets: String = wgpt::presets::PRESETS.iter().map(|(name, about)| format!("\n  {name:width$}  {about}")).collect();
    format!("Presets:{presets}\n\nExit codes: 0 success, 1 failure, 2 usage error.")
}

/// A number within a range.
fn number(text: &str, what: &str, [least, most]: [f32; 2]) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or(format!("{what} from {least} to {most} are needed"))
}

fn size(text: &str) -> Result<[f32; 2], String> {
    let (width, height) = text.split_once('x').ok_or("WIDTHxHEIGHT is needed, as in 1280x800")?;
    Ok([number(width, "points of width", [400.0, 8192.0])?, number(height, "points of height", [240.0, 8192.0])?])
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::error::ErrorKind;

    use super::*;

    fn parsed(words: &[&str]) -> clap::error::Result<Args> {
        Args::try_parse_from([&["studio"], words].concat())
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let args = parsed(&[]).unwrap();
        assert_eq!((args.what, args.out, args.steps, args.screenshot), ("shakespeare-word".into(), None, None, None));
        assert_eq!((args.budget, args.size), (8.0, [1280.0, 800.0]));
        let args = parsed(&["toy", "--out", "a b", "--steps", "3", "--size", "1120x680", "--budget", "4.5"]).unwrap();
        assert_eq!((args.what, args.out, args.steps), ("toy".into(), Some("a b".into()), Some(3)));
        assert_eq!((args.budget, args.size), (4.5, [1120.0, 680.0]));
    }

    #[test]
    fn an_error_names_the_option_the_value_and_what_is_needed() {
        for (words, said) in [
            (&["--out", ""][..], "a value is required for '--out <DIR>'"),
            (&["--out"], "a value is required for '--out <DIR>'"),
            (&["--steps=-1"], "invalid value '-1' for '--steps <N>'"),
            (&["--budget", "0"], "invalid value '0' for '--budget <MS>': milliseconds from 0.5 to 100 are needed"),
            (&["--budget", "nan"], "invalid value 'nan' for '--budget <MS>': milliseconds from 0.5 to 100 are needed"),
            (&["--size", "5"], "invalid value '5' for '--size <WIDTHxHEIGHT>': WIDTHxHEIGHT is needed"),
            (&["--size", "500x9"], "points of height from 240 to 8192 are needed"),
            (&["--screenshot", "a.png"], "--steps <N>"),
            (&["nothing-here"], "nothing-here is neither a run's folder"),
            (&["--flag"], "unexpected argument '--flag' found"),
            (&["toy", "toy"], "unexpected argument 'toy' found"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.to_string().contains(said), "{words:?}: {error}");
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn help_names_every_preset_and_version_that_of_the_package() {
        let help = parsed(&["--help"]).unwrap_err();
        assert_eq!((help.kind(), help.exit_code()), (ErrorKind::DisplayHelp, 0));
        let text = help.to_string();
        assert!(wgpt::presets::PRESETS.iter().all(|(name, about)| text.contains(name) && text.contains(about)), "{text}");
        let version = parsed(&["--version"]).unwrap_err();
        assert_eq!(version.to_string().trim(), concat!("studio ", env!("CARGO_PKG_VERSION")));
    }

    #[cfg(unix)]
    #[test]
    fn paths_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(b"odd\xff".to_vec());
        let parsed = |words: [OsString; 3]| Args::try_parse_from([&["studio".into()], words.as_slice()].concat());
        assert_eq!(parsed(["toy".into(), "--out".into(), odd()]).unwrap().out, Some(odd().into()));
        let error = parsed([odd(), "--steps".into(), "1".into()]).unwrap_err();
        assert!(error.to_string().contains("is neither a run's folder"), "{error}");
        assert_eq!(parsed(["toy".into(), "--steps".into(), odd()]).unwrap_err().exit_code(), 2);
    }
}
