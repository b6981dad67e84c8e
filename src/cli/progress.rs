//! Shows the progress of a run: a bar on a terminal, a few plain lines elsewhere, records of metrics with `--json`.

mod pace;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Output, count, duration, harmless};
use crate::train::evaluate::eval_batches;
use crate::train::run::{Event, Run};
use pace::StepTimes;

/// Shows the events of a run.
pub struct ProgressLine<'a> {
    out: &'a Output,
    bar: Option<ProgressBar>,
    steps: u64,
    pace: StepTimes,
    started: Instant,
    /// When the last plain line was printed, and in which tenth of the run.
    shown: (Instant, u64),
    step: u64,
    /// Losses of the last steps, at most [`SHOWN`]: one step's loss says little, so their mean is shown.
    losses: VecDeque<f64>,
    val_loss: Option<f64>,
    learning_rate: f64,
    tokens_per_second: f64,
    /// When the current validation began, how many of its batches were submitted, and how many there are.
    validating: Option<(Instant, usize, usize)>,
}

/// Number of steps whose mean loss is shown.
const SHOWN: usize = 20;

impl<'a> ProgressLine<'a> {
    /// Starts at the run's current step.
    pub fn new(out: &'a Output, run: &Run) -> ProgressLine<'a> {
        let (steps, first) = (run.setup.config.train.steps, run.trainer.step_count());
        let bar = out.is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr()).with_position(first);
            bar.set_style(style());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let (now, train) = (Instant::now(), &run.setup.config.train);
        // The run itself reports a validation part that is too short.
        let batches = eval_batches(&run.setup.corpus.val, run.setup.config.model.seq_len, train.eval_batches, train.batch_size);
        let batches = if run.setup.corpus.val.is_empty() { 0 } else { batches.unwrap_or(0) };
        ProgressLine {
            out,
            bar,
            steps,
            pace: StepTimes::new(train, batches as u64),
            started: now,
            shown: (now, 10 * first / steps),
            step: first,
            losses: VecDeque::new(),
            val_loss: None,
            learning_rate: 0.0,
            tokens_per_second: 0.0,
            validating: None,
        }
    }

    pub fn show(&mut self, event: Event) {
        match event {
            Event::Step { report, tokens_per_second, ms } => {
                self.step = report.step;
                self.pace.step(ms);
                if self.losses.len() == SHOWN {
                    self.losses.pop_front();
                }
                self.losses.push_back(f64::from(report.loss));
                (self.learning_rate, self.tokens_per_second) = (report.learning_rate, tokens_per_second);
                if report.skipped() {
                    let (step, scale) = (count(report.step), report.loss_scale);
                    self.line(&format!("step {step}: a gradient overflowed at the loss scale {scale}; the update was skipped"));
                }
                self.step_line();
            }
            Event::Validating { done, all, .. } => {
                let since = self.validating.map_or_else(Instant::now, |(since, ..)| since);
                self.validating = Some((since, done, all));
                self.step_line();
            }
            Event::Validation { step, loss, best } => {
                self.val_loss = Some(loss);
                if let Some((since, ..)) = self.validating.take() {
                    self.pace.validated(since.elapsed());
                }
                let best = if best { ", the best so far" } else { "" };
                self.line(&format!("step {}: validation loss {loss:.4}{best}", count(step)));
            }
            Event::Recorded { line } => self.out.json_line(&line),
            Event::Saved { .. } => {}
            Event::Trouble { problem } => self.line(&format!("WARNING   {problem}")),
        }
    }

    /// Ends the bar. Returns how long the run took.
    pub fn finish(self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.started.elapsed()
    }

    fn step_line(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.step);
            bar.set_message(self.numbers());
            return;
        }
        // A line for every tenth of the run; in a slow run also every 10 s, less often the longer it takes.
        let (since, tenth) = (self.shown.0.elapsed(), 10 * self.step / self.steps);
        let pause = Duration::from_secs(10).max(self.started.elapsed() / 20);
        if tenth == self.shown.1 && since < pause {
            return;
        }
        self.shown = (Instant::now(), tenth);
        let (step, steps) = (count(self.step), count(self.steps));
        self.out.notice(&format!("step {step}/{steps}  {}", self.numbers()));
    }

    /// A terminal may have only 80 characters: the least important numbers come last.
    fn numbers(&self) -> String {
        let (unit, gap) = if self.bar.is_some() { ("tok/s", " ") } else { ("tokens/s", "  ") };
        let mean = self.losses.iter().sum::<f64>() / self.losses.len() as f64;
        let loss = (!self.losses.is_empty()).then(|| format!("mean loss {mean:.3}"));
        let val_loss = self.val_loss.filter(|_| self.bar.is_some()).map(|loss| format!("val {loss:.3}"));
        let validating = self.validating.map(|(_, done, all)| format!("validating {}/{}", count(done as u64), count(all as u64)));
        let of_validation = self.validating.map(|(_, done, all)| done as f64 / all.max(1) as f64);
        let left = self.pace.left(self.step, of_validation).map(|time| format!("{} left", duration(time)));
        let rates = [format!("lr {:.1e}", self.learning_rate), format!("{} {unit}", count(self.tokens_per_second as u64))];
        let rates = rates.into_iter().filter(|_| self.validating.is_none());
        let all: Vec<String> = validating.into_iter().chain(loss).chain(val_loss).chain(left).chain(rates.rev()).collect();
        all.join(gap)
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(harmless(text)),
            None => self.out.notice(text),
        }
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{bar:10} {human_pos}/{human_len} {wide_msg}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}
