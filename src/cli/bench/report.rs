//! The results of `bench`: a Markdown table, and JSON that a later run compares with.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::output::count;
use crate::error::{Error, Result, brief, bytes};
use crate::files;
use crate::gpu::Gpu;

/// All results, with what they were measured on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BenchReport {
    version: String,
    os: String,
    adapter: String,
    backend: String,
    driver: String,
    software: bool,
    results: Vec<BenchRow>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchRow {
    /// `training gpt2`.
    pub test: String,
    /// The element type or the variant; may be empty.
    pub of: String,
    pub rate: Option<Rate>,
    /// FLOPs per second divided by the roof's, 1 at most but for errors of measurement.
    pub roof: Option<f64>,
    /// Bytes on the device.
    pub bytes: Option<u64>,
    /// Why it was not measured.
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    pub per_second: f64,
    /// `token`, `FLOP`, `B`.
    pub unit: String,
}

impl BenchRow {
    pub fn measured(test: &str, of: &str, rate: Rate) -> BenchRow {
        BenchRow { test: test.to_owned(), of: of.to_owned(), rate: Some(rate), roof: None, bytes: None, problem: None }
    }

    pub fn refused(test: &str, of: &str, problem: String) -> BenchRow {
        BenchRow { test: test.to_owned(), of: of.to_owned(), rate: None, roof: None, bytes: None, problem: Some(problem) }
    }

    fn is_of(&self, other: &BenchRow) -> bool {
        self.test == other.test && self.of == other.of
    }
}

impl BenchReport {
    pub fn new(gpu: &Gpu, results: Vec<BenchRow>) -> BenchReport {
        let info = gpu.info();
        BenchReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            adapter: info.name.clone(),
            backend: info.backend.to_string(),
            driver: gpu.driver().to_owned(),
            software: gpu.traits().software,
            results,
        }
    }

    /// Reads an earlier output of `--json`.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read or is something else.
    pub fn read(path: &Path) -> Result<BenchReport> {
        let found = files::read(path).map_err(|e| Error::file(path, e))?;
        serde_json::from_slice(&found).map_err(|e| Error::file(path, format!("is no output of `wgpt bench --json`: {}", brief(e))))
    }

    /// The lines of a Markdown table below a line about the adapter, with the rates of an earlier run if there is one.
    pub fn table(&self, before: Option<&BenchReport>) -> Vec<String> {
        let mut head = vec!["test", "of", "per second", "roof", "memory"];
        if before.is_some() {
            head.extend(["before", "ratio"]);
        }
        let mut cells: Vec<Vec<String>> = vec![head.iter().map(|&cell| cell.to_owned()).collect()];
        cells.extend(self.results.iter().map(|row| row.cells(before)));
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                // Names to the left, numbers to the right.
                if column < 2 { format!(" {cell:<width$} ") } else { format!(" {cell:>width$} ") }
            });
            format!("|{}|", padded.collect::<Vec<_>>().join("|"))
        };
        let rule = |(column, width): (usize, &usize)| if column < 2 { "-".repeat(width + 2) } else { "-".repeat(width + 1) + ":" };
        let rule = format!("|{}|", widths.iter().enumerate().map(rule).collect::<Vec<_>>().join("|"));
        let mut lines = vec![self.title("")];
        lines.extend(before.map(|before| before.title("before: ")));
        lines.extend([String::new(), line(&cells[0]), rule]);
        lines.extend(cells[1..].iter().map(line));
        let refused = self.results.iter().filter_map(|row| Some((row, row.problem.as_ref()?)));
        lines.extend(refused.map(|(row, problem)| format!("\n{} {}: {problem}", row.test, row.of)));
        lines
    }

    fn title(&self, prefix: &str) -> String {
        let BenchReport { version, os, adapter, backend, driver, .. } = self;
        let software = if self.software { ", a SOFTWARE adapter" } else { "" };
        format!("{prefix}wgpt {version} on {adapter}{software} ({backend}, driver {driver}, {os})")
    }
}

