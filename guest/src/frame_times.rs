//! Frame times, and how many frames were late.

use std::fmt;
use std::time::{Duration, Instant};

/// Times from one frame to the next.
pub struct FrameTimes {
    last: Option<Instant>,
    /// Frame times of the current second and of the whole run, in milliseconds; a day at 60 frames a second takes 20 MB.
    second: Vec<f32>,
    all: Vec<f32>,
    /// The display's refresh interval in milliseconds, if known: how long a frame should take.
    refresh: Option<f32>,
}

impl FrameTimes {
    pub fn new(refresh: Option<Duration>) -> FrameTimes {
        FrameTimes { last: None, second: vec![], all: vec![], refresh: refresh.map(milliseconds) }
    }

    /// Call when a frame was presented.
    pub fn presented(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            let time = milliseconds(now - last);
            self.second.push(time);
            self.all.push(time);
        }
    }

    /// Call when the window was hidden: the time until the next frame does not count.
    pub fn interrupted(&mut self) {
        self.last = None;
    }

    /// The frame times since the last call.
    pub fn second(&mut self) -> Summary {
        Summary::of(std::mem::take(&mut self.second), self.refresh)
    }

    pub fn all(&self) -> Summary {
        Summary::of(self.all.clone(), self.refresh)
    }
}

/// Statistics of frame times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    pub frames: usize,
    pub median: f32,
    pub most: f32,
    pub longest: f32,
    /// The share of frames that took more than 1.5 times the refresh interval, or 1.5 times the median if that is unknown.
    pub late: f32,
}

impl Summary {
    fn of(mut times: Vec<f32>, refresh: Option<f32>) -> Summary {
        times.sort_by(f32::total_cmp);
        let Some(&longest) = times.last() else { return Summary::default() };
        let median = times[times.len() / 2];
        let due = 1.5 * refresh.unwrap_or(median);
        let late = times.iter().filter(|&&time| time > due).count() as f32 / times.len() as f32;
        Summary { frames: times.len(), median, most: times[(times.len() - 1) * 95 / 100], longest, late }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { frames, median, most, longest, late } = self;
        let late = late * 100.0;
        write!(f, "{frames} frames: median {median:.1} ms, 95 % within {most:.1}, longest {longest:.1}, {late:.1} % over 1.5 frames")
    }
}

fn milliseconds(time: Duration) -> f32 {
    time.as_secs_f32() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_is_late() {
        let times: Vec<f32> = (1..=100).map(|i| i as f32).collect();
        let summary = Summary::of(times.clone(), Some(60.0));
        assert_eq!(summary, Summary { frames: 100, median: 51.0, most: 95.0, longest: 100.0, late: 0.1 });
        assert_eq!(Summary::of(times, None).late, 0.24);
        assert_eq!(Summary::of(vec![], None), Summary::default());
    }
}
