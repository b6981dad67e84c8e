//! The model's side of a frame: train a little, write a little, answer a little, never wait.

use std::time::{Duration, Instant};

use wgpt::Result;
use wgpt::generate::{Generator, Sampling, ranked};
use wgpt::gpu::Gpu;
use wgpt::gpu::compile::Options;
use wgpt::gpu::slice::Budget;
use wgpt::gpu::wait::block_on;
use wgpt::model::view::View;
use wgpt::train::{AttentionAt, Trainer};

use crate::embedding::Table;
use crate::open::{Opened, open};

/// Tokens that the model writes before it begins anew.
const LINES: usize = 90;

pub struct Engine {
    pub gpu: Gpu,
    pub opened: Opened,
    /// The map of the attention that is shown.
    pub map: View,
    pub at: AttentionAt,
    pub table: Table,
    /// (step, loss) of every step, and their running mean.
    pub losses: Vec<[f64; 2]>,
    pub smooth: Vec<[f64; 2]>,
    pub tokens_per_second: f64,
    pub step: u64,
    pub text: Text,
    pub question: Question,
    since: (Instant, u64),
}

/// What the model writes.
pub struct Text {
    generator: Generator,
    pub prompt: String,
    ids: Vec<u32>,
    pub written: String,
    seed: u64,
    /// Tokens that have come of this text.
    come: Vec<u32>,
}

/// A prompt that was typed, and the likeliest next tokens.
pub struct Question {
    generator: Generator,
    pub typed: String,
    /// What was asked last; it is asked again as the model learns.
    asked: String,
    busy: bool,
    at: Instant,
    pub answers: Vec<(String, f32)>,
    pub note: String,
}

impl Engine {
    /// Opens what the command line names on the window's own device.
    pub fn new(gpu: &Gpu, what: Option<&str>) -> Result<Engine> {
        let mut opened = open(gpu, what)?;
        let trainer = &mut opened.trainer;
        let at = AttentionAt::default();
        let map = block_on(gpu, trainer.show_attention(Some(at)))?.expect("a map was asked for");
        let table = block_on(gpu, Table::new(gpu, trainer, &opened.tokenizer))?;
        let text = Text::new(gpu, &opened)?;
        let question = Question::new(gpu, &opened)?;
        let step = opened.trainer.step_count();
        let (losses, smooth, since) = (vec![], vec![], (Instant::now(), step));
        Ok(Engine { gpu: gpu.clone(), opened, map, at, table, losses, smooth, tokens_per_second: 0.0, step, text, question, since })
    }

    /// One frame's share: `budget` of device time, of training only while it runs and up to step `last`.
    pub fn frame(&mut self, budget: Duration, running: bool, last: u64) -> Result<()> {
        let trainer = &mut self.opened.trainer;
        if running && trainer.step_count() < last {
            let budget = Budget::time(budget.mul_f64(0.8)).steps(last - trainer.step_count());
            trainer.advance(&self.opened.corpus.train, budget)?;
        }
        while let Some(report) = trainer.poll()? {
            self.step = report.step;
            let loss = f64::from(report.loss);
            let part = f64::max(0.05, 1.0 / (self.smooth.len() as f64 + 1.0));
            let mean = self.smooth.last().map_or(loss, |last| last[1] + part * (loss - last[1]));
            self.losses.push([report.step as f64, loss]);
            self.smooth.push([report.step as f64, mean]);
        }
        self.table.poll(&self.gpu)?;
        let share = Budget::time(budget.mul_f64(0.1));
        if self.step > 0 {
            self.text.frame(&self.opened, share)?;
            self.question.frame(&self.opened, share)?;
        }
        self.count();
        Ok(())
    }

    /// Tokens trained on in the last second or so.
    fn count(&mut self) {
        let seconds = self.since.0.elapsed().as_secs_f64();
        if seconds > 1.0 {
            let trainer: &Trainer = &self.opened.trainer;
            self.tokens_per_second = (self.step.saturating_sub(self.since.1) * trainer.tokens_per_step()) as f64 / seconds;
            self.since = (Instant::now(), self.step);
        }
    }

    /// Shows another head.
    pub fn show(&mut self, at: AttentionAt) -> Result<()> {
        if at != self.at {
            block_on(&self.gpu, self.opened.trainer.show_attention(Some(at)))?;
            self.at = at;
        }
        Ok(())
    }

    /// The smoothed loss.
    pub fn loss(&self) -> Option<f64> {
        self.smooth.last().map(|point| point[1])
    }
}