impl BenchRow {
    fn cells(&self, before: Option<&BenchReport>) -> Vec<String> {
        let optional = |cell: Option<String>| cell.unwrap_or_default();
        let rate = |rate: &Rate| scaled(rate.per_second, &rate.unit);
        let shown = self.rate.as_ref().map_or_else(|| "see below".to_owned(), rate);
        let roof = optional(self.roof.map(|share| format!("{:.0} %", 100.0 * share)));
        let mut cells = vec![self.test.clone(), self.of.clone(), shown, roof, optional(self.bytes.map(bytes))];
        if let Some(before) = before {
            let old = before.results.iter().find(|row| row.is_of(self)).and_then(|row| row.rate.as_ref());
            let ratio = old.zip(self.rate.as_ref()).map(|(old, new)| format!("{:.2}", new.per_second / old.per_second));
            cells.extend([optional(old.map(rate)), optional(ratio)]);
        }
        cells
    }
}

/// `1,721 tokens`, `30.90 TFLOP`, `2.56 TB`.
fn scaled(x: f64, unit: &str) -> String {
    if unit == "token" {
        return if x < 100.0 { format!("{x:.1} tokens") } else { format!("{} tokens", count(x.round() as u64)) };
    }
    let (prefix, scale) = [("T", 1e12), ("G", 1e9)].into_iter().find(|(_, scale)| x >= *scale).unwrap_or(("M", 1e6));
    let x = x / scale;
    if x < 100.0 { format!("{x:.2} {prefix}{unit}") } else { format!("{x:.0} {prefix}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(rates: &[(&str, f64)]) -> BenchReport {
        let row = |(of, rate): &(&str, f64)| BenchRow::measured("training x", of, Rate { per_second: *rate, unit: "token".to_owned() });
        let named = str::to_owned;
        BenchReport {
            version: named("1"),
            os: named("linux"),
            adapter: named("card"),
            backend: named("vulkan"),
            driver: named("1.2"),
            software: false,
            results: rates.iter().map(row).collect(),
        }
    }

    #[test]
    fn an_earlier_run_stands_beside_the_new_one() {
        let (old, new) = (bench(&[("f32", 1000.0), ("bf16", 10.0)]), bench(&[("bf16", 25.0), ("f32", 1500.0), ("f16", 1.0)]));
        let lines = new.table(Some(&old));
        assert!(lines[1].starts_with("before: wgpt 1 on card (vulkan"), "{lines:?}");
        assert_eq!(lines[3], "| test       | of   |   per second | roof | memory |       before | ratio |");
        assert_eq!(lines[4], "|------------|------|-------------:|-----:|-------:|-------------:|------:|");
        assert_eq!(lines[5], "| training x | bf16 |  25.0 tokens |      |        |  10.0 tokens |  2.50 |");
        assert_eq!(lines[6], "| training x | f32  | 1,500 tokens |      |        | 1,000 tokens |  1.50 |");
        assert_eq!(lines[7], "| training x | f16  |   1.0 tokens |      |        |              |       |");
    }

    #[test]
    fn rates_have_prefixes() {
        let cases = [(5.13e13, "FLOP", "51.30 TFLOP"), (2.561e12, "B", "2.56 TB"), (4.5e11, "B", "450 GB"), (1.2e7, "FLOP", "12.00 MFLOP")];
        cases.iter().for_each(|(x, unit, text)| assert_eq!(scaled(*x, unit), *text));
    }

    #[test]
    fn a_refusal_is_a_row_and_a_line() {
        let mut found = bench(&[]);
        found.results.push(BenchRow::refused("training gpt2", "f32", "too large".to_owned()));
        let lines = found.table(None);
        assert!(lines[4].contains("see below") && lines.last().unwrap().ends_with("training gpt2 f32: too large"), "{lines:?}");
    }
}
