//! The text that the model generates with the weights that are being trained.

use std::time::{Duration, Instant};

use wgpt::{Budget, Generator, Gpu, Options, Result, Sampling, Ticket, block_on};

use crate::open::Opened;

/// How long a finished text is shown.
const STANDS: Duration = Duration::from_millis(2500);

pub struct Writer {
    pub generator: Generator,
    /// The start of every text, so that texts can be compared.
    pub prompt: String,
    ids: Vec<u32>,
    /// Number of tokens in a text.
    length: usize,
    pub written: String,
    /// The step at which the current text began.
    pub step: u64,
    /// Finished texts with their steps.
    pub before: Vec<(u64, String)>,
    come: Vec<u32>,
    seed: u64,
    whole: Option<Instant>,
}

/// A generator that shares the weights being trained, and never generates an id without a name.
pub fn sharing(gpu: &Gpu, opened: &Opened) -> Result<Generator> {
    let options = Options { fine: true, ..Options::default() };
    let mut generator = block_on(gpu, Generator::sharing(gpu, &opened.trainer.shared_weights(), &options))?;
    let never = opened.nameless();
    if never.len() < opened.config.model.vocab_size {
        block_on(gpu, generator.forbid(&never))?;
    }
    Ok(generator)
}

impl Writer {
    pub fn new(gpu: &Gpu, opened: &Opened) -> Result<Writer> {
        let ids = opened.beginning()?;
        let prompt = opened.tokenizer.decode(&ids)?;
        let length = if opened.tokenizer.kind() == "character" { 200 } else { 56 };
        Ok(Writer {
            generator: sharing(gpu, opened)?,
            prompt,
            ids,
            length,
            written: String::new(),
            step: 0,
            before: vec![],
            come: vec![],
            seed: 0,
            whole: None,
        })
    }

    /// Begins the next text when the last one was shown long enough; true while there is work.
    pub fn wants(&mut self, step: u64) -> Result<bool> {
        let due = self.seed == 0 || self.whole.is_some_and(|whole| whole.elapsed() > STANDS && step > self.step);
        if due {
            if self.seed > 0 {
                self.before.push((self.step, std::mem::take(&mut self.written)));
            }
            (self.seed, self.step, self.whole) = (self.seed + 1, step, None);
            self.come.clear();
            let sampling = Sampling { temperature: 0.8, top_p: 0.95, seed: self.seed, ..Sampling::default() };
            self.generator.begin(&self.ids, &sampling, self.length)?;
        }
        Ok(!self.generator.is_idle())
    }

    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, budget: Budget) -> Result<Ticket> {
        self.generator.encode(encoder, budget)
    }

    pub fn poll(&mut self, opened: &Opened) -> Result<()> {
        let drawn = self.generator.poll()?;
        if drawn.is_empty() {
            return Ok(());
        }
        self.come.extend(drawn);
        // Decoded together with the prompt, so that the tokenizer puts the right blanks between words.
        let all = opened.tokenizer.decode(&[self.ids.as_slice(), &self.come].concat())?;
        self.written = all.strip_prefix(&self.prompt).unwrap_or(&all).to_owned();
        if self.come.len() >= self.length {
            self.whole = Some(Instant::now());
        }
        Ok(())
    }

    /// The first, some intermediate and the last of the texts so far, to show the progress.
    pub fn milestones(&self) -> Vec<&(u64, String)> {
        let last = self.before.len().saturating_sub(1);
        let mut chosen = vec![0, last / 4, last / 2, last];
        chosen.dedup();
        chosen.into_iter().filter_map(|index| self.before.get(index)).collect()
    }
}
