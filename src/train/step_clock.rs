//! Time per step, measured between the ends of steps on the device: the time at which reports are taken says little.

use std::time::Duration;

use web_time::Instant;

/// The mean time of the steps between the last two ticks.
pub struct StepClock {
    last: Instant,
    step: u64,
    ms: f64,
}

impl StepClock {
    /// Starts now, after `step` steps.
    pub fn new(step: u64) -> StepClock {
        StepClock { last: Instant::now(), step, ms: 0.0 }
    }

    /// Notes that the steps up to this one had ended at this time.
    pub fn tick(&mut self, step: u64, when: Instant) {
        if step > self.step {
            self.ms = when.saturating_duration_since(self.last).as_secs_f64() * 1e3 / (step - self.step) as f64;
        }
        (self.last, self.step) = (self.last.max(when), step);
    }

    /// Excludes the time since the last tick, which was not spent on steps.
    pub fn rest(&mut self) {
        self.last = Instant::now();
    }

    /// Milliseconds of a step: the mean over the steps of the last tick; 0 before the first.
    pub fn ms(&self) -> f64 {
        self.ms
    }

    /// Time since the last tick or rest.
    pub fn elapsed(&self) -> Duration {
        self.last.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_take_what_they_took_whenever_their_reports_are_taken() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut clock = StepClock { last: begun, step: 0, ms: 0.0 };
        // Two equal steps, whose reports were taken in quick succession; then three that were reported together.
        let ticks = [(1, 25, 25_000.0), (2, 50, 25_000.0), (5, 80, 10_000.0), (5, 80, 10_000.0)];
        for (step, seconds, ms) in ticks {
            clock.tick(step, at(seconds));
            assert_eq!(clock.ms, ms, "step {step}");
        }
        // Time between a validation and the next step counts for neither.
        clock.last = at(100);
        clock.tick(6, at(110));
        assert_eq!(clock.ms, 10_000.0);
    }

    #[test]
    fn a_pause_is_no_part_of_a_step() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut clock = StepClock { last: begun, step: 10, ms: 0.0 };
        clock.tick(12, at(4));
        assert_eq!(clock.ms, 2000.0);
        clock.last = at(100);
        clock.tick(13, at(101));
        assert_eq!(clock.ms, 1000.0);
    }
}
