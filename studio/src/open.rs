//! Opens a run's folder, a text or a preset for training.

use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;

use wgpt::low_level::text::{AUTO, Bigram, UNKNOWN, absolute};
use wgpt::low_level::train::checkpoint::Which;
use wgpt::low_level::train::metrics::{METRICS, Record};
use wgpt::low_level::train::{checkpoint, metrics};
use wgpt::{Corpus, Error, Gpu, Options, Result, RunConfig, Snapshot, Tokenizer, TokenizerConfig, Trainer, block_on, presets};

/// An opened run, text or preset.
pub struct Opened {
    pub name: String,
    pub config: RunConfig,
    pub tokenizer: Tokenizer,
    pub corpus: Corpus,
    /// Shared with a snapshot that is being read; otherwise this is the only reference.
    pub trainer: Rc<Trainer>,
    /// The loss of a bigram model in nats, which the curve should fall below.
    pub bigram: Option<f64>,
    /// Whether a run's checkpoint was opened, and not a text or preset.
    pub is_run: bool,
    /// The run's metrics up to its checkpoint.
    pub history: Vec<Record>,
}

/// What can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Run,
    Preset,
    Text,
}

/// What a path or name stands for; checked before the window opens.
///
/// # Errors
/// A message for anything that cannot be opened.
pub fn check(what: &Path) -> Result<Kind, String> {
    let shown = what.display();
    match what.metadata() {
        _ if checkpoint::any(what) => Ok(Kind::Run),
        _ if presets::PRESETS.iter().any(|(preset, _)| Path::new(preset) == what) => Ok(Kind::Preset),
        Ok(found) if found.is_dir() => Err(format!("{shown} is a folder without a run of `wgpt train`")),
        Ok(_) => Ok(Kind::Text),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let names: Vec<&str> = presets::PRESETS.iter().map(|(preset, _)| *preset).collect();
            Err(format!("{shown} is neither a run's folder, nor a text file, nor a preset ({})", names.join(", ")))
        }
        Err(e) => Err(format!("{shown} cannot be read: {e}")),
    }
}

/// The default preset for a user's text, with a tokenizer that fits it, as `wgpt train --data` has it.
fn for_text(file: &Path) -> Result<RunConfig> {
    let mut config = presets::preset(presets::PRESETS[0].0)?;
    let name = file.to_str().ok_or_else(|| Error::file(file, "this path is not UTF-8, which is required here; a file can be renamed"))?;
    config.data.files = vec![absolute(name)];
    config.tokenizer = TokenizerConfig { kind: AUTO.into(), ..TokenizerConfig::default() };
    Ok(config)
}

/// Opens the latest checkpoint of a run's folder, or begins to train a preset, on its own text or a given one.
///
/// # Errors
/// For a damaged run, data that cannot be read, a model that does not fit.
pub fn open(gpu: &Gpu, what: &Path) -> Result<Opened> {
    let kind = check(what).map_err(Error::usage)?;
    let saved = if kind == Kind::Run { Some(checkpoint::find(what, Which::Latest)?) } else { None };
    let mut config = match (&saved, kind) {
        (Some(saved), _) => checkpoint::read_config(saved)?,
        (None, Kind::Text) => for_text(what)?,
        (None, _) => presets::preset(&what.to_string_lossy())?,
    };
    let existing = saved.as_ref().map(checkpoint::read_tokenizer).transpose()?;
    let (tokenizer, corpus) = match presets::embedded(&config.data.files) {
        Some(text) => Corpus::build(&config.data, &[text], &config.tokenizer, existing)?,
        None => Corpus::open(&config.data, &config.tokenizer, existing)?,
    };
    if saved.is_none() {
        config.tokenizer = corpus.tokenizer.clone();
        config.model = config.model.with_vocab(tokenizer.vocab_size())?;
    }
    corpus.check_windows(config.model.seq_len)?;
    let counted = corpus.val.len() > 1 && corpus.train.vocab_size().is_none();
    let bigram = if counted { Some(Bigram::count(&corpus.train, config.model.vocab_size)?.loss(&corpus.val)?) } else { None };
    let options = Options { fine: true, ..Options::default() };
    let mut trainer = block_on(gpu, Trainer::new(gpu, &config, &options))?;
    if let Some(saved) = saved {
        let (meta, pools) = (checkpoint::read_meta(&saved)?, &trainer.session.model.pools);
        let weights = checkpoint::read_weights(&saved, &pools.table)?;
        let moments = checkpoint::read_moments(&saved, &pools.table, pools.moments())?;
        block_on(gpu, trainer.restore(&Snapshot { step: meta.step, state: meta.device_state, weights, moments }))?;
    }
    let name = if kind == Kind::Text { what.file_stem() } else { what.file_name() };
    let name = name.unwrap_or(what.as_os_str()).to_string_lossy().into_owned();
    let is_run = kind == Kind::Run;
    let history = if is_run { history(what, trainer.step_count())? } else { vec![] };
    Ok(Opened { name, config, tokenizer, corpus, trainer: Rc::new(trainer), bigram, is_run, history })
}

