//! The self-test of an adapter and its driver: probes of known faults, every kernel in every variant against its reference implementation,
//! the gradients of a whole model, and determinism.
//!
//! A *case* is a function that checks [`Trial`](trial::Trial)s of one kernel file at some sizes. The kernel tests (tests/kernels) run all
//! cases; `wgpt selftest` runs the trials of each file's `quick`.

pub mod adamw;
pub mod attention;
pub mod attention_map;
pub mod cached_attention;
pub mod cast;
pub mod cross_entropy;
mod driver;
pub mod dropout;
pub mod embedding;
pub mod gradient_norm;
pub mod layer_norm;
pub mod loss;
pub mod matmul;
mod model;
pub mod partial_sums;
pub mod position;
pub mod probe;
pub mod result;
pub mod sample;
pub mod sgd;
pub mod token_embedding;
pub mod trial;

use std::time::Duration;

use web_time::Instant;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::kernel::KernelSource;
use crate::gpu::options::Options;
use crate::gpu::variants::Choice;
use crate::ops;
use trial::{Checked, Checker};

/// The trials that check a kernel file quickly.
pub type Quick = fn(&mut Checker) -> Checked;

/// Every kernel file, in the order of [`ops::SOURCES`].
pub const KERNELS: &[(&KernelSource, Quick)] = &[
    (&ops::adamw::SOURCE, adamw::quick),
    (&ops::attention::SOURCE, attention::quick),
    (&ops::attention_map::SOURCE, attention_map::quick),
    (&ops::cached_attention::SOURCE, cached_attention::quick),
    (&ops::cast::SOURCE, cast::quick),
    (&ops::cross_entropy::SOURCE, cross_entropy::quick),
    (&ops::dropout::SOURCE, dropout::quick),
    (&ops::embedding::SOURCE, embedding::quick),
    (&ops::gradient_norm::SOURCE, gradient_norm::quick),
    (&ops::layer_norm::SOURCE, layer_norm::quick),
    (&ops::loss::SOURCE, loss::quick),
    (&ops::matmul::SOURCE, matmul::quick),
    (&ops::partial_sums::SOURCE, partial_sums::quick),
    (&ops::position::SOURCE, position::quick),
    (&crate::gpu::probe::SOURCE, probe::quick),
    (&ops::sample::SOURCE, sample::quick),
    (&ops::sgd::SOURCE, sgd::quick),
    (&ops::token_embedding::SOURCE, token_embedding::quick),
];

/// One result of a self-test.
#[derive(Debug, Clone)]
pub struct TestRow {
    /// `probe`, `kernel` or `model`.
    pub part: &'static str,
    /// What was tested: what a probe is about, a kernel file, a property of the model.
    pub test: String,
    /// The variant of the kernel file, or the kind of model; may be empty.
    pub of: String,
    /// Number of trials, parameter tensors or steps.
    pub cases: usize,
    /// How long it took.
    pub time: Duration,
    /// The result.
    pub verdict: Verdict,
}

/// What came out of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// The driver is wrong in a way that no kernel depends on; the text says how.
    KnownFault(String),
    /// The adapter does not have what the test is about, or nothing correct is left to test it with.
    Skipped(String),
    /// Wrong; the text names what, where, the value found and the value needed.
    Failed(String),
}

impl TestRow {
    /// What is wrong, if it failed.
    pub fn problem(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Failed(problem) => Some(problem),
            _ => None,
        }
    }

    /// The kernel file and variant that it tested, if it did.
    pub fn choice(&self) -> Option<Choice> {
        (self.part == "kernel").then(|| Choice { kernel: self.test.clone(), class: None, variant: self.of.clone() })
    }
}

/// Runs the whole self-test, and calls `show` with each row; blocks.
///
/// # Errors
/// [`Error::DeviceLost`](crate::error::Error::DeviceLost) when the device is lost.
pub fn run(gpu: &Gpu, show: &mut dyn FnMut(&TestRow)) -> Result<Vec<TestRow>> {
    let mut rows = vec![];
    let mut add = |row: TestRow| {
        show(&row);
        rows.push(row);
    };
    driver::run(gpu, &mut add)?;
    let mut avoid = vec![];
    for (source, quick) in KERNELS {
        for row in of_file(gpu, source, *quick, None)? {
            avoid.extend(row.choice().filter(|_| row.problem().is_some()));
            add(row);
        }
    }
    let right = |source: &'static KernelSource| trial::variants_of(source, gpu).any(|choice| !avoid.contains(&choice));
    if let Some((wrong, _)) = KERNELS.iter().find(|(source, _)| !right(source)) {
        let verdict = Verdict::Skipped(format!("{} is wrong in every variant", wrong.file));
        add(TestRow { part: "model", test: "gradients, training".to_owned(), of: String::new(), cases: 0, time: Duration::ZERO, verdict });
    } else {
        model::run(gpu, &Options { avoid, threads: trial::threads(), ..Options::default() }, &mut add)?;
    }
    Ok(rows)
}

/// Checks the kernel files, or kernels, of these names.
///
/// # Errors
/// As [`run`].
pub fn run_kernels(gpu: &Gpu, names: &[String], show: &mut dyn FnMut(&TestRow)) -> Result<Vec<TestRow>> {
    let mut rows = vec![];
    for name in names {
        let file = name.split('.').next().unwrap_or_default();
        for (source, quick) in KERNELS.iter().filter(|(source, _)| source.file == file) {
            let found = of_file(gpu, source, *quick, Some(name.as_str()).filter(|name| name.contains('.')))?;
            found.iter().for_each(&mut *show);
            rows.extend(found);
        }
    }
    Ok(rows)
}

/// A row for each variant of a file that the adapter can run; with `kernel`, only of the trials that run this kernel.
fn of_file(gpu: &Gpu, source: &'static KernelSource, quick: Quick, kernel: Option<&str>) -> Result<Vec<TestRow>> {
    let row = |choice: &Choice| TestRow {
        part: "kernel",
        test: source.file.to_owned(),
        of: choice.variant.clone(),
        cases: 0,
        time: Duration::ZERO,
        verdict: Verdict::Passed,
    };
    let choices: Vec<Choice> = trial::variants_of(source, gpu).collect();
    let mut rows: Vec<TestRow> = choices.iter().map(row).collect();
    let mut check = |trial: trial::Trial| {
        if kernel.is_some_and(|kernel| !trial.has(kernel)) {
            return Ok(());
        }
        for (row, choice) in rows.iter_mut().zip(&choices).filter(|(row, _)| row.verdict == Verdict::Passed) {
            if !trial.runs_in(gpu, source, choice) {
                continue;
            }
            let began = Instant::now();
            let checked = trial.run_quickly(gpu, std::slice::from_ref(choice));
            row.cases += 1;
            row.time += began.elapsed();
            if let Err(failure) = checked {
                row.verdict = Verdict::Failed(failure.to_string());
                // Nothing more can be learned from a lost device.
                if gpu.check().is_err() {
                    return Err(failure);
                }
            }
        }
        Ok(())
    };
    let ended = quick(&mut Checker::new(gpu, &mut check));
    gpu.check()?;
    // Only a lost device ends the trials, and that is returned above.
    drop(ended);
    Ok(rows)
}
