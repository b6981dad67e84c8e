//! Predicts how long commands take on this device from the measured times of earlier slices.

use std::collections::VecDeque;

/// Commands of one recorded work within a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkCost {
    pub work: usize,
    /// FLOPs plus priced bytes, see [`super::commands::Command`].
    pub cost: f64,
}

/// Predicts seconds from costs. Each recorded work has its own rate, because kernels differ tenfold in efficiency.
pub(crate) struct Pace {
    /// Seconds per unit of cost for works that were not measured yet.
    guess: f64,
    works: Vec<WorkRate>,
    /// The driver compiles a kernel only when it first runs.
    lazy: bool,
    /// The recent slices without timestamps, with the seconds from the begin of each until its end was noticed.
    sights: VecDeque<(Vec<WorkCost>, f64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct WorkRate {
    ran: bool,
    /// Seconds per unit of cost; 0 while unknown.
    pace: f64,
}

/// Slices below this cost are too short to measure.
const SMALL: f64 = 1e5;
/// The number of recent slices that the latency is estimated from.
const SIGHTS: usize = 24;

impl Pace {
    pub fn new(software: bool) -> Pace {
        Pace { guess: if software { 1e-9 } else { 1e-11 }, works: vec![], lazy: software, sights: VecDeque::new() }
    }

    /// Predicted seconds of commands with this cost.
    pub fn seconds(&self, part: WorkCost) -> f64 {
        let known = self.works.get(part.work).map_or(0.0, |work| work.pace);
        part.cost * if known > 0.0 { known } else { self.guess }
    }

    /// Records that a slice took `seconds`.
    pub fn learn(&mut self, parts: &[WorkCost], seconds: f64) {
        let cost: f64 = parts.iter().map(|part| part.cost).sum();
        let most = parts.iter().map(|part| part.work + 1).max().unwrap_or(0);
        self.works.resize(self.works.len().max(most), WorkRate::default());
        let new = parts.iter().any(|part| !self.works[part.work].ran);
        parts.iter().for_each(|part| self.works[part.work].ran = true);
        if cost < SMALL || self.lazy && new {
            return;
        }
        let measured = seconds / cost;
        self.guess = if measured > self.guess { measured } else { self.guess + 0.25 * (measured - self.guess) };
        // Distributes the error of the whole slice over its parts by the square of each part's share, so that the same slice would now be
        // predicted exactly. A slower measurement counts in full, because a slice must not overrun twice; a faster one counts by half.
        let predicted: f64 = parts.iter().map(|&part| self.seconds(part)).sum();
        let squares: f64 = parts.iter().map(|&part| (self.seconds(part) / predicted).powi(2)).sum();
        let missed = seconds / predicted - 1.0;
        let paces: Vec<f64> = parts
            .iter()
            .map(|&part| {
                let change = missed * self.seconds(part) / predicted / squares;
                self.seconds(part) / part.cost * (1.0 + if change > 0.0 { change.min(9.0) } else { 0.5 * change.max(-0.9) })
            })
            .collect();
        for (part, pace) in parts.iter().zip(paces).filter(|(_, pace)| pace.is_finite()) {
            self.works[part.work].pace = pace;
        }
    }

    /// The polling interval of the host, in seconds: what the time until a slice is seen to have ended measures if it does not depend on
    /// the work. Fits a straight line through the recent slices; 0 unless work explains almost nothing of the time.
    fn latency(&self) -> f64 {
        let work = |parts: &[WorkCost]| parts.iter().map(|&part| self.seconds(part)).sum::<f64>();
        let points: Vec<(f64, f64)> = self.sights.iter().map(|(parts, seen)| (work(parts), *seen)).collect();
        let count = points.len() as f64;
        let (x, y) = (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
        let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
        if points.len() < SIGHTS / 3 || spread < count * (0.2 * x).powi(2) {
            return 0.0;
        }
        let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
        if slope < 0.25 { (y - slope.max(0.0) * x).max(0.0) } else { 0.0 }
    }

    /// As [`Pace::learn`], without timestamps: the host noticed the end `seconds` after the begin, possibly long after the real end.
    pub fn learn_seen(&mut self, parts: &[WorkCost], seconds: f64) {
        self.sights.push_back((parts.to_vec(), seconds));
        if self.sights.len() > SIGHTS {
            self.sights.pop_front();
        }
        self.learn(parts, (seconds - self.latency()).max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(work: usize, cost: f64) -> WorkCost {
        WorkCost { work, cost }
    }

    #[test]
    fn works_of_different_pace_are_told_apart() {
        let truth = [1e-10, 1e-9, 3e-10];
        let mut pace = Pace::new(false);
        let slices = [vec![part(0, 4e6), part(1, 1e6)], vec![part(1, 2e6), part(2, 5e6)], vec![part(2, 1e6), part(0, 9e6)]];
        for _ in 0..200 {
            for slice in &slices {
                pace.learn(slice, slice.iter().map(|part| part.cost * truth[part.work]).sum());
            }
        }
        for (work, truth) in truth.iter().enumerate() {
            assert!((pace.seconds(part(work, 1.0)) / truth - 1.0).abs() < 0.05, "{work}: {:e}", pace.seconds(part(work, 1.0)));
        }
    }

    #[test]
    fn slower_counts_at_once_and_the_first_run_not_at_all_where_it_compiles() {
        let mut pace = Pace::new(true);
        pace.learn(&[part(0, 1e7)], 3.0);
        assert_eq!(pace.seconds(part(0, 1e7)), 1e-2);
        pace.learn(&[part(0, 1e7)], 5e-2);
        assert!((pace.seconds(part(0, 1e7)) - 5e-2).abs() < 1e-9);
    }

    /// A host that polls once a frame sees every slice end after a whole frame: slices must not shrink to nothing because of that.
    #[test]
    fn the_time_between_two_looks_is_not_taken_for_work() {
        let (frame, truth) = (16e-3, 1e-10);
        let mut pace = Pace::new(false);
        let mut sizes = vec![];
        for index in 0..400 {
            let budget = if index % 4 == 3 { 4e-3 } else { 8e-3 };
            let cost = budget / pace.seconds(part(0, 1.0));
            let looks = (cost * truth / frame).ceil().max(1.0);
            pace.learn_seen(&[part(0, cost)], looks * frame);
            sizes.push(cost * truth);
        }
        let mean = sizes[200..].iter().sum::<f64>() / 200.0;
        assert!((2e-3..40e-3).contains(&mean), "slices of {mean} s");
    }

    #[test]
    fn a_host_that_waits_is_believed() {
        let mut pace = Pace::new(false);
        for index in 0..100 {
            let cost = if index % 4 == 3 { 4e-3 } else { 8e-3 } / pace.seconds(part(0, 1.0));
            pace.learn_seen(&[part(0, cost)], cost * 5e-10);
        }
        assert!((pace.seconds(part(0, 1.0)) / 5e-10 - 1.0).abs() < 0.01);
    }
}
