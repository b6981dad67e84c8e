//! Estimates how long the rest of a run will take, from what it took so far.

use std::time::Duration;

use crate::train::config::TrainConfig;

/// Durations of steps and validations.
pub struct StepTimes {
    steps: u64,
    eval_every: u64,
    /// Batches of a validation; 0 without validations.
    eval_batches: u64,
    /// Batches of a step.
    accumulation: u64,
    /// Steps reported after the first report, whose steps include the driver's compilation.
    known: u64,
    /// The mean duration that the steps of the first report share.
    first: Option<f64>,
    /// Total duration of the known steps.
    seconds: f64,
    /// Duration of the last validation, in seconds.
    validation: Option<f64>,
}

/// Cost of forward and backward together, in forward passes: the backward pass has two products for each of the forward pass.
const PASSES: f64 = 3.0;

impl StepTimes {
    pub fn new(train: &TrainConfig, eval_batches: u64) -> StepTimes {
        let (steps, eval_every, accumulation) = (train.steps, train.eval_every, train.grad_accumulation as u64);
        StepTimes { steps, eval_every, eval_batches, accumulation, known: 0, first: None, seconds: 0.0, validation: None }
    }

    pub fn step(&mut self, ms: f64) {
        if *self.first.get_or_insert(ms) != ms && ms.is_finite() {
            self.known += 1;
            self.seconds += ms / 1e3;
        }
    }

    pub fn validated(&mut self, time: Duration) {
        self.validation = Some(time.as_secs_f64());
    }

    /// The time from the end of this step to the end of the run. `validating` is the finished part of a validation in progress.
    pub fn left(&self, step: u64, validating: Option<f64>) -> Option<Duration> {
        if self.known == 0 || (step >= self.steps && validating.is_none()) {
            return None;
        }
        let each = self.seconds / self.known as f64;
        let guess = each * self.eval_batches as f64 / (PASSES * self.accumulation as f64);
        let validations = self.validations_after(step) as f64 + validating.map_or(0.0, |done| (1.0 - done).max(0.0));
        let seconds = each * self.steps.saturating_sub(step) as f64 + validations * self.validation.unwrap_or(guess);
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// Validations after this step: one every `eval_every` steps, and one at the end.
    fn validations_after(&self, step: u64) -> u64 {
        if self.eval_batches == 0 || step >= self.steps {
            return 0;
        }
        let every = |steps: u64| steps.checked_div(self.eval_every).unwrap_or(0);
        let at_end = self.eval_every == 0 || !self.steps.is_multiple_of(self.eval_every);
        every(self.steps) - every(step) + u64::from(at_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(steps: u64, eval_every: u64, eval_batches: u64) -> StepTimes {
        StepTimes::new(&TrainConfig { steps, eval_every, grad_accumulation: 2, ..TrainConfig::default() }, eval_batches)
    }

    #[test]
    fn validations_are_in_the_time_left() {
        let mut pace = pace(100, 30, 60);
        assert_eq!(pace.left(1, None), None);
        // Two steps in one report, including the driver's compilation.
        pace.step(9000.0);
        pace.step(9000.0);
        assert_eq!(pace.left(1, None), None);
        pace.step(1000.0);
        pace.step(3000.0);
        // 97 steps of 2 s, and validations at 30, 60, 90 and 100, each 60 batches of a third of half a step.
        assert_eq!(pace.left(3, None).unwrap().as_secs_f64().round(), 97.0 * 2.0 + 4.0 * 60.0 * 2.0 / 6.0);
        // One validation was measured. A quarter of the next one is done.
        pace.validated(Duration::from_secs(100));
        assert_eq!(pace.left(30, None).unwrap().as_secs_f64(), 70.0 * 2.0 + 3.0 * 100.0);
        assert_eq!(pace.left(60, Some(0.25)).unwrap().as_secs_f64(), 40.0 * 2.0 + 2.0 * 100.0 + 75.0);
        assert_eq!(pace.left(100, Some(0.5)).unwrap().as_secs_f64(), 50.0);
        assert_eq!(pace.left(100, None), None);
    }

    #[test]
    fn validations_are_those_that_a_run_makes() {
        let made = |steps: u64, every: u64, batches: u64, step: u64| pace(steps, every, batches).validations_after(step);
        assert_eq!((made(100, 0, 5, 10), made(100, 0, 0, 10), made(100, 50, 5, 10), made(100, 50, 5, 50)), (1, 0, 2, 1));
        assert_eq!((made(100, 50, 5, 99), made(100, 50, 5, 100), made(101, 50, 5, 100), made(7, 100, 5, 0)), (1, 0, 1, 1));
    }
}
