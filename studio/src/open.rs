//! Opens a run's folder or a preset for training.

use std::path::Path;
use std::rc::Rc;

use wgpt::low_level::text::{Bigram, UNKNOWN};
use wgpt::low_level::train::checkpoint::Which;
use wgpt::low_level::train::metrics::{METRICS, Record};
use wgpt::low_level::train::{checkpoint, metrics};
use wgpt::{Corpus, Gpu, Options, Result, RunConfig, Snapshot, Tokenizer, Trainer, block_on, presets};

/// An opened run or preset.
pub struct Opened {
    pub name: String,
    pub config: RunConfig,
    pub tokenizer: Tokenizer,
    pub corpus: Corpus,
    /// Shared with a snapshot that is being read; otherwise this is the only reference.
    pub trainer: Rc<Trainer>,
    /// The loss of a bigram model in nats, which the curve should fall below.
    pub bigram: Option<f64>,
    /// Whether a run's checkpoint was opened, and not a preset.
    pub is_run: bool,
    /// The run's metrics up to its checkpoint.
    pub history: Vec<Record>,
}

/// Checks that there is such a run or preset, before the window opens.
pub fn check(what: &Path) -> Result<(), String> {
    if checkpoint::any(what) || presets::PRESETS.iter().any(|(preset, _)| Path::new(preset) == what) {
        return Ok(());
    }
    let names: Vec<&str> = presets::PRESETS.iter().map(|(preset, _)| *preset).collect();
    let what = what.display();
    Err(format!("{what} is neither a folder with a run of `wgpt train` nor a preset ({})", names.join(", ")))
}

/// Opens the latest checkpoint of a run's folder, or starts a preset.
///
/// # Errors
/// For a damaged run, data that cannot be read, a model that does not fit.
pub fn open(gpu: &Gpu, what: &Path) -> Result<Opened> {
    let is_run = checkpoint::any(what);
    let saved = if is_run { Some(checkpoint::find(what, Which::Latest)?) } else { None };
    let mut config = match &saved {
        Some(saved) => checkpoint::read_config(saved)?,
        None => presets::preset(&what.to_string_lossy())?,
    };
    let existing = saved.as_ref().map(checkpoint::read_tokenizer).transpose()?;
    let (tokenizer, corpus) = match presets::embedded(&config.data.files) {
        Some(text) => Corpus::build(&config.data, &[text], &config.tokenizer, existing)?,
        None => Corpus::open(&config.data, &config.tokenizer, existing)?,
    };
    if saved.is_none() {
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
    let name = what.file_name().unwrap_or(what.as_os_str()).to_string_lossy().into_owned();
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
