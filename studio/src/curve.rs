//! A series of numbers that never takes more than some thousand points, and its running mean.

/// Points that are kept; when there are more, neighbours are joined.
const MOST: usize = 2048;

/// The loss by step.
#[derive(Default)]
pub struct Curve {
    /// (step, loss), each the mean of `every` steps.
    pub raw: Vec<[f64; 2]>,
    /// Its running mean.
    pub smooth: Vec<[f64; 2]>,
    every: usize,
    /// The sum of what will be the next point, and of how many.
    next: ([f64; 2], usize),
    mean: f64,
    weight: f64,
}

impl Curve {
    pub fn push(&mut self, step: f64, value: f64) {
        self.every = self.every.max(1);
        // An exponential mean without a bias towards where it began, over some ten steps.
        self.mean += 0.1 * (value - self.mean);
        self.weight += 0.1 * (1.0 - self.weight);
        let (sum, count) = &mut self.next;
        *sum = [sum[0] + step, sum[1] + value];
        *count += 1;
        if *count < self.every {
            return;
        }
        let count = *count as f64;
        self.raw.push([self.next.0[0] / count, self.next.0[1] / count]);
        self.smooth.push([self.next.0[0] / count, self.mean / self.weight]);
        self.next = Default::default();
        if self.raw.len() >= MOST {
            self.every *= 2;
            for points in [&mut self.raw, &mut self.smooth] {
                let pairs = points.chunks(2).map(|pair| [0, 1].map(|i| pair.iter().map(|point| point[i]).sum::<f64>() / pair.len() as f64));
                *points = pairs.collect();
            }
        }
    }

    /// The mean over the last steps.
    pub fn last(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.mean / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_stays_short_and_keeps_its_shape() {
        let mut curve = Curve::default();
        (1..=100_000).for_each(|step| curve.push(f64::from(step), 2.0 * f64::from(step)));
        assert!(curve.raw.len() < MOST && curve.raw.len() >= MOST / 4, "{}", curve.raw.len());
        assert!(curve.raw.iter().all(|point| (point[1] - 2.0 * point[0]).abs() < 1e-6));
        assert!(curve.raw.windows(2).all(|pair| pair[0][0] < pair[1][0]));
    }

    #[test]
    fn the_mean_of_a_constant_is_that_from_the_first_step_on() {
        let mut curve = Curve::default();
        assert_eq!(curve.last(), None);
        (1..40).for_each(|step| curve.push(f64::from(step), 7.0));
        assert!(curve.smooth.iter().all(|point| (point[1] - 7.0).abs() < 1e-9));
    }
}
