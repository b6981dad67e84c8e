//! Blocking calls: the engine submits its own slices, one after the other.

use web_time::Instant;

use super::{Filling, Guest};
use crate::error::Result;
use crate::gpu::compile::Compiled;
use crate::gpu::passes::{Passes, Progress};
use crate::gpu::profile::Profiler;
use crate::gpu::slice::{Budget, Slice};
use crate::gpu::wait;

impl<P: Progress> Guest<P> {
    /// Blocks until all passes are submitted. Returns false if `stop` returned true: the current pass is then abandoned. `stop` is called
    /// before each submit, except where the work [`commits`](Passes::commits) itself.
    ///
    /// # Errors
    /// As [`Guest::piece`].
    pub fn run(
        &mut self,
        compiled: &Compiled,
        work: &mut impl Passes<Progress = P>,
        mut profiler: Option<&mut Profiler>,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool> {
        self.settled()?;
        self.runner.wait_for_hosts()?;
        loop {
            let committed = self.next_phase(compiled).is_some_and(|(phase, begun)| work.commits(phase, begun));
            if self.at.rest.is_empty() && work.next(&self.at.place).is_none() {
                return Ok(true);
            }
            self.runner.wait_for_room()?;
            if !committed && stop() {
                self.at.rest.clear();
                return Ok(false);
            }
            match &mut profiler {
                Some(profiler) => self.profiled(compiled, work, profiler)?,
                None => self.piece(compiled, work, Budget::time(self.runner.limit())).map(drop)?,
            }
        }
    }

    /// Blocks until one slice within `budget` is submitted. It uses at most one slot of inputs, so that the others can be filled while it
    /// runs. False if there is nothing to do.
    ///
    /// # Errors
    /// As [`Guest::settled`], and errors of the pass's data.
    pub fn piece(&mut self, compiled: &Compiled, work: &mut impl Passes<Progress = P>, budget: Budget) -> Result<bool> {
        self.settled()?;
        self.runner.wait_for_hosts()?;
        self.runner.wait_for_room()?;
        self.wait_for_slot(work)?;
        let begun = Instant::now();
        let (mut encoder, mut slice) = (self.encoder(), Slice::new(budget, None));
        let mut into = Filling::new(compiled, &mut encoder, 1);
        let at = self.fill(work, &mut slice, &mut into)?;
        let (slots, drawing) = (into.slots, into.drawing);
        if slice.is_empty() && slots == 0 {
            self.at = at;
            return Ok(false);
        }
        let submitted = self.runner.submit(encoder, slice);
        self.runner.done.host += begun.elapsed() - drawing;
        self.slots.commit(slots);
        self.at = at;
        submitted.map(|()| true)
    }

    /// Blocks until the next pass can begin, if there is one.
    fn wait_for_slot(&mut self, work: &impl Passes<Progress = P>) -> Result<()> {
        let wanted = self.at.rest.is_empty() && work.next(&self.at.place).is_some_and(|pass| pass.inputs);
        while wanted && !self.slots.ready(0)? {
            self.runner.check_abandoned()?;
            wait::for_device(&self.gpu)?;
        }
        Ok(())
    }

    /// Runs and times the rest of the current pass, or the next one; blocks until it has run.
    fn profiled(&mut self, compiled: &Compiled, work: &mut impl Passes<Progress = P>, profiler: &mut Profiler) -> Result<()> {
        self.wait_for_slot(work)?;
        let (mut encoder, mut at) = (self.encoder(), self.at.clone());
        let mut into = Filling::new(compiled, &mut encoder, 1);
        if at.rest.is_empty() && !self.begin(work, &mut at, None, &mut into)? {
            return Ok(());
        }
        let slots = into.slots;
        self.runner.submit(encoder, Slice::default())?;
        self.slots.commit(slots);
        self.runner.wait_for_all()?;
        while let Some((phase, range)) = at.rest.pop_front() {
            profiler.run(compiled, range)?;
            let mut encoder = self.encoder();
            if work.watches(phase) {
                work.behind(&mut encoder, phase, &at.place);
                self.gpu.submit(encoder);
            }
        }
        work.end(&mut at.place);
        self.at = at;
        wait::for_device(&self.gpu)
    }
}
