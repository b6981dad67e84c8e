//! The learning rate of a step: a pure function, so that a resumed run continues exactly where it stopped.

use std::f64::consts::PI;

use super::config::{Schedule, TrainConfig};

/// The learning rate of `step`, counted from 0.
///
/// It rises linearly over the first `warmup_steps`, then stays (`constant`) or falls to `min_learning_rate` at
/// `steps` along half a cosine or a line, and stays there. Formulas as in nanoGPT's `get_lr`: the first step has
/// lr / (warmup + 1), so no step is wasted on a rate of zero.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    let (high, low) = (config.learning_rate, config.min_learning_rate);
    if step < config.warmup_steps {
        return high * (step as f64 + 1.0) / (config.warmup_steps as f64 + 1.0);
    }
    let past = (step - config.warmup_steps) as f64;
    let whole = config.steps.saturating_sub(config.warmup_steps).max(1) as f64;
    let progress = (past / whole).min(1.0);
    match config.schedule {
        Schedule::Constant => high,
        Schedule::Cosine => low + (high - low) * 0.5 * (1.0 + (PI * progress).cos()),
        Schedule::Linear => high + (low - high) * progress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(schedule: Schedule) -> TrainConfig {
        TrainConfig { schedule, steps: 110, warmup_steps: 10, learning_rate: 1.0, min_learning_rate: 0.1, ..TrainConfig::default() }
    }

    fn close(schedule: Schedule, step: u64, expected: f64) {
        let got = learning_rate(&config(schedule), step);
        assert!((got - expected).abs() < 1e-12, "{schedule:?} at {step}: {got}, not {expected}");
    }

    #[test]
    fn warms_up_then_follows_its_curve() {
        for schedule in [Schedule::Constant, Schedule::Cosine, Schedule::Linear] {
            close(schedule, 0, 1.0 / 11.0);
            close(schedule, 9, 10.0 / 11.0);
            close(schedule, 10, 1.0);
        }
        close(Schedule::Constant, 1_000, 1.0);
        close(Schedule::Cosine, 60, 0.55);
        close(Schedule::Cosine, 35, 0.1 + 0.9 * 0.5 * (1.0 + (PI / 4.0).cos()));
        close(Schedule::Linear, 35, 0.775);
        for schedule in [Schedule::Cosine, Schedule::Linear] {
            close(schedule, 110, 0.1);
            close(schedule, u64::MAX, 0.1);
        }
    }

    #[test]
    fn odd_lengths_stay_finite() {
        for (steps, warmup_steps) in [(1, 0), (5, 5), (5, 9), (1, 1), (0, 0), (1, u64::MAX)] {
            for schedule in [Schedule::Constant, Schedule::Cosine, Schedule::Linear] {
                for step in [0, 1, 4, 5, 9, 10, u64::MAX] {
                    let lr = learning_rate(&TrainConfig { steps, warmup_steps, ..config(schedule) }, step);
                    assert!((0.0..=1.0).contains(&lr), "{schedule:?} {steps} {warmup_steps} {step}: {lr}");
                }
            }
        }
    }
}
