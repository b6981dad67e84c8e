//! All printing goes through this module.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result, shortened};

/// Where results, progress and notices go.
pub struct Output {
    json: bool,
    quiet: bool,
    /// Whether stdout is a terminal.
    terminal: bool,
    state: Mutex<StdoutState>,
}

#[derive(Default)]
struct StdoutState {
    /// Stdout has lost its reader, as in `wgpt ... | head -1`.
    closed: bool,
    /// Stdout could not be written for another reason, such as a full disk.
    failed: Option<Error>,
}

impl Output {
    pub fn new(json: bool, quiet: bool) -> Output {
        Output { json, quiet, terminal: std::io::stdout().is_terminal(), state: Mutex::default() }
    }

    pub fn json(&self) -> bool {
        self.json
    }

    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a line of a result as text.
    pub fn line(&self, text: &str) {
        self.piece(&format!("{text}\n"));
    }

    /// Prints a piece of a result as text, at once.
    pub fn piece(&self, text: &str) {
        if !self.json {
            self.write(text);
        }
    }

    /// Prints a result as one line of JSON.
    pub fn object(&self, value: &impl Serialize) {
        if self.json {
            match serde_json::to_string(value) {
                Ok(line) => self.write(&format!("{line}\n")),
                Err(e) => self.fail(Error::file("stdout", e)),
            }
        }
    }

    /// Prints a line that already is JSON.
    pub fn json_line(&self, line: &str) {
        if self.json {
            self.write(&format!("{line}\n"));
        }
    }

    /// Prints to stderr what may interest a person but is not a result.
    pub fn notice(&self, text: &str) {
        if !self.quiet {
            // A closed stderr is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{}", harmless(text));
        }
    }

    /// Whether notices go to a terminal.
    pub fn is_terminal(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Whether writing more to stdout is useless.
    pub fn ended(&self) -> bool {
        let state = self.state();
        state.closed || state.failed.is_some()
    }

    /// # Errors
    /// The first failure to write to stdout; a lost reader is not a failure.
    pub fn finish(&self) -> Result<()> {
        self.state().failed.take().map_or(Ok(()), Err)
    }

    /// A file or a pipe receives the text unchanged; a terminal, which would interpret them, receives no control characters.
    fn write(&self, text: &str) {
        if self.ended() {
            return;
        }
        let text = if self.terminal { harmless(text) } else { text.into() };
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::BrokenPipe => self.state().closed = true,
            Err(e) => self.fail(not_written(&e)),
        }
    }

    fn fail(&self, error: Error) {
        self.state().failed.get_or_insert(error);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, StdoutState> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Runs code that prints to stdout; a lost reader is not a failure.
///
/// # Errors
/// The failure to write.
pub fn print(write: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
    match write().and_then(|()| std::io::stdout().flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(not_written(&e)),
        _ => Ok(()),
    }
}

fn not_written(e: &std::io::Error) -> Error {
    Error::file("stdout", format!("cannot be written: {e}"))
}

/// Longer than any message that quotes values by [`excerpt`](crate::error::excerpt). Other crates' messages may quote values in full.
const LONGEST: usize = 16_384;

/// Prints an error as one line.
pub fn error(message: &str) {
    let _ = writeln!(std::io::stderr(), "error: {}", harmless(&shortened(&one_line(message), LONGEST)));
}

/// Joins the lines; other blanks are kept, since a name or a command may contain several.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Replaces what a terminal would interpret: control characters except line ends and tabs become their pictures (U+2400 on) or, if they
/// have none, U+FFFD; carriage returns, which many texts have at each line end, are removed.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(obeyed) {
        return text.into();
    }
    let shown = |c: char| match c {
        _ if !obeyed(c) => c,
        '\x7f' => '\u{2421}',
        '\0'..' ' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        _ => '\u{fffd}',
    };
    text.chars().filter(|c| *c != '\r').map(shown).collect::<String>().into()
}

/// A path for JSON, which cannot hold bytes: what is not UTF-8 is replaced.
pub fn path(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// `0.8 s`, `42 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

/// A token for a list: unchanged if it is plain, else quoted, so that blanks and line ends are visible.
pub fn token(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if plain { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let cases = [(0.84, "0.8 s"), (59.4, "59 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 5 min"), (273_600.0, "3 d 4 h")];
        cases.iter().for_each(|(s, text)| assert_eq!(duration(Duration::from_secs_f64(*s)), *text));
    }

    #[test]
    fn terminals_get_nothing_to_obey() {
        assert_eq!(harmless("a\tb\nü 世"), "a\tb\nü 世");
        assert_eq!(harmless("\x1b[2J\r\x07\x7f\u{9b}31m\0"), "␛[2J␇␡\u{fffd}31m␀");
        assert!(!(0..0xa0).filter_map(char::from_u32).map(|c| harmless(&c.to_string()).into_owned()).any(|c| c.contains('\x1b')));
    }

    #[test]
    fn errors_are_one_line_with_the_blanks_of_names() {
        assert_eq!(one_line("a  b: is gone\n\n  tip: `wgpt --out 'a  b'`\n"), "a  b: is gone tip: `wgpt --out 'a  b'`");
    }

    #[test]
    fn blanks_in_tokens_show() {
        assert_eq!([" how", "how", "\n", ""].map(token), ["\" how\"", "how", "\"\\n\"", "\"\""]);
    }
}
