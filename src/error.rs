//! The one public error type: what failed, which tensor, kernel, file or setting, and what to do about it.

use std::borrow::Cow;
#[cfg(feature = "files")]
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a call failed. Every message is one line and names what was found and what is needed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something invalid: a config key, a size, a token id.
    #[error("{0}")]
    Usage(Message),
    /// A file or folder is missing, unreadable, unwritable, truncated or not of the expected kind.
    #[error("{}: {problem}", shown_path(path))]
    File {
        /// The file or folder that the call needed.
        path: PathBuf,
        /// What is wrong: a clause that follows the path and a colon.
        problem: Message,
    },
    /// The model needs more than the adapter allows; this is checked before anything is allocated.
    #[error("{what} needs {needed}, this adapter allows {allowed}: {advice}")]
    Limit {
        /// What is too large, with its name: a buffer, a binding, a batch.
        what: String,
        /// The size that it needs, as text: `1.5 GiB`.
        needed: String,
        /// The largest size that is possible, in the same form.
        allowed: String,
        /// What to change, as a clause that follows a colon.
        advice: String,
    },
    /// No adapter, or none that fits the request.
    #[error("{0}")]
    Adapter(String),
    /// The device was lost: every later call on it returns this error. Open another device; [`Trainer::recover`](crate::Trainer::recover)
    /// continues there.
    #[error("{0}")]
    DeviceLost(String),
    /// The driver had no memory for an allocation; earlier allocations are intact.
    #[error("{0}")]
    OutOfMemory(String),
    /// The driver refused a command or a shader, or a call of the system failed.
    #[error("{0}")]
    Device(String),
    /// A loss or a gradient is not a finite number; that update was not applied, and no checkpoint contains it.
    #[error("{0}")]
    Diverged(String),
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Usage`] with this message.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::Usage(Message { text: message.into(), advice: None })
    }

    /// An [`Error::File`]; `problem` is a clause that follows the path and a colon.
    pub fn file(path: impl Into<PathBuf>, problem: impl ToString) -> Error {
        Error::File { path: path.into(), problem: Message { text: problem.to_string(), advice: None } }
    }

    /// Ends the message of a usage or file error with advice, which follows what the message ends in, such as a colon.
    pub(crate) fn advised(mut self, advice: Advice) -> Error {
        if let Error::Usage(message) | Error::File { problem: message, .. } = &mut self {
            message.advice = Some(advice);
        }
        self
    }

    /// The message without the advice at its end, and the advice.
    #[cfg(feature = "cli")]
    pub(crate) fn without_advice(&self) -> (String, Option<Advice>) {
        let mut plain = self.clone();
        let advice = match &mut plain {
            Error::Usage(message) | Error::File { problem: message, .. } => message.advice.take(),
            _ => None,
        };
        (plain.to_string(), advice)
    }
}

/// The message of an error. `to_string` has all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    text: String,
    advice: Option<Advice>,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.advice.as_ref().map_or(Ok(()), |advice| advice.fmt(f))
    }
}

/// What to do about an error, as the library says it. The command line says it with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "files"), allow(dead_code))] // most of it is about files
pub(crate) enum Advice {
    /// The folder holds a run.
    RunThere,
    /// The folder holds a run without a marker, which is not replaced.
    UnmarkedRun,
    /// The folder holds something else.
    OtherFolder,
    /// The folder holds nothing to resume.
    StartNew,
    /// The path has no name to append to.
    NamedFolder,
    /// The folder holds no run.
    TrainFirst,
    /// The run's data has changed.
    OriginalData,
    /// The file does not match its checksum.
    ReadUnverified,
    /// Token ids without the tokenizer that made them.
    NameTokenizer,
    /// A text too short for the windows of a model.
    MoreText {
        /// The longest windows that fit, if any do.
        seq_len: Option<usize>,
        /// Whether the text is long enough without a validation split.
        unvalidated: bool,
    },
    /// No adapter has this index.
    ListAdapters,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Advice::RunThere => "resume it, overwrite it, or use another folder",
            Advice::UnmarkedRun => "resume it, remove it yourself, or use another folder",
            Advice::OtherFolder => "use another folder, or move that away",
            Advice::StartNew => "start a new run in it",
            Advice::NamedFolder => "use a folder that has one",
            Advice::TrainFirst => "train one in this folder first",
            Advice::OriginalData => "restore it, or start a new run from its weights",
            Advice::ReadUnverified => "it can be read unverified",
            Advice::NameTokenizer => {
                "set tokenizer.path to the file of the tokenizer that made them, such as a checkpoint's tokenizer.json"
            }
            Advice::ListAdapters => "use one of them",
            Advice::MoreText { seq_len, unvalidated } => {
                return f.write_str(&more_text("set", *seq_len, *unvalidated));
            }
        };
        f.write_str(words)
    }
}

/// The words of [`Advice::MoreText`], with the word that sets a key.
pub(crate) fn more_text(set: &str, seq_len: Option<usize>, unvalidated: bool) -> String {
    let shorter = seq_len.map_or(String::new(), |seq_len| format!(", or {set} model.seq_len={seq_len}"));
    let without = if unvalidated { format!(", or {set} data.val_fraction=0 to train without validation") } else { String::new() };
    format!("use more text{shorter}{without}")
}

/// How many characters of a user's value a message quotes.
const EXCERPT: usize = 80;
/// The longest path that is shown whole: no system opens a longer one.
const LONGEST_PATH: usize = 4096;
/// How many characters of a parser's message are shown.
const LONGEST_PROBLEM: usize = 300;

/// A user's value as a message quotes it: control characters are escaped, and `…` replaces everything after 80 characters.
pub fn excerpt(value: &str) -> Cow<'_, str> {
    let whole = value.char_indices().nth(EXCERPT).is_none();
    if whole && !value.contains(char::is_control) {
        return value.into();
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let beginning: String = value.chars().take(EXCERPT).map(shown).collect();
    if whole { beginning.into() } else { format!("{beginning}…").into() }
}

/// A message of at most `most` characters: a longer one is cut in the middle, where ` … ` is put, because advice is at the end.
pub(crate) fn shortened(message: &str, most: usize) -> Cow<'_, str> {
    let count = message.chars().count();
    if count <= most {
        return message.into();
    }
    let place = |n: usize| message.char_indices().nth(n).map_or(message.len(), |(place, _)| place);
    let (beginning, end) = (place(most / 2), place(count - most / 2));
    format!("{} … {}", &message[..beginning], &message[end..]).into()
}

/// A parser's message, shortened because it may quote a whole value.
pub(crate) fn brief(error: impl std::fmt::Display) -> String {
    shortened(&error.to_string(), LONGEST_PROBLEM).into_owned()
}

fn shown_path(path: &Path) -> String {
    let path = path.display().to_string();
    if path.len() > LONGEST_PATH { shortened(&path, 2 * EXCERPT).into_owned() } else { path }
}

/// A path or another word, quoted for a shell if it contains blanks or special characters.
#[cfg(feature = "files")]
pub fn shell_word(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:=@%".contains(byte) || *byte >= 0x80;
    match word.to_str() {
        Some("") => "''".to_owned(),
        Some(text) if cfg!(windows) && text.bytes().all(|byte| byte == b'\\' || plain(&byte)) => text.to_owned(),
        Some(text) if cfg!(windows) => format!("\"{text}\""),
        Some(text) if text.bytes().all(|byte| plain(&byte)) && !text.chars().any(char::is_control) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        // Plain quotes cannot show control characters or bytes that are not UTF-8: use the escapes of bash, zsh and ksh.
        _ => {
            let escape = |byte: &u8| match *byte {
                b' '..=b'~' if *byte != b'\'' && *byte != b'\\' => char::from(*byte).to_string(),
                other => format!("\\x{other:02x}"),
            };
            format!("$'{}'", word.as_encoded_bytes().iter().map(escape).collect::<String>())
        }
    }
}

/// As [`shell_word`] for a path, written so that no program takes it for an option.
#[cfg(feature = "files")]
pub fn shell_path(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    if path.as_os_str().len() > LONGEST_PATH {
        // No command could open it.
        return shown_path(path);
    }
    if path.as_os_str().as_encoded_bytes().starts_with(b"-") { shell_word(Path::new(".").join(path)) } else { shell_word(path) }
}

/// A size in bytes as text: `147 MiB`, `1.5 GiB`, `512 B`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = n as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 || size >= 100.0 { format!("{size:.0} {}", UNITS[unit]) } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// ``did you mean `x`?`` for the nearest of `names`, or the list of all names if none is near.
pub(crate) fn suggestion<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let near = |other: &&str| strsim::jaro_winkler(name, other);
    match names.iter().max_by(|a, b| near(a).total_cmp(&near(b))) {
        Some(best) if near(best) > 0.6 => format!("did you mean `{best}`?"),
        _ => format!("expected one of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_far_as_they_can_be_read() {
        assert_eq!(excerpt("größe"), "größe");
        assert_eq!(excerpt("a\nb\x1b[2J\0"), r"a\nb\u{1b}[2J\u{0}");
        let (most, more) = ("ü".repeat(80), "ü".repeat(1 << 20));
        assert_eq!(excerpt(&most), most);
        assert_eq!(excerpt(&more), format!("{most}…"));
        assert_eq!(shortened("0123456789", 10), "0123456789");
        assert_eq!(shortened("ä123456789ö", 4), "ä1 … 9ö");
        let whole = format!("/{}", "d".repeat(1000));
        assert_eq!(Error::file(&whole, "no such file").to_string(), format!("{whole}: no such file"));
        let long = Error::file("p".repeat(1 << 20), brief(format!("unknown `{more}`; wait"))).to_string();
        assert!(long.chars().count() < 500 && long.starts_with("ppp") && long.ends_with("; wait"), "{long}");
    }

    #[cfg(unix)]
    #[test]
    fn words_survive_the_shell() {
        use std::os::unix::ffi::OsStrExt;
        let words: [&[u8]; 9] =
            [b"runs/a-1.txt", b"my run", b"it's", b"$HOME", b"a;b&c|d", b"", "größe/世".as_bytes(), b"a\nb\x1b[2J", b"\xff 'x\\"];
        for word in words {
            let word = OsStr::from_bytes(word);
            let script = format!("printf %s {}", shell_word(word));
            let said = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(said.stdout, word.as_bytes(), "{script}");
        }
        assert_eq!([shell_path("-a"), shell_path("- a"), shell_path("a/-b"), shell_path("-")], ["./-a", "'./- a'", "a/-b", "./-"]);
        assert_eq!(shell_word("runs/a"), "runs/a");
        assert_eq!(shell_word("my run"), "'my run'");
    }

    #[test]
    fn suggests() {
        assert_eq!(suggestion("stesp", ["steps", "seed"]), "did you mean `steps`?");
        assert_eq!(suggestion("zzz", ["steps", "seed"]), "expected one of steps, seed");
        assert_eq!(suggestion("zzz", []), "expected one of ");
    }
}
