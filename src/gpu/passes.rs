//! The work of an engine as a sequence of passes: a pass may upload new inputs, and runs some phases of a compiled plan.

use super::plan::Phase;
use crate::error::Result;

/// The position of an engine between two passes.
pub trait Progress: Clone {
    /// Whether the passes before and after this place belong to one unit of work, such as the micro-batches of a step.
    fn under_way(&self) -> bool;
}

/// The work of an engine, pass by pass.
pub trait Passes {
    /// Its position, cloned so that a slice that is never submitted changes nothing.
    type Progress: Progress;

    /// The pass that begins at this place; `None` if there is no work, or a read-back must arrive first.
    fn next(&self, place: &Self::Progress) -> Option<Pass>;

    /// Begins that pass and returns its inputs, if it has any.
    ///
    /// # Errors
    /// Those of the data source; the place is then unchanged.
    fn begin(&mut self, place: &mut Self::Progress) -> Result<Option<Vec<u8>>>;

    /// Whether [`Passes::behind`] encodes something after a phase. If not, the phase shares a compute pass with the next one.
    fn watches(&self, _phase: Phase) -> bool {
        false
    }

    /// Encodes commands after a phase of the current pass that it [`watches`](Passes::watches).
    fn behind(&mut self, _encoder: &mut wgpu::CommandEncoder, _phase: Phase, _place: &Self::Progress) {}

    /// Moves the place past the current pass.
    fn end(&self, place: &mut Self::Progress);

    /// Whether the pass must not be abandoned at this point: `phase` comes next, and `begun` says whether part of it was encoded.
    fn commits(&self, _phase: Phase, _begun: bool) -> bool {
        false
    }
}

/// A pass that is ready to begin.
pub struct Pass {
    /// Whether it has inputs to upload.
    pub inputs: bool,
    /// The phases that it runs, in order.
    pub phases: Vec<Phase>,
}
