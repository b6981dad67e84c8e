//! The losses of a run by step: averaged down to at most 2,048 points, with their running mean, and the validation losses of its metrics.

use wgpt::low_level::train::metrics::Record;

/// The most points; when they are reached, pairs of neighbours are averaged.
const MOST: usize = 2048;

/// The loss by step.
#[derive(Default)]
pub struct Curve {
    /// (step, loss), each the mean of `every` steps.
    pub raw: Vec<[f64; 2]>,
    /// Running mean of `raw`: each point averaged with equally many on either side, so that it does not lag behind a falling loss.
    pub smooth: Vec<[f64; 2]>,
    /// (step, validation loss), as the opened run has recorded them.
    pub validation: Vec<[f64; 2]>,
    every: usize,
    /// Sums of the steps and values of the next point, and how many they contain.
    next: ([f64; 2], usize),
}

/// Points on either side in the running mean; fewer near the ends.
const SIDE: usize = 5;

impl Curve {
    /// The curve of the steps that a run has recorded.
    pub fn of_history(records: &[Record]) -> Curve {
        let mut curve = Curve::default();
        for record in records {
            let at = |loss: f64| [record.step as f64, loss];
            curve.validation.extend(record.val_loss.map(at));
            record.loss.into_iter().for_each(|loss| curve.push(record.step as f64, loss));
        }
        curve
    }

    pub fn push(&mut self, step: f64, value: f64) {
        self.every = self.every.max(1);
        let (sum, count) = &mut self.next;
        *sum = [sum[0] + step, sum[1] + value];
        *count += 1;
        if *count < self.every {
            return;
        }
        let count = *count as f64;
        self.raw.push([self.next.0[0] / count, self.next.0[1] / count]);
        self.next = Default::default();
        if self.raw.len() >= MOST {
            self.every *= 2;
            let pairs = self.raw.chunks(2).map(|pair| [0, 1].map(|i| pair.iter().map(|point| point[i]).sum::<f64>() / pair.len() as f64));
            self.raw = pairs.collect();
            self.smooth.clear();
        }
        // Only the last means change.
        self.smooth.truncate(self.raw.len().saturating_sub(SIDE + 1));
        for index in self.smooth.len()..self.raw.len() {
            let side = SIDE.min(index).min(self.raw.len() - 1 - index);
            let around = &self.raw[index - side..=index + side];
            let mean = around.iter().map(|point| point[1]).sum::<f64>() / around.len() as f64;
            self.smooth.push([self.raw[index][0], mean]);
        }
    }

    /// The mean over the last ten points.
    pub fn last(&self) -> Option<f64> {
        let last = &self.raw[self.raw.len().saturating_sub(10)..];
        (!last.is_empty()).then(|| last.iter().map(|point| point[1]).sum::<f64>() / last.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_gives_its_losses_and_goes_on() {
        let record = |step, loss, val_loss| Record { step, loss, val_loss, ..Record::default() };
        // Step 0 is before the first update: it has a validation loss only.
        let mut curve = Curve::of_history(&[record(0, None, Some(2.0)), record(10, Some(1.5), None), record(20, Some(1.0), Some(1.2))]);
        assert_eq!(curve.raw, [[10.0, 1.5], [20.0, 1.0]]);
        assert_eq!(curve.validation, [[0.0, 2.0], [20.0, 1.2]]);
        curve.push(21.0, 0.9);
        assert_eq!(curve.raw.last(), Some(&[21.0, 0.9]));
        assert_eq!(Curve::of_history(&[]).last(), None);
    }

    #[test]
    fn a_long_curve_stays_short_and_keeps_its_shape() {
        let mut curve = Curve::default();
        (1..=100_000).for_each(|step| curve.push(f64::from(step), 2.0 * f64::from(step)));
        assert!(curve.raw.len() < MOST && curve.raw.len() >= MOST / 4, "{}", curve.raw.len());
        assert!(curve.raw.iter().all(|point| (point[1] - 2.0 * point[0]).abs() < 1e-6));
        assert!(curve.raw.windows(2).all(|pair| pair[0][0] < pair[1][0]));
    }

    #[test]
    fn the_running_mean_of_a_slope_is_the_slope() {
        let mut curve = Curve::default();
        (1..200).for_each(|step| curve.push(f64::from(step), 300.0 - f64::from(step)));
        assert!(curve.smooth.len() == curve.raw.len());
        assert!(curve.smooth.iter().all(|point| (point[1] - (300.0 - point[0])).abs() < 1e-9));
    }

    #[test]
    fn the_mean_of_a_constant_is_that_from_the_first_step_on() {
        let mut curve = Curve::default();
        assert_eq!(curve.last(), None);
        (1..40).for_each(|step| curve.push(f64::from(step), 7.0));
        assert!(curve.smooth.iter().all(|point| (point[1] - 7.0).abs() < 1e-9));
    }
}
