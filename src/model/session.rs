//! A compiled model with its inputs and readback: shared by training, evaluation and generation.

use super::Model;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::compile::{Compiled, Needs};
use crate::gpu::guest::Guest;
use crate::gpu::options::Options;
use crate::gpu::passes::{self, Pass, Passes};
use crate::gpu::plan::Phase;
use crate::gpu::profile::Profiler;
use crate::gpu::slots::Readback;
use crate::gpu::tensor::Tensor;
use crate::gpu::transfer;

/// A model ready to run.
pub struct Session {
    /// The device that the model runs on.
    pub gpu: Gpu,
    /// The recorded model, whose tensors lie in the buffers of `compiled`.
    pub model: Model,
    /// The compiled plan: pipelines, bind groups, and the buffers of all tensors.
    pub compiled: Compiled,
    /// Submits passes, or encodes slices of them into a host's encoder, and holds the position reached.
    pub guest: Guest<TrainProgress>,
    pub(crate) readback: Readback,
    /// Times every dispatch while set.
    pub profiler: Option<Profiler>,
}

/// The position of a training run; evaluation does not advance it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainProgress {
    /// Completed steps.
    pub step: u64,
    /// Completed micro-batches of the current step.
    pub micro: usize,
    /// The learning rate of the current step, fixed at its first micro-batch.
    pub rate: f64,
}

impl passes::Progress for TrainProgress {
    fn under_way(&self) -> bool {
        self.micro > 0
    }
}

/// One pass over some phases, at any position.
struct Once<'a> {
    slot: Option<&'a [u8]>,
    phases: &'a [Phase],
}

impl Passes for Once<'_> {
    type Progress = TrainProgress;

    fn next(&self, _place: &TrainProgress) -> Option<Pass> {
        self.slot.map(|_| Pass { inputs: true, phases: self.phases.to_vec() })
    }

    fn begin(&mut self, _place: &mut TrainProgress) -> Result<Option<Vec<u8>>> {
        Ok(self.slot.take().map(<[u8]>::to_vec))
    }

    fn end(&self, _place: &mut TrainProgress) {}
}

/// What a session will allocate, exact to the byte.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Bytes by class: weights, gradients, optimizer, activations, inputs, results, staging, snapshots, and saving, which allocates nothing
    /// more.
    pub classes: Vec<(&'static str, u64)>,
    /// Bytes of all classes together.
    pub total: u64,
    /// Number of buffers.
    pub buffers: u64,
    /// Number of bind groups, one per dispatch.
    pub bind_groups: u64,
    /// Bytes of host memory, beside the device's, that snapshots take once two were taken.
    pub host: u64,
}

impl Session {
    /// Computes what [`Session::new`] will allocate, without allocating.
    ///
    /// # Errors
    /// [`Error::Limit`] if something is larger than the adapter allows.
    pub fn memory(gpu: &Gpu, model: &Model, options: &Options) -> Result<Memory> {
        let Needs { layout, dims_bytes, transfer_bytes, buffers, bind_groups } = model.plan.needs(gpu, options)?;
        let (guest_bytes, guest_buffers) = Guest::<TrainProgress>::needs(gpu, model.inputs.bytes);
        let staging = dims_bytes + guest_bytes + model.records.bytes();
        let total = layout.total() + staging + transfer_bytes;
        let mut classes = layout.classes;
        classes.push(("staging", staging));
        classes.push(("saving", transfer_bytes));
        Ok(Memory { classes, total, buffers: buffers + guest_buffers + 1, bind_groups, host: 0 })
    }

    /// Allocates and compiles; weights are undefined until they are written.
    ///
    /// # Errors
    /// As [`Session::memory`], and [`Error::Device`] if the driver reports an error.
    pub async fn new(gpu: &Gpu, model: Model, options: &Options) -> Result<Session> {
        let compiled = model.plan.compile(gpu, options).await?;
        let session = Session::with(gpu, model, compiled).await?;
        session.write_constants().await?;
        Ok(session)
    }

    async fn with(gpu: &Gpu, model: Model, compiled: Compiled) -> Result<Session> {
        let guest = Guest::new(gpu, &model.inputs.step, model.inputs.bytes, TrainProgress::default()).await?;
        let readback = Readback::new(gpu, model.records.bytes()).await?;
        Ok(Session { gpu: gpu.clone(), model, compiled, guest, readback, profiler: None })
    }

    async fn write_constants(&self) -> Result<()> {
        let Model { inputs, config, .. } = &self.model;
        match inputs.constants(config) {
            Some((tensor, words)) => self.compiled.write(tensor, &words).await,
            None => Ok(()),
        }
    }

    /// The first half of a recovery: a session on another device that holds next to nothing, and refuses all work until
    /// [`Session::fill`]. The old one can then be dropped before as much memory is allocated again.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub(crate) async fn hollow(gpu: &Gpu, model: Model, options: &Options) -> Result<Session> {
        let compiled = model.plan.hollow(gpu, options).await?;
        let mut session = Session::with(gpu, model, compiled).await?;
        session.guest.close();
        Ok(session)
    }

    /// The second half: allocates and compiles as [`Session::new`] does. It still refuses work, until its guest is opened.
    ///
    /// # Errors
    /// As [`Session::new`]; the session is hollow then.
    pub(crate) async fn fill(&mut self, options: &Options) -> Result<()> {
        self.compiled = self.model.plan.compile(&self.gpu, options).await?;
        self.write_constants().await
    }

    /// Writes the values of a parameter to its tensors (a table may be split by rows).
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

    /// Reads the tensors of a parameter back in pieces of at most one mebibyte, in order, through the staging buffer of all transfers, so
    /// that neither device nor host needs memory for the whole.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] if the device is lost; an error of `each` ends the reading and is returned.
    pub async fn read_pieces(&self, tensors: &[Tensor], each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let most = transfer::PIECE as usize / 4;
        for tensor in tensors {
            for first in (0..tensor.len()).step_by(most) {
                let end = tensor.len().min(first + most);
                each(&self.compiled.read_part::<f32>(tensor, first..end).await?)?;
            }
        }
        Ok(())
    }

    /// Writes every weight; `values` is called with the index and the row of each parameter.
    ///
    /// # Errors
    /// [`Error::Usage`] for a wrong number of values, and the errors of `values`.
    pub async fn write_weights(&self, mut values: impl FnMut(usize, &super::params::Param) -> Result<Vec<f32>>) -> Result<()> {
        for (index, param) in self.model.pools.table.iter().enumerate() {
            let values = values(index, param)?;
            param.check("weights", values.len())?;
            self.write(&self.model.pools.weights(&param.name), &values).await?;
        }
        Ok(())
    }

    /// Submits one slot of inputs and the phases after it; blocks until all of it is submitted. False if `stop` returned true before that.
    ///
    /// # Errors
    /// [`Error::Usage`] while a step is partly submitted, or a host holds an unsettled slice; [`Error::DeviceLost`] if the device is lost.
    pub fn run(&mut self, slot: &[u8], phases: &[Phase], stop: &dyn Fn() -> bool) -> Result<bool> {
        self.guest.settled()?;
        if self.guest.under_way() {
            return Err(Error::usage("a step is under way in slices: it must end before anything else runs on this model"));
        }
        let mut once = Once { slot: Some(slot), phases };
        self.guest.run(&self.compiled, &mut once, self.profiler.as_mut(), stop)
    }
}
