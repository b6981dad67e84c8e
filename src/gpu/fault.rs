//! Fault injection for tests: in builds with debug assertions, a device refuses an allocation, or is lost at a submit.
//!
//! For a device that wgpt opened, allocations and submits of the whole process are counted, and two variables name those that fail, as
//! numbers from 1 and ranges: `WGPT_OUT_OF_MEMORY=7` refuses the seventh allocation, `7-` all from the seventh on; `WGPT_LOSE=20,35`
//! destroys the device at submits 20 and 35. A test of the library calls [`Gpu::refuse_allocations`] and [`Gpu::lose_at_submits`], which
//! count those of one device. A release build has none of this.

/// The faults of a device; none in a release build.
#[derive(Default)]
pub(super) struct DeviceFaults {
    #[cfg(debug_assertions)]
    armed: armed::Faults,
}

#[cfg_attr(not(debug_assertions), allow(clippy::unused_self))]
impl DeviceFaults {
    /// Those that the environment names, counted over all devices of the process.
    pub fn of_process() -> DeviceFaults {
        DeviceFaults {
            #[cfg(debug_assertions)]
            armed: armed::Faults::of_process(),
        }
    }

    /// Counts an allocation; [`DeviceFaults::refused`] then says whether it counts as failed.
    pub fn allocation(&self) {
        #[cfg(debug_assertions)]
        self.armed.allocation();
    }

    /// Whether an allocation was refused since the last call.
    pub fn refused(&self) -> bool {
        #[cfg(debug_assertions)]
        return self.armed.refused();
        #[cfg(not(debug_assertions))]
        false
    }

    /// Counts a submit; true if the device is to be lost before it.
    pub fn submit(&self) -> bool {
        #[cfg(debug_assertions)]
        return self.armed.submit();
        #[cfg(not(debug_assertions))]
        false
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::ops::RangeInclusive;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, OnceLock, PoisonError};

    use crate::gpu::Gpu;

    /// The faults of a device, and its counts.
    #[derive(Default)]
    pub struct Faults {
        counts: Arc<[Mutex<Counted>; 2]>,
        /// An allocation was refused, and no call has reported that yet.
        refused: AtomicBool,
    }

    /// How many allocations or submits there were, and which of them fail.
    #[derive(Default)]
    struct Counted {
        count: u64,
        failing: Vec<RangeInclusive<u64>>,
    }

    impl Counted {
        /// Counts one more; returns whether it fails.
        fn next(&mut self) -> bool {
            self.count += 1;
            self.failing.iter().any(|range| range.contains(&self.count))
        }

        fn of_variable(name: &str) -> Mutex<Counted> {
            let text = std::env::var(name).unwrap_or_default();
            let parts = text.split(',').filter(|part| !part.is_empty());
            let failing = parts.map(|part| range(part).unwrap_or_else(|| panic!("{name} is `{text}`, as in 7,20-25,30- is needed")));
            Mutex::new(Counted { count: 0, failing: failing.collect() })
        }
    }

    /// `7`, `20-25` or `30-`.
    fn range(text: &str) -> Option<RangeInclusive<u64>> {
        let Some((from, to)) = text.split_once('-') else { return text.parse().ok().map(|at| at..=at) };
        Some(from.parse().ok()?..=if to.is_empty() { u64::MAX } else { to.parse().ok()? })
    }

    impl Faults {
        /// Those that the environment names, counted over all devices of the process.
        pub fn of_process() -> Faults {
            static COUNTS: OnceLock<Arc<[Mutex<Counted>; 2]>> = OnceLock::new();
            let counts = COUNTS.get_or_init(|| Arc::new(["WGPT_OUT_OF_MEMORY", "WGPT_LOSE"].map(Counted::of_variable)));
            Faults { counts: counts.clone(), refused: AtomicBool::new(false) }
        }

        fn counted(&self, which: usize) -> std::sync::MutexGuard<'_, Counted> {
            self.counts[which].lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub fn allocation(&self) {
            if self.counted(0).next() {
                self.refused.store(true, Ordering::Relaxed);
            }
        }

        pub fn refused(&self) -> bool {
            self.refused.swap(false, Ordering::Relaxed)
        }

        pub fn submit(&self) -> bool {
            self.counted(1).next()
        }
    }

    #[doc(hidden)] // for tests
    impl Gpu {
        /// From now on these allocations fail, counted from 1 for the next one.
        pub fn refuse_allocations(&self, numbers: RangeInclusive<u64>) {
            *self.0.faults.armed.counted(0) = Counted { count: 0, failing: vec![numbers] };
        }

        /// The device is lost at these submits, counted from 1 for the next one.
        pub fn lose_at_submits(&self, numbers: impl IntoIterator<Item = u64>) {
            let failing = numbers.into_iter().map(|at| at..=at).collect();
            *self.0.faults.armed.counted(1) = Counted { count: 0, failing };
        }

        /// Allocations and submits since they were last set, or since the device was opened.
        pub fn fault_counts(&self) -> (u64, u64) {
            (self.0.faults.armed.counted(0).count, self.0.faults.armed.counted(1).count)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn numbers_and_ranges() {
            assert_eq!([range("7"), range("20-25"), range("30-")], [Some(7..=7), Some(20..=25), Some(30..=u64::MAX)]);
            assert_eq!([range("x"), range("-"), range("3-x")], [None, None, None]);
            let mut counted = Counted { count: 0, failing: vec![2..=2, 4..=5] };
            assert_eq!([(); 6].map(|()| counted.next()), [false, true, false, true, true, false]);
        }
    }
}
