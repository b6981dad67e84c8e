//! A typed prompt and the likeliest next tokens, which are computed again as the model learns.

use std::time::{Duration, Instant};

use wgpt::low_level::generate::ranked;
use wgpt::{Budget, Generator, Gpu, Result, Ticket, block_on};

use crate::open::{Opened, shown};
use crate::writer::sharing;

/// How often the same prompt is evaluated again.
const EVERY: Duration = Duration::from_millis(400);
const ANSWERS: usize = 12;

pub struct Prompt {
    pub generator: Generator,
    pub typed: String,
    asked: String,
    busy: bool,
    at: Instant,
    /// The step of the last evaluation.
    step: u64,
    /// Tokens with their probabilities, likeliest first.
    pub answers: Vec<(String, f32)>,
    /// A friendly remark about the prompt.
    pub note: String,
}

impl Prompt {
    pub fn new(gpu: &Gpu, opened: &Opened) -> Result<Prompt> {
        let lord = "my lord ,";
        let known = opened.tokenizer.encode_counting_unknown(lord).is_ok_and(|(ids, unknown)| unknown.is_empty() && ids.len() == 3);
        let typed = if known { lord.to_owned() } else { opened.tokenizer.decode(&opened.beginning()?)? };
        let generator = sharing(gpu, opened)?;
        let (asked, note) = (String::new(), String::new());
        Ok(Prompt { generator, typed, asked, busy: false, at: Instant::now(), step: u64::MAX, answers: vec![], note })
    }

    /// Starts an evaluation if the prompt changed or the model has learned since; true while there is work.
    pub fn wants(&mut self, opened: &Opened, step: u64) -> Result<bool> {
        let again = self.at.elapsed() > EVERY && step != self.step;
        if self.asked != self.typed || (again && !self.busy) {
            self.step = step;
            self.ask(opened)?;
        }
        Ok(self.busy)
    }

    fn ask(&mut self, opened: &Opened) -> Result<()> {
        self.asked.clone_from(&self.typed);
        self.at = Instant::now();
        let (ids, unknown) = opened.tokenizer.encode_counting_unknown(&self.typed)?;
        self.note = match unknown.as_slice() {
            [] => String::new(),
            [word] => format!("the model has never met “{}”", shown(word)),
            words => format!("the model has never met {} of these words", words.len()),
        };
        if ids.is_empty() {
            (self.busy, self.note) = (false, "type a word or two".into());
            self.answers.clear();
            return Ok(());
        }
        self.busy = true;
        // The first call creates the read-back buffer for logits; later calls do not block.
        block_on(&opened.trainer.session.gpu, self.generator.begin_logits(&ids))
    }

    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, budget: Budget) -> Result<Ticket> {
        self.generator.encode(encoder, budget)
    }

    pub fn poll(&mut self, opened: &Opened) -> Result<()> {
        if self.busy
            && let Some(logits) = self.generator.poll_logits()?
        {
            self.busy = false;
            let named = |(id, share): (u32, f64)| (shown(&opened.token(id)), share as f32);
            self.answers = ranked(&logits, 1.0).into_iter().take(ANSWERS).map(named).collect();
        }
        Ok(())
    }
}