/// A generator over the weights that are being trained, which never draws ids without a name.
fn generator(gpu: &Gpu, opened: &Opened) -> Result<Generator> {
    let options = Options { fine: true, ..Options::default() };
    let model = &opened.config.model;
    let mut generator = block_on(gpu, Generator::sharing(gpu, model, &opened.trainer.weight_buffers(), &options))?;
    let nameless = |id: &u32| opened.tokenizer.token(*id).map_or(true, |token| token == wgpt::text::UNKNOWN);
    let never: Vec<u32> = (0..model.vocab_size as u32).filter(nameless).collect();
    block_on(gpu, generator.forbid(&never))?;
    Ok(generator)
}

impl Text {
    fn new(gpu: &Gpu, opened: &Opened) -> Result<Text> {
        let store = if opened.corpus.val.len() > 4 { &opened.corpus.val } else { &opened.corpus.train };
        let mut ids = vec![];
        store.window(0, store.len().min(400), &mut ids)?;
        // From the begin of a sentence or a line of known words, if there is one.
        let token = |id: &u32| opened.tokenizer.token(*id).unwrap_or_default();
        let length = if opened.tokenizer.kind() == "character" { 16 } else { 4 };
        let starts = (1..ids.len().saturating_sub(length)).filter(|&i| [".", "\n"].contains(&token(&ids[i - 1]).as_str()));
        let known = |&start: &usize| ids[start..start + length].iter().all(|id| token(id) != wgpt::text::UNKNOWN);
        let start = starts.into_iter().find(known).unwrap_or(0);
        let ids = ids[start..(start + length).min(ids.len())].to_vec();
        let ids = if ids.is_empty() { vec![0] } else { ids };
        let prompt = opened.tokenizer.decode(&ids)?;
        Ok(Text { generator: generator(gpu, opened)?, prompt, ids, written: String::new(), seed: 0, come: vec![0; LINES] })
    }

    fn frame(&mut self, opened: &Opened, budget: Budget) -> Result<()> {
        // The next text begins when this one is whole.
        if self.come.len() >= LINES {
            self.come.clear();
            self.seed += 1;
            let sampling = Sampling { temperature: 0.8, top_p: 0.95, seed: self.seed, ..Sampling::default() };
            self.generator.begin(&self.ids, &sampling, LINES)?;
            self.written.clear();
        }
        self.generator.advance(budget)?;
        let drawn = self.generator.poll()?;
        if !drawn.is_empty() {
            self.come.extend(drawn);
            // Decoded with the prompt, so that words are set apart as the tokenizer would.
            let all = opened.tokenizer.decode(&[self.ids.as_slice(), &self.come].concat())?;
            self.written = all.strip_prefix(&self.prompt).unwrap_or(&all).to_owned();
        }
        Ok(())
    }
}

impl Question {
    fn new(gpu: &Gpu, opened: &Opened) -> Result<Question> {
        let typed = if opened.name.contains("toy") { "hello" } else { "my lord ," };
        Ok(Question {
            generator: generator(gpu, opened)?,
            typed: typed.to_owned(),
            asked: String::new(),
            busy: false,
            at: Instant::now(),
            answers: vec![],
            note: String::new(),
        })
    }

    fn frame(&mut self, opened: &Opened, budget: Budget) -> Result<()> {
        if !self.busy && (self.asked != self.typed || self.at.elapsed() > Duration::from_millis(500)) {
            self.ask(opened)?;
        }
        if !self.busy {
            return Ok(());
        }
        self.generator.advance(budget)?;
        if let Some(logits) = self.generator.poll_logits()? {
            self.busy = false;
            let name = |id: u32| opened.tokenizer.token(id).unwrap_or_default();
            self.answers = ranked(&logits, 1.0).into_iter().take(8).map(|(id, share)| (name(id), share as f32)).collect();
        }
        Ok(())
    }

    fn ask(&mut self, opened: &Opened) -> Result<()> {
        self.asked.clone_from(&self.typed);
        self.at = Instant::now();
        let (ids, unknown) = opened.tokenizer.encode_counting_unknown(&self.typed)?;
        self.note = match unknown.first() {
            Some(word) => format!("“{word}” is not in the vocabulary"),
            None => String::new(),
        };
        if ids.is_empty() {
            self.answers.clear();
            self.note = "type a word or two".into();
            return Ok(());
        }
        self.busy = true;
        // The buffer that brings logits back is made with the first question.
        let gpu = opened.trainer.session.gpu.clone();
        block_on(&gpu, self.generator.begin_logits(&ids))
    }
}
