//! The advice in the library's errors, worded with the command line's options.

use crate::error::{Error, shell_path, shell_word};
use crate::train::checkpoint::{OR_NEW_RUN, TRAIN_FIRST, UNVERIFIED};
use crate::train::folder::{NAME_ANOTHER, OR_MOVE, OR_REMOVE, OR_RESUME, START_NEW};

/// What the library says, and what the program says instead.
const OPTIONS: &[(&str, &str)] = &[
    (OR_RESUME, "add --resume to continue it, --overwrite to replace it, or --next-free or --out to use another folder"),
    (OR_REMOVE, "continue it with --resume instead of --overwrite, remove it yourself, or name another folder with --out"),
    (OR_MOVE, "name another folder with --out, or move that away"),
    (START_NEW, "start it without --resume"),
    (NAME_ANOTHER, "name another folder with --out"),
    (OR_NEW_RUN, "restore it, or start a new run with --init"),
    ("adapters, numbered from 0", "adapters, numbered from 0; see `wgpt devices`"),
];

/// The sections of a config, whose keys `--set` changes.
const SECTIONS: [&str; 4] = ["model", "train", "data", "tokenizer"];

/// The message of an error, with advice that can be followed on the command line.
pub fn message(error: &Error) -> String {
    let mut message = error.to_string();
    // Only advice of the library is replaced, not a user's words in front of it.
    for (library, program) in OPTIONS {
        if let Some(advice) = message.strip_suffix(library) {
            message = format!("{advice}{program}");
        }
    }
    for section in SECTIONS {
        message = message.replace(&format!(", or set {section}."), &format!(", or --set {section}."));
        message = message.replace(&format!(" them, set {section}."), &format!(" them with --set {section}."));
    }
    match error {
        Error::DeviceLost(_) => message + ": continue a run from its last checkpoint with --resume",
        Error::File { path, .. } => match (message.strip_suffix(TRAIN_FIRST), message.strip_suffix(UNVERIFIED)) {
            (Some(before), _) => format!("{before}start one with `wgpt train --out {}`", shell_path(path)),
            (_, Some(before)) => format!("{before}to read it anyway: {}", unverified()),
            _ => message,
        },
        _ => message,
    }
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
        let of = |problem: String| message(&Error::file("runs/a b", problem));
        assert_eq!(of(format!("no such run: {TRAIN_FIRST}")), "runs/a b: no such run: start one with `wgpt train --out 'runs/a b'`");
        assert_eq!(of(format!("no such run: {START_NEW}")), "runs/a b: no such run: start it without --resume");
        let short = Error::usage("use more text, or set model.seq_len=9, or set data.val_fraction=0 to train without validation");
        assert_eq!(message(&short), "use more text, or --set model.seq_len=9, or --set data.val_fraction=0 to train without validation");
        assert!(message(&Error::DeviceLost("gone".into())).ends_with("with --resume"));
    }

    #[test]
    fn a_users_words_stay() {
        let words = format!("no tokenizer called `{OR_RESUME}`, use word");
        assert_eq!(message(&Error::usage(words.clone())), words);
    }
}
