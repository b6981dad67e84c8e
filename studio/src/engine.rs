//! The model's work in a frame: some training, generation and answering in one submit, without blocking.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use wgpt::low_level::text::Sampler;
use wgpt::low_level::train::AttentionAt;
use wgpt::low_level::train::metrics::Record;
use wgpt::low_level::train::schedule::learning_rate;
use wgpt::low_level::train::step_clock::StepClock;
use wgpt::phases::{NORM, UPDATE};
use wgpt::{Budget, Gpu, Result, StepReport, View, block_on};

use crate::curve::Curve;
use crate::embedding::Table;
use crate::open::{Opened, open};
use crate::prompt::Prompt;
use crate::save::Saver;
use crate::writer::Writer;

/// How often a step's attention is shown: a map that changed with every step would be unreadable.
const EVERY: Duration = Duration::from_millis(700);

pub struct Engine {
    pub gpu: Gpu,
    pub opened: Opened,
    pub look: Look,
    pub table: Table,
    pub writer: Writer,
    pub prompt: Prompt,
    pub saver: Saver,
    pub loss: Curve,
    /// The contents of `metrics.jsonl` in a save: those of the opened run, and every `log_every` steps since.
    history: Vec<Record>,
    clock: StepClock,
    /// The learning rate of the last reported step, from the schedule whose peak the slider sets; before the first report that of the next.
    pub learning_rate: f64,
    pub tokens_per_second: f64,
    /// Steps whose loss has arrived.
    pub step: u64,
    pub running: bool,
    /// The step at which training pauses.
    pub last: u64,
    since: (Instant, u64),
}

/// The step that the window shows: its attention is mapped while it runs, and the embedding is copied after it.
pub struct Look {
    /// The map, and the layer, head and sample to show.
    pub map: View,
    pub at: AttentionAt,
    /// The tokens of the sample shown, and its step.
    pub words: Vec<String>,
    pub shown: Option<(AttentionAt, u64)>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Resting(Instant),
    /// This step is mapped while it runs.
    Mapping(AttentionAt, u64),
}

impl Engine {
    /// Opens a run or preset on the window's device; saves go to `out`, or to the default for its name.
    pub fn new(gpu: &Gpu, what: &Path, out: Option<&Path>) -> Result<Engine> {
        let mut opened = open(gpu, what)?;
        let at = AttentionAt::default();
        let trainer = opened.trainer_mut().expect("no snapshot is being read");
        let map = block_on(gpu, trainer.show_attention(Some(at)))?.expect("a map was asked for");
        block_on(gpu, trainer.show_attention(None))?;
        let look = Look { map, at, words: vec![], shown: None, stage: Stage::Resting(Instant::now() - EVERY) };
        let (table, writer, prompt) = (Table::new(gpu, &opened)?, Writer::new(gpu, &opened)?, Prompt::new(gpu, &opened)?);
        let step = opened.trainer.step_count();
        let (saver, history) = (Saver::new(what, &opened, out), std::mem::take(&mut opened.history));
        let learning_rate = learning_rate(&opened.config.train, step);
        Ok(Engine {
            gpu: gpu.clone(),
            opened,
            look,
            table,
            writer,
            prompt,
            saver,
            loss: Curve::of_history(&history),
            history,
            clock: StepClock::new(step),
            learning_rate,
            tokens_per_second: 0.0,
            step,
            running: true,
            last: u64::MAX,
            since: (Instant::now(), step),
        })
    }

