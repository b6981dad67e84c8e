//! The advice in the library's errors, worded with the command line's options.

use std::path::Path;

use crate::error::{Advice, Error, more_text, shell_path, shell_word};

/// The message of an error, with advice that can be followed on the command line.
pub fn message(error: &Error) -> String {
    let (problem, advice) = error.without_advice();
    let at = if let Error::File { path, .. } = error { path.as_path() } else { Path::new("") };
    match advice {
        Some(advice) => problem + &options(&advice, at),
        None if matches!(error, Error::DeviceLost(_)) => problem + ": continue a run from its last checkpoint with --resume",
        None => problem,
    }
}

/// The advice of an error at this path.
fn options(advice: &Advice, path: &Path) -> String {
    let words = match advice {
        Advice::RunThere => "add --resume to continue it, --overwrite to replace it, or --next-free or --out to use another folder",
        Advice::UnmarkedRun => "continue it with --resume, remove it yourself, or name another folder with --out",
        Advice::OtherFolder => "name another folder with --out, or move that away",
        Advice::StartNew => "start it without --resume",
        Advice::NamedFolder => "name another folder with --out",
        Advice::TrainFirst => return format!("start one with `wgpt train --out {}`", shell_path(path)),
        Advice::OriginalData => "restore it, or start a new run with --init",
        Advice::ReadUnverified => return format!("to read it anyway: {}", unverified()),
        Advice::NameTokenizer => {
            "name the tokenizer that made them with --set tokenizer.path=FILE, a tokenizer.json as each checkpoint of a run has one"
        }
        Advice::ListAdapters => "see `wgpt devices`",
        Advice::MoreText { seq_len, unvalidated } => return more_text("--set", *seq_len, *unvalidated),
    };
    words.to_owned()
}

/// The command that reads a damaged file anyway: this command, with the option in front of its arguments.
fn unverified() -> String {
    let args: Vec<String> = std::env::args_os().skip(1).map(shell_word).collect();
    let command = format!("wgpt --no-verify {}", args.join(" "));
    // A command that contains a whole text is not repeated.
    if command.len() > 1000 { "the same command with --no-verify".to_owned() } else { command }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_of_the_library_becomes_options() {
        let of = |advice: Advice| message(&Error::file("runs/a b", "no such run: ").advised(advice));
        assert_eq!(of(Advice::TrainFirst), "runs/a b: no such run: start one with `wgpt train --out 'runs/a b'`");
        assert_eq!(of(Advice::StartNew), "runs/a b: no such run: start it without --resume");
        let short = Error::usage("too short: ").advised(Advice::MoreText { seq_len: Some(9), unvalidated: true });
        let words = "use more text, or set model.seq_len=9, or set data.val_fraction=0 to train without validation";
        assert_eq!(short.to_string(), format!("too short: {words}"));
        assert_eq!(message(&short), format!("too short: {}", words.replace("set ", "--set ")));
        assert!(message(&Error::DeviceLost("gone".into())).ends_with("with --resume"));
    }

    /// A user's words may be those of advice.
    #[test]
    fn a_users_words_stay() {
        for words in [Advice::RunThere.to_string(), Advice::StartNew.to_string(), "x, or set model.y".to_owned()] {
            let problem = format!("no such folder: {words}");
            assert_eq!(message(&Error::usage(problem.clone())), problem);
            assert_eq!(message(&Error::file("a, or set model.y", &words)), format!("a, or set model.y: {words}"));
        }
    }
}