/// The metrics of a run's steps up to `last`, if it has any.
fn history(run: &Path, last: u64) -> Result<Vec<Record>> {
    let file = run.join(METRICS);
    let records = if file.exists() { metrics::read(&file)? } else { vec![] };
    Ok(records.into_iter().filter(|record| record.step <= last).collect())
}

impl Opened {
    /// The trainer, to continue training; `None` while a snapshot of it is being read.
    pub fn trainer_mut(&mut self) -> Option<&mut Trainer> {
        Rc::get_mut(&mut self.trainer)
    }

    /// The name of a token, empty for an id without one.
    pub fn token(&self, id: u32) -> String {
        self.tokenizer.token(id).unwrap_or_default()
    }

    /// What tokens are called in texts of the window.
    pub fn unit(&self) -> &'static str {
        match self.tokenizer.kind() {
            "word" => "word",
            "character" => "letter",
            _ => "token",
        }
    }

    /// Ids that are never generated: those without a name, and the one for unknown words.
    pub fn nameless(&self) -> Vec<u32> {
        let unnamed = |id: &u32| self.tokenizer.token(*id).map_or(true, |token| token == UNKNOWN);
        (0..self.config.model.vocab_size as u32).filter(unnamed).collect()
    }

    /// The first tokens of a line or sentence, all of them known: of the validation text, or of the training text if that is short.
    ///
    /// # Errors
    /// When the text cannot be read.
    pub fn beginning(&self) -> Result<Vec<u32>> {
        let store = if self.corpus.val.len() > 40 { &self.corpus.val } else { &self.corpus.train };
        let mut ids = vec![];
        store.window(0, store.len().min(4000), &mut ids)?;
        let length = if self.tokenizer.kind() == "character" { 12 } else { 3 }.min(ids.len());
        let tokens: Vec<String> = ids.iter().map(|&id| self.token(id)).collect();
        let word = |token: &String| !token.is_empty() && token.chars().all(|c| c.is_alphabetic() || c == ' ' || c == '\'');
        let ends = |token: &str| matches!(token, "." | "!" | "?" | "\n");
        let starts = |&i: &usize| i == 0 || ends(&tokens[i - 1]);
        let begins = |&i: &usize| tokens.get(i).is_some_and(|token| token.starts_with(char::is_alphabetic));
        let whole = |&i: &usize| tokens[i..i + length].iter().all(word);
        let start = (0..=ids.len() - length).filter(starts).filter(begins).find(whole).unwrap_or(0);
        Ok(if length == 0 { vec![0] } else { ids[start..start + length].to_vec() })
    }
}

/// How the token for unknown words is displayed.
pub const UNMET: &str = "‹unk›";

/// The displayed name of a token, also for blanks and line ends.
pub fn shown(token: &str) -> String {
    match token {
        "\n" => "line end".into(),
        " " => "space".into(),
        UNKNOWN => UNMET.into(),
        other => other.trim().chars().take(14).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use wgpt::Request;

    use super::*;

    #[test]
    fn what_can_be_opened_is_told_from_what_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("run/checkpoints/step-3")).unwrap();
        fs::create_dir(path("empty")).unwrap();
        fs::write(path("mine.txt"), "a text").unwrap();
        assert_eq!(check(&path("run")), Ok(Kind::Run));
        assert_eq!(check(&path("mine.txt")), Ok(Kind::Text));
        assert_eq!(check("toy".as_ref()), Ok(Kind::Preset));
        for (name, said) in [
            ("empty", "empty is a folder without a run of `wgpt train`"),
            ("none", "none is neither a run's folder, nor a text file, nor a preset (shakespeare-word, toy"),
        ] {
            let problem = check(&path(name)).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
        if cfg!(unix) {
            let problem = check(&path("mine.txt/below")).unwrap_err();
            assert!(problem.contains("below cannot be read: Not a directory"), "{problem}");
        }
    }

    #[test]
    fn a_text_gets_a_tokenizer_that_fits_it() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = pollster::block_on(Gpu::request(&Request::default())).unwrap();
        let file = folder.path().join("my poems.txt");
        fs::write(&file, "Ein Text von großen Äpfeln und kleinen Birnen. ".repeat(40)).unwrap();
        let opened = open(&gpu, &file).unwrap();
        assert_eq!((opened.name.as_str(), opened.is_run, opened.trainer.step_count()), ("my poems", false, 0));
        assert_eq!(opened.config.data.files, [file.to_str().unwrap()]);
        assert_ne!(opened.config.tokenizer.kind, AUTO);
        let [train, val] = opened.corpus.unknown_shares(&opened.tokenizer).unwrap();
        assert_eq!((train, val), (0.0, 0.0));
        // Errors name the file.
        for (bytes, said) in [(&b"\xff\xfe"[..], "my poems.txt"), (b"", "my poems.txt"), (b"short", "")] {
            fs::write(&file, bytes).unwrap();
            let problem = open(&gpu, &file).err().expect("this is no text to train on").to_string();
            println!("{problem}");
            assert!(problem.contains(said), "{problem}");
        }
    }
}
