//! Sums of profile rows, compared with the peak rates of the adapter.

use serde::Serialize;

use super::ProfileRow;

/// The peak rates of an adapter, measured by [`crate::gpu::probe::roof`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Roof {
    /// Floating-point operations per second, a multiply-add counted as two.
    pub flops: f64,
    /// Bytes read and written per second by a copy; on graphics cards between buffers larger than their caches.
    pub bandwidth: f64,
}

impl Roof {
    /// The least time to compute this many FLOPs and move this many bytes, seconds.
    pub fn least_seconds(&self, flops: u64, bytes: u64) -> f64 {
        (flops as f64 / self.flops.max(1.0)).max(bytes as f64 / self.bandwidth.max(1.0))
    }

    /// The highest rate at an arithmetic intensity, in FLOPs per second; the intensity is in FLOPs per byte.
    pub fn attainable(&self, intensity: f64) -> f64 {
        self.flops.min(intensity * self.bandwidth)
    }
}

/// Rows of one kernel, or of one layer.
#[derive(Debug, Clone, Serialize)]
pub struct KernelGroup {
    /// What its rows have in common, as the caller of [`group`] named it.
    pub name: String,
    /// The variants that the kernel ran in.
    pub variants: Vec<&'static str>,
    /// Dispatches and clears in a step.
    pub calls: u32,
    /// Seconds in a step.
    pub seconds: f64,
    /// FLOPs in a step.
    pub flops: u64,
    /// Bytes in a step that its rows must read and write at least.
    pub bytes: u64,
    /// The sum of the least times of its rows, seconds.
    pub least_seconds: f64,
}

impl KernelGroup {
    /// Percent of the adapter's roof. More than 100 is possible where caches serve the data.
    pub fn percent_of_roof(&self) -> f64 {
        if self.seconds > 0.0 { 100.0 * self.least_seconds / self.seconds } else { 0.0 }
    }

    /// FLOPs per byte.
    pub fn intensity(&self) -> f64 {
        self.flops as f64 / (self.bytes as f64).max(1.0)
    }

    /// Bytes per second.
    pub fn bandwidth(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes as f64 / self.seconds } else { 0.0 }
    }

    /// FLOPs per second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.flops as f64 / self.seconds } else { 0.0 }
    }

    fn add(&mut self, row: &ProfileRow, roof: &Roof) {
        if !row.variant.is_empty() && !self.variants.contains(&row.variant) {
            self.variants.push(row.variant);
        }
        self.calls += row.calls;
        self.seconds += row.seconds;
        self.flops += row.flops;
        self.bytes += row.bytes;
        self.least_seconds += roof.least_seconds(row.flops, row.bytes);
    }
}

/// Sums the rows of each name, in the order of first appearance.
pub fn group(rows: &[ProfileRow], roof: &Roof, name: impl Fn(&ProfileRow) -> String) -> Vec<KernelGroup> {
    let mut groups: Vec<KernelGroup> = vec![];
    for row in rows {
        let name = name(row);
        let index = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            groups.push(KernelGroup { name, variants: vec![], calls: 0, seconds: 0.0, flops: 0, bytes: 0, least_seconds: 0.0 });
            groups.len() - 1
        });
        groups[index].add(row, roof);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &str, seconds: f64, flops: u64, bytes: u64) -> ProfileRow {
        ProfileRow {
            label: format!("h.0 {kernel}"),
            kernel: kernel.into(),
            scope: "h.0".into(),
            variant: "plain",
            phase: "forward",
            calls: 1,
            seconds,
            flops,
            bytes,
            begin: 0.0,
            last: seconds,
        }
    }

    #[test]
    fn groups_add_up_against_the_roof() {
        let roof = Roof { flops: 100.0, bandwidth: 10.0 };
        // Bound by memory, by arithmetic, and by memory.
        let rows = [row("a.f", 2.0, 50, 10), row("b.f", 4.0, 200, 10), row("a.f", 3.0, 0, 20)];
        let groups = group(&rows, &roof, |row| row.kernel.clone());
        let names: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["a.f", "b.f"]);
        let (a, b) = (&groups[0], &groups[1]);
        assert_eq!((a.calls, a.seconds, a.flops, a.bytes, &a.variants[..]), (2, 5.0, 50, 30, &["plain"][..]));
        assert_eq!((a.percent_of_roof(), b.percent_of_roof()), (60.0, 50.0));
        assert_eq!((b.rate(), b.bandwidth(), b.intensity()), (50.0, 2.5, 20.0));
        assert_eq!((roof.attainable(1.0), roof.attainable(20.0)), (10.0, 100.0));
        assert_eq!(group(&rows, &roof, |_| String::new())[0].calls, 3);
    }
}
