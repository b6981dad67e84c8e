//! What an engine has to do, told pass by pass: a pass takes new inputs along, or none, and runs some phases of a compiled plan.

use super::plan::Phase;
use crate::error::Result;

/// Where an engine stands between two passes.
pub trait Place: Clone {
    /// Whether the passes before this place are one piece of work with those behind it, say micro-batches of a step.
    fn under_way(&self) -> bool;
}

/// What an engine has to do, pass by pass.
pub trait Passes {
    type Place: Place;

    /// The pass that begins at this place; `None` where there is nothing to do, or something must come back first.
    fn next(&self, place: &Self::Place) -> Option<Pass>;

    /// Begins that pass: the inputs that it takes along, if it does.
    ///
    /// # Errors
    /// Those of the data; the place is then as before.
    fn begin(&mut self, place: &mut Self::Place) -> Result<Option<Vec<u8>>>;

    /// Whether something follows a phase. Phases that nothing follows go into one pass of the encoder with the next.
    fn watches(&self, _phase: Phase) -> bool {
        false
    }

    /// Encodes what follows a phase of the pass under way that it [`watches`](Passes::watches).
    fn behind(&mut self, _encoder: &mut wgpu::CommandEncoder, _phase: Phase, _place: &Self::Place) {}

    /// Moves the place behind the pass under way.
    fn end(&self, place: &mut Self::Place);

    /// Whether the work must go on where it is: `phase` comes next, and `begun` says whether a part of it was made.
    fn commits(&self, _phase: Phase, _begun: bool) -> bool {
        false
    }
}

/// A pass that can begin.
pub struct Pass {
    /// Whether it takes inputs along.
    pub inputs: bool,
    /// The phases that it runs, in order.
    pub phases: Vec<Phase>,
}
