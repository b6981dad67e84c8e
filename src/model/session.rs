//! A compiled model with what feeds it: the common ground of training, evaluation and generation.

use std::ops::Range;

use super::Model;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::compile::{Compiled, Needs, Options};
use crate::gpu::plan::Phase;
use crate::gpu::profile::Profiler;
use crate::gpu::run::Runner;
use crate::gpu::slots::{Readback, Slots};
use crate::gpu::tensor::Tensor;
use crate::gpu::wait;

/// A model ready to run.
pub struct Session {
    pub gpu: Gpu,
    pub model: Model,
    pub compiled: Compiled,
    pub runner: Runner,
    pub slots: Slots,
    pub readback: Readback,
    /// Times every dispatch while it is there.
    pub profiler: Option<Profiler>,
    /// A host's slices have begun a step and not ended it.
    pub(crate) under_way: bool,
}

/// What a session will allocate, to the byte.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Bytes by class: weights, gradients, optimizer, activations, inputs, results, staging.
    pub classes: Vec<(&'static str, u64)>,
    pub total: u64,
    /// Number of buffers.
    pub buffers: u64,
}

impl Session {
    /// What [`Session::new`] will allocate, without allocating.
    ///
    /// # Errors
    /// [`Error::Limit`] when something is larger than the adapter allows.
    pub fn memory(gpu: &Gpu, model: &Model, options: &Options) -> Result<Memory> {
        let Needs { layout, dims_bytes, transfer_bytes, buffers } = model.plan.needs(gpu, options)?;
        let staging = transfer_bytes + dims_bytes + Slots::needs(model.inputs.bytes) + model.records.bytes();
        let total = layout.total() + staging;
        let mut classes = layout.classes;
        classes.push(("staging", staging));
        Ok(Memory { classes, total, buffers: buffers + Slots::COUNT + 1 })
    }

    /// Allocates and compiles; weights are undefined until they are written.
    ///
    /// # Errors
    /// As [`Session::memory`], and [`Error::Device`] when the driver refuses.
    pub async fn new(gpu: &Gpu, model: Model, options: &Options) -> Result<Session> {
        let compiled = model.plan.compile(gpu, options).await?;
        let slots = Slots::new(gpu, model.inputs.bytes).await?;
        let readback = Readback::new(gpu, model.records.bytes()).await?;
        if let Some((tensor, words)) = model.inputs.constants(&model.config) {
            compiled.write(tensor, &words).await?;
        }
        Ok(Session { gpu: gpu.clone(), runner: Runner::new(gpu), model, compiled, slots, readback, profiler: None, under_way: false })
    }

    /// Writes a parameter-shaped list of values over its tensors (a table may be split by rows).
    pub async fn write(&self, tensors: &[Tensor], values: &[f32]) -> Result<()> {
        let mut rest = values;
        for tensor in tensors {
            let (head, tail) = rest.split_at(tensor.len());
            self.compiled.write(tensor, head).await?;
            rest = tail;
        }
        Ok(())
    }

    /// Reads the tensors of a parameter back as one list.
    pub async fn read(&self, tensors: &[Tensor]) -> Result<Vec<f32>> {
        let mut values = vec![];
        for tensor in tensors {
            values.extend(self.compiled.read::<f32>(tensor).await?);
        }
        Ok(values)
    }

    /// Writes every weight from `values`, by name.
    ///
    /// # Errors
    /// [`Error::Usage`] for values that are not as many as the parameter has, and those of `values`.
    pub async fn write_weights(&self, mut values: impl FnMut(usize, &super::params::Param) -> Result<Vec<f32>>) -> Result<()> {
        for (index, param) in self.model.pools.table.iter().enumerate() {
            let values = values(index, param)?;
            param.check("weights", values.len())?;
            self.write(&self.model.pools.weights(&param.name), &values).await?;
        }
        Ok(())
    }

    /// Blocks while one slot of inputs goes through the phases; with a tag, the records are requested behind them.
    /// False if `stop` said so before everything was submitted; it is not asked any more once a command of `commit` has gone.
    pub fn run(&mut self, slot: &[u8], phases: &[Phase], commit: Phase, report: Option<u64>, stop: &dyn Fn() -> bool) -> Result<bool> {
        if self.under_way {
            return Err(Error::usage("a step is under way in slices: it must end before anything else runs on this model"));
        }
        while !self.slots.ready(0)? {
            wait::for_device(&self.gpu)?;
        }
        let Session { compiled, slots, readback, runner, model, profiler, .. } = self;
        let ranges: Vec<Range<usize>> = phases.iter().map(|phase| compiled.phase(*phase)).collect();
        let inputs = compiled.place(&model.inputs.step).0;
        let records = compiled.place(&model.records).0;
        let before = |encoder: &mut wgpu::CommandEncoder| {
            slots.fill(0, slot)?;
            slots.encode(0, encoder, inputs);
            slots.commit(1);
            Ok(())
        };
        let after = |encoder: &mut wgpu::CommandEncoder| {
            if let Some(tag) = report.filter(|_| readback.idle()) {
                readback.request(encoder, records, tag);
            }
        };
        if let Some(profiler) = profiler {
            profiler.run(compiled, ranges, before, after)?;
            return Ok(true);
        }
        let committed = compiled.phase(commit);
        let stop = |next: usize| (next <= committed.start || next > committed.end) && stop();
        runner.run(compiled, ranges, before, after, &stop)
    }
}
