//! What a run reports of its data: the text, its tokens, the tokenizer and why it was chosen, and how much of the text became `<UNK>`.

use super::output::count;
use crate::error::{Error, Result};
use crate::text::{Corpus, Tokenizer, UNKNOWN};
use crate::train::config::RunConfig;
use crate::train::presets::{self, TOY_FILE};

/// How much of a text its tokenizer does not know, and what would help.
pub struct Unknown {
    /// Shares of the training and of the validation tokens, 0 to 1.
    shares: [f64; 2],
    /// Whether the text is the user's own; the tokenizers of the bundled texts are chosen on purpose.
    own_text: bool,
    advice: &'static str,
}

/// A larger share causes a warning.
const WARNED: f64 = 0.05;
/// A run with a larger share only starts if the user confirms it.
const REFUSED: f64 = 0.5;

impl Unknown {
    /// `init` if the tokenizer comes from the run whose weights are used.
    ///
    /// # Errors
    /// [`Error::File`] for a token file that can no longer be read.
    pub fn of(config: &RunConfig, corpus: &Corpus, tokenizer: &Tokenizer, init: bool) -> Result<Unknown> {
        let own_text = presets::embedded(&config.data.files).is_none();
        let advice = if init {
            "without --init, a run gets a tokenizer that covers the whole text"
        } else if corpus.why.is_some() {
            "a larger tokenizer.max_vocab or a smaller tokenizer.min_count helps"
        } else if corpus.train.vocab_size().is_some() {
            "encode the text with a tokenizer that covers it, made by `wgpt tokenizer train`"
        } else if !config.tokenizer.path.is_empty() {
            "without tokenizer.path, --set tokenizer.kind=auto selects a tokenizer that covers the whole text"
        } else if own_text && config.tokenizer.max_vocab > 0 {
            "--set tokenizer.kind=auto --set tokenizer.max_vocab=0 selects a tokenizer that covers the whole text"
        } else {
            "--set tokenizer.kind=auto selects a tokenizer that covers the whole text"
        };
        Ok(Unknown { shares: corpus.unknown_shares(tokenizer)?, own_text, advice })
    }

    fn largest(&self) -> f64 {
        self.shares[0].max(self.shares[1])
    }

    /// Refuses a text that is mostly unknown, unless it is `allowed`.
    ///
    /// # Errors
    /// [`Error::Usage`] with both shares and what helps.
    pub fn check(&self, allowed: bool) -> Result<()> {
        if allowed || self.largest() <= REFUSED {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{}: the model would learn little else; {}, or confirm with --allow-unknown",
            self.said().unwrap_or_default(),
            self.advice
        )))
    }

    /// The shares, or `None` if nothing is unknown.
    fn said(&self) -> Option<String> {
        let [train, val] = self.shares.map(percent);
        (self.largest() > 0.0).then(|| format!("{train} of the training and {val} of the validation tokens are {UNKNOWN}"))
    }

    /// The warning, for a line of its own.
    pub fn warning(&self) -> Option<String> {
        let warned = self.own_text && self.largest() > WARNED;
        warned.then(|| format!("much of the text is {UNKNOWN}, which the model can neither learn nor write: {}", self.advice))
    }
}

/// Describes the text that a run is trained on.
pub fn text_name(files: &[String]) -> String {
    match files {
        [] => "the bundled Shakespeare text".to_owned(),
        [file] if file == TOY_FILE => "the two bundled sentences".to_owned(),
        [file] => shown(file).to_owned(),
        files => format!("{} files", files.len()),
    }
}

/// Shortens a path: a file in the working directory needs only its name.
fn shown(file: &str) -> &str {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| std::path::Path::new(file).strip_prefix(here).ok()?.to_str());
    relative.filter(|path| !path.is_empty()).unwrap_or(file)
}

/// One line that describes the data of a run.
pub fn line(config: &RunConfig, corpus: &Corpus, tokenizer: &Tokenizer, unknown: &Unknown) -> String {
    let [train, val] = [&corpus.train, &corpus.val].map(|part| count(part.len() as u64));
    let (kind, vocab) = (tokenizer.kind(), count(tokenizer.vocab_size() as u64));
    let why = corpus.why.as_ref().map_or(String::new(), |why| format!(", chosen for this text as {why}"));
    let said = match unknown.said() {
        // Without a warning, the advice is given here.
        Some(said) if unknown.warning().is_none() => format!("; {said} ({})", unknown.advice),
        Some(said) => format!("; {said}"),
        None => String::new(),
    };
    let text = text_name(&config.data.files);
    format!("{text}: {train} tokens to train on, {val} for validation; {kind} tokenizer with {vocab} tokens{why}{said}")
}

fn percent(share: f64) -> String {
    let shown = 100.0 * share;
    if shown > 0.0 && shown < 0.1 { "below 0.1 %".to_owned() } else { format!("{shown:.1} %") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{DataConfig, TokenizerConfig};

    fn shares(text: &str) -> (Unknown, String) {
        let mut config = RunConfig {
            data: DataConfig { files: vec!["/a/b.txt".into()], val_fraction: 0.5 },
            tokenizer: TokenizerConfig { kind: "word".into(), ..TokenizerConfig::default() },
            ..RunConfig::default()
        };
        let (tokenizer, corpus) = Corpus::build(&config.data, &[text], &config.tokenizer, None).unwrap();
        let unknown = Unknown::of(&config, &corpus, &tokenizer, false).unwrap();
        let line = line(&config, &corpus, &tokenizer, &unknown);
        config.data.files.clear();
        assert!(Unknown::of(&config, &corpus, &tokenizer, false).unwrap().warning().is_none(), "a bundled text");
        (unknown, line)
    }

    /// A training part of one word, and a validation part of 100 words, `strange` of them unknown.
    fn text(strange: usize) -> String {
        (0..200).map(|i| if i < 200 - strange { "aa " } else { "bb " }).collect()
    }

    #[test]
    fn a_twentieth_is_warned_of_and_more_than_half_is_refused() {
        let (none, line) = shares(&text(0));
        assert!(none.warning().is_none() && none.check(false).is_ok() && !line.contains("UNK"), "{line}");
        let (few, line) = shares(&text(5));
        assert!(few.warning().is_none() && few.check(false).is_ok());
        assert!(line.ends_with("0.0 % of the training and 5.0 % of the validation tokens are <UNK> (--set tokenizer.kind=auto selects a tokenizer that covers the whole text)"), "{line}");
        let (some, line) = shares(&text(6));
        assert!(some.warning().unwrap().contains("--set tokenizer.kind=auto") && some.check(false).is_ok());
        assert!(line.ends_with("6.0 % of the validation tokens are <UNK>"), "{line}");
        assert!(shares(&text(50)).0.check(false).is_ok());
        let most = shares(&text(51)).0;
        let e = most.check(false).unwrap_err().to_string();
        assert!(e.starts_with("0.0 % of the training and 51.0 % of the validation tokens are <UNK>: "), "{e}");
        assert!(e.contains("--set tokenizer.kind=auto") && e.ends_with("--allow-unknown"), "{e}");
        most.check(true).unwrap();
        assert_eq!([0.0, 1e-5, 0.1234].map(percent), ["0.0 %", "below 0.1 %", "12.3 %"]);
    }
}