    /// The work of one frame, at most `budget` of device time. Returns how long the slices took that have ended.
    pub fn frame(&mut self, budget: Duration) -> Result<Duration> {
        let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("studio") });
        let at = self.opened.trainer.step_count();
        let holds = self.saver.holds();
        // Finishes an update that has begun, because the weights are saved between updates.
        let trains = if holds { matches!(self.opened.trainer.next_phase(), Some(NORM | UPDATE)) } else { self.running && at < self.last };
        let (writes, answers) = (self.writer.wants(self.step)?, self.prompt.wants(&self.opened, self.step)?);
        // Training gets most of the budget; idle parts leave theirs to the others.
        let shares = [8.0, 1.0, 1.0].iter().zip([trains, writes, answers]).map(|(&share, busy)| if busy { share } else { 0.0 });
        let shares: Vec<f64> = shares.collect();
        let share = |index: usize| Budget::time(budget.mul_f64(shares[index] / shares.iter().sum::<f64>().max(1.0)));
        let looking = self.look(&mut encoder)?;
        let mut tickets = vec![];
        if trains && let Some(trainer) = Rc::get_mut(&mut self.opened.trainer) {
            let steps = if looking || holds { 1 } else { self.last - at };
            tickets.push((0, trainer.encode(&mut encoder, &self.opened.corpus.train, share(0).steps(steps))?));
        }
        if writes {
            tickets.push((1, self.writer.encode(&mut encoder, share(1))?));
        }
        if answers {
            tickets.push((2, self.prompt.encode(&mut encoder, share(2))?));
        }
        self.gpu.queue().submit([encoder.finish()]);
        let mut took = Duration::ZERO;
        for (who, ticket) in tickets {
            if ticket.dispatches() > 0 {
                took += self.last_slice(who).unwrap_or_default();
            }
            ticket.submitted();
        }
        self.poll(!trains || holds)?;
        self.saver.poll(&self.gpu, &self.opened, (self.step, &self.history), budget)?;
        Ok(took)
    }

    fn last_slice(&self, who: usize) -> Option<Duration> {
        match who {
            0 => self.opened.trainer.session.guest.runner.last_slice(),
            1 => self.writer.generator.last_slice(),
            _ => self.prompt.generator.last_slice(),
        }
    }

    /// Polls for results and reports.
    fn poll(&mut self, rests: bool) -> Result<()> {
        if let Some(trainer) = Rc::get_mut(&mut self.opened.trainer) {
            let mut reports = vec![];
            let polled = loop {
                match trainer.poll() {
                    Ok(Some(report)) => reports.push(report),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            if let Some(last) = reports.last() {
                let when = trainer.ended().filter(|(step, _)| *step == last.step).map_or_else(Instant::now, |(_, when)| when);
                self.clock.tick(last.step, when);
            }
            reports.iter().for_each(|report| self.take(report));
            polled?;
        }
        if rests {
            self.clock.rest();
        }
        self.table.poll();
        self.writer.poll(&self.opened)?;
        self.prompt.poll(&self.opened)?;
        let seconds = self.since.0.elapsed().as_secs_f64();
        if seconds > 1.0 && (self.step > self.since.1 || !self.running) {
            let tokens = self.step.saturating_sub(self.since.1) * self.opened.trainer.tokens_per_step();
            self.tokens_per_second = tokens as f64 / seconds;
            self.since = (Instant::now(), self.step);
        }
        Ok(())
    }

    fn take(&mut self, report: &StepReport) {
        self.step = report.step;
        self.learning_rate = report.learning_rate;
        self.loss.push(report.step as f64, f64::from(report.loss));
        let train = &self.opened.config.train;
        if train.logs(report.step) {
            self.history.push(Record::of(report, train.storage, self.opened.trainer.tokens_per_step(), self.clock.ms()));
        }
    }

    /// At intervals, maps the attention of the next step and copies the embedding after it; true while a slice must end with that step.
    fn look(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<bool> {
        let look = &mut self.look;
        let Some(trainer) = Rc::get_mut(&mut self.opened.trainer).filter(|_| !self.saver.holds()) else { return Ok(false) };
        match look.stage {
            Stage::Resting(since) => {
                let due = since.elapsed() > EVERY || look.shown.is_none_or(|shown| shown.0 != look.at);
                if due && trainer.next_phase().is_none() {
                    block_on(&self.gpu, trainer.show_attention(Some(look.at)))?;
                    look.stage = Stage::Mapping(look.at, trainer.step_count());
                }
                Ok(due)
            }
            Stage::Mapping(at, step) if trainer.step_count() > step => {
                block_on(&self.gpu, trainer.show_attention(None))?;
                look.words = words(&self.opened, at, step)?;
                (look.shown, look.stage) = (Some((at, step + 1)), Stage::Resting(Instant::now()));
                self.table.copy(encoder);
                Ok(false)
            }
            Stage::Mapping(..) => Ok(true),
        }
    }
}

/// The tokens of a sample in a step's last micro-batch, which is the one that the map shows.
fn words(opened: &Opened, at: AttentionAt, step: u64) -> Result<Vec<String>> {
    let (train, data) = (&opened.config.train, &opened.corpus.train);
    let sampler = Sampler::new(train.seed, opened.config.model.seq_len, data.len())?;
    let micro = (train.grad_accumulation - 1) * train.batch_size;
    let start = sampler.start(step * opened.trainer.samples_per_step() + (micro + at.sample) as u64);
    let mut ids = vec![];
    data.window(start, opened.config.model.seq_len, &mut ids)?;
    Ok(ids.iter().map(|&id| crate::open::shown(&opened.token(id))).collect())
}

#[cfg(test)]
mod tests {
    use wgpt::Request;
    use wgpt::low_level::gpu::plan::Phase;
    use wgpt::low_level::train::checkpoint;
    use wgpt::low_level::train::checkpoint::Which;
    use wgpt::phases::{BACKWARD, FORWARD};

    use super::*;

    /// The rate that the window shows is that of the schedule, in its warm-up too, when opened and after the slider has moved.
    #[test]
    fn the_learning_rate_is_that_of_the_step() {
        let gpu = pollster::block_on(Gpu::request(&Request::default())).unwrap();
        let mut engine = Engine::new(&gpu, "shakespeare-word".as_ref(), None).unwrap();
        let mut train = engine.opened.config.train.clone();
        assert!(train.warmup_steps > 3, "the first steps warm up");
        assert_eq!(engine.learning_rate, learning_rate(&train, 0));
        assert!(engine.learning_rate < train.learning_rate / 2.0);
        let run_to = |engine: &mut Engine, step| {
            engine.last = step;
            while engine.step < step {
                engine.frame(Duration::from_millis(20)).unwrap();
            }
        };
        run_to(&mut engine, 3);
        assert_eq!(engine.learning_rate, learning_rate(&train, 2));
        train.learning_rate *= 2.0;
        engine.opened.trainer_mut().unwrap().set_learning_rate(train.learning_rate).unwrap();
        run_to(&mut engine, 4);
        assert_eq!(engine.learning_rate, learning_rate(&train, 3));
    }

    /// Whenever a save is requested, inside a step or paused, it contains only whole steps.
    #[test]
    fn a_save_is_of_a_whole_step_whenever_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = pollster::block_on(Gpu::request(&Request::default())).unwrap();
        let mut alone = open(&gpu, "toy".as_ref()).unwrap();
        let table = alone.trainer.session.model.pools.table.clone();
        let mut engine = Engine::new(&gpu, "toy".as_ref(), Some(&folder.path().join("run"))).unwrap();
        // Shorter than any dispatch, so that slices end at every possible place.
        let budget = Duration::from_micros(1);
        let places: [(Option<Phase>, bool); 5] =
            [(Some(FORWARD), false), (Some(BACKWARD), false), (Some(NORM), true), (Some(NORM), false), (Some(UPDATE), false)];
        for (place, paused) in places.iter().flat_map(|place| [(place, false), (place, true)]) {
            (engine.running, engine.last) = (true, u64::MAX);
            let begun = engine.opened.trainer.step_count();
            let there = |engine: &Engine| {
                let trainer = &engine.opened.trainer;
                trainer.step_count() > begun && (trainer.next_phase(), trainer.at_seam()) == *place
            };
            while !there(&engine) {
                engine.frame(budget).unwrap();
                assert!(engine.step < begun + 100, "no slice ends at {place:?}");
            }
            engine.running = !paused;
            engine.saver.ask();
            let mut frames = 0;
            while !engine.saver.is_resting() {
                engine.frame(budget).unwrap();
                frames += 1;
                assert!(!engine.saver.holds() || frames < 10_000, "no save comes of {place:?}");
            }
            let (step, run) = engine.saver.last.clone().unwrap().unwrap();
            assert!(step > begun && (!paused || engine.opened.trainer.step_count() == step), "{place:?}");
            let trainer = alone.trainer_mut().unwrap();
            while trainer.step_count() < step {
                let corpus = &engine.opened.corpus.train;
                assert!(trainer.step(corpus, false, &|| false).unwrap());
            }
            let (truth, saved) = (block_on(&gpu, trainer.snapshot()).unwrap(), checkpoint::find(&run, Which::Latest).unwrap());
            assert_eq!(checkpoint::read_meta(&saved).unwrap().step, step);
            assert!(checkpoint::read_weights(&saved, &table).unwrap() == truth.weights, "step {step}, {place:?}");
            assert!(checkpoint::read_moments(&saved, &table, 2).unwrap() == truth.moments, "step {step}, {place:?}");
        }
    }
}
