//! How a run goes: a bar on a terminal, a few plain lines elsewhere, records of metrics with `--json`.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Output, count, duration};
use crate::train::run::{Event, Run};

/// Shows the events of a run.
pub struct Progress<'a> {
    out: &'a Output,
    bar: Option<ProgressBar>,
    steps: u64,
    /// When the first reports came, and of which step: shaders are still being compiled before.
    begun: Option<(Instant, u64)>,
    started: Instant,
    /// Of the last plain line: when, and in which tenth of the run.
    shown: (Instant, u64),
    step: u64,
    loss: Option<f64>,
    val_loss: Option<f64>,
    learning_rate: f64,
    tokens_per_second: f64,
}

/// Reports come several at a time: those within this time of the first came with it.
const FIRST_BATCH: Duration = Duration::from_millis(50);
/// Weight of a step's loss in the average that is shown.
const NEWS: f64 = 0.05;

impl<'a> Progress<'a> {
    /// From the step that the run stands at.
    pub fn new(out: &'a Output, run: &Run) -> Progress<'a> {
        let (steps, first) = (run.setup.config.train.steps, run.trainer.step_count());
        let bar = out.is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr()).with_position(first);
            bar.set_style(style());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let now = Instant::now();
        Progress {
            out,
            bar,
            steps,
            begun: None,
            started: now,
            shown: (now, 10 * first / steps),
            step: first,
            loss: None,
            val_loss: None,
            learning_rate: 0.0,
            tokens_per_second: 0.0,
        }
    }

    pub fn show(&mut self, event: Event) {
        match event {
            Event::Step { report, tokens_per_second, .. } => {
                let loss = f64::from(report.loss);
                self.step = report.step;
                match &mut self.begun {
                    Some((when, _)) if when.elapsed() > FIRST_BATCH => {}
                    Some((_, first)) => *first = report.step,
                    None => self.begun = Some((Instant::now(), report.step)),
                }
                self.loss = Some(self.loss.map_or(loss, |mean| mean + NEWS * (loss - mean)));
                (self.learning_rate, self.tokens_per_second) = (report.learning_rate, tokens_per_second);
                self.step_line();
            }
            Event::Validation { step, loss, best } => {
                self.val_loss = Some(loss);
                let best = if best { ", the best so far" } else { "" };
                self.line(&format!("step {}: validation loss {loss:.4}{best}", count(step)));
            }
            Event::Recorded { line } => self.out.json_line(&line),
            Event::Saved { .. } => {}
            Event::Trouble { problem } => self.line(&format!("WARNING   {problem}")),
        }
    }

    /// Ends the bar; how long the run took.
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
        // A line for every tenth of the run; in a slow one also every 10 s, and less often the longer it takes.
        let (since, tenth) = (self.shown.0.elapsed(), 10 * self.step / self.steps);
        let pause = Duration::from_secs(10).max(self.started.elapsed() / 20);
        if tenth == self.shown.1 && since < pause {
            return;
        }
        self.shown = (Instant::now(), tenth);
        let (step, steps) = (count(self.step), count(self.steps));
        self.out.notice(&format!("step {step}/{steps}  {}", self.numbers()));
    }

    /// On a terminal 80 characters have to do.
    fn numbers(&self) -> String {
        let (unit, gap) = if self.bar.is_some() { ("tok/s", " ") } else { ("tokens/s", "  ") };
        let loss = self.loss.map(|loss| format!("loss {loss:.3}"));
        let val_loss = self.val_loss.filter(|_| self.bar.is_some()).map(|loss| format!("val {loss:.3}"));
        let rates = [format!("lr {:.1e}", self.learning_rate), format!("{} {unit}", count(self.tokens_per_second as u64))];
        let left = self.time_left().map(|time| format!("{} left", duration(time)));
        let all: Vec<String> = loss.into_iter().chain(val_loss).chain(rates).chain(left).collect();
        all.join(gap)
    }

    fn time_left(&self) -> Option<Duration> {
        let (when, first) = self.begun.filter(|(_, first)| *first < self.step && self.step < self.steps)?;
        Some(when.elapsed().mul_f64((self.steps - self.step) as f64 / (self.step - first) as f64))
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.out.notice(text),
        }
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{bar:10} {human_pos}/{human_len} {wide_msg}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}
