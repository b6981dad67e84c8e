//! Recovery: a trainer moves to another device, with its last snapshot.

use std::time::Duration;

use super::keeper::KeptState;
use super::taps::Taps;
use super::trainer::{Trainer, record};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::model::session::{Session, TrainProgress};

/// The shortest limit of a submit that recoveries halve.
const SHORTEST: Duration = Duration::from_millis(1);

impl Trainer {
    /// Moves to another device after [`Error::DeviceLost`] or [`Error::OutOfMemory`]: drops everything on the old device, creates buffers
    /// and pipelines on `gpu`, and uploads the last snapshot, which is at most `train.snapshot_every` seconds old; without one, the state
    /// that the trainer began with.
    ///
    /// [`step_count`](Trainer::step_count) goes back to the snapshot's step. The calls that run steps run those since again, with the
    /// learning rates that they had; pass the same data. On the same adapter and driver they have the same bits. The report of a step is
    /// returned once, even if it runs twice. Submits of blocking calls take half as long as before at most, and dispatches are cut
    /// [`fine`](Options::fine).
    ///
    /// Taps, views, attention maps and generators that share the weights belong to the old device.
    ///
    /// # Errors
    /// As [`Trainer::new`]. Every call returns [`Error::DeviceLost`] then, and `recover` can be called again. [`Error::Usage`] for a
    /// trainer whose options lend it buffers of another plan, which has changed nothing.
    pub async fn recover(&mut self, gpu: &Gpu) -> Result<()> {
        if let Some((name, _)) = self.options.existing.first() {
            return Err(Error::usage(format!("`{name}` was lent by another plan: create that one and this trainer again")));
        }
        let options = Options { fine: true, ..self.options.clone() };
        let model = record(&self.config, gpu.traits())?;
        let guest = &self.session.guest;
        let (begun, limit) = (guest.place().step + u64::from(guest.under_way()), (guest.runner.limit() / 2).max(SHORTEST));
        let step = self.keeper.newest().map_or(0, |state| state.step);
        self.session.guest.close();
        let mut hollow = Session::hollow(gpu, model, &options).await?;
        hollow.guest.runner.set_limit(limit);
        hollow.guest.begin_at(TrainProgress { step, ..TrainProgress::default() });
        self.rates.run_again(begun);
        self.taps = Taps::default();
        self.keeper.close();
        self.session = hollow;
        self.session.fill(&options).await?;
        self.keeper.open(&self.session).await?;
        match self.keeper.newest() {
            Some(state) => self.write_state(state).await?,
            None => self.write_initial().await?,
        }
        self.report_kept();
        self.ended = None;
        self.session.guest.open();
        Ok(())
    }

    /// Takes a snapshot for [`recover`](Trainer::recover) now: call it after you have written weights.
    ///
    /// # Errors
    /// As [`snapshot`](Trainer::snapshot).
    pub async fn keep(&mut self) -> Result<()> {
        let (step, _) = self.progress().await?;
        let state = KeptState::read(&self.session).await?;
        self.keeper.replace(state);
        self.rates.keep_from(step);
        Ok(())
    }

    /// The snapshot that [`recover`](Trainer::recover) would restore; `None` before the first one, when it restores the initial weights.
    pub fn kept(&self) -> Option<&KeptState> {
        self.keeper.newest()
    }

    /// Takes in the snapshot's records of steps that were not reported yet: the lost device had them too.
    pub(super) fn report_kept(&mut self) {
        let Some(state) = self.keeper.newest().filter(|state| state.step > self.reports.known) else { return };
        self.reports.take_in(state.step, &state.records(), &mut self.rates);
    }

    /// Requests a snapshot if one is due, and copies at most `most` bytes of one that has arrived.
    pub(super) fn keep_some(&mut self, most: usize) -> Result<()> {
        let Trainer { session, keeper, rates, .. } = self;
        let Session { gpu, model, compiled, guest, .. } = session;
        if keeper.take_in(gpu, guest, &model.pools, most)? {
            rates.keep_from(keeper.newest().map_or(0, |state| state.step));
        }
        if keeper.is_due() && !guest.under_way() {
            keeper.request(gpu, compiled, guest);
        }
        gpu.check()
    }

    /// Writes a state to the device.
    pub(super) async fn write_state(&self, state: &KeptState) -> Result<()> {
        let (session, pools) = (&self.session, &self.session.model.pools);
        for param in &pools.table {
            session.write(&pools.weights(&param.name), &state.values(&param.name, None)).await?;
            for moment in 0..pools.moments() {
                session.write(&pools.moment(moment, &param.name), &state.values(&param.name, Some(moment))).await?;
            }
        }
        session.compiled.write(&session.model.state, bytemuck::cast_slice::<_, u32>(&[state.state()])).await
    }
}
