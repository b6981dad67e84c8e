//! Generation in slices: passes over the model that are cut where a budget ends, submitted by a host or by itself, never waited for.

use super::{Generator, Place, Sampling, check_ids, diverged};
use crate::error::{Error, Result};
use crate::gpu::run::Settled;
use crate::gpu::slice::{Budget, Slice, Ticket};
use crate::gpu::slots::Readback;
use crate::gpu::wait;
use crate::model::decode::{PICK, PREFILL, SAMPLE, TOKEN};
use crate::ops::cursor::Cursor;
use crate::ops::sample::RING;

impl Generator {
    /// Begins a new sequence, of which `wanted` tokens are to be drawn; what was under way is given up. Never blocks.
    ///
    /// # Errors
    /// [`Error::Usage`] for no token at all, an id out of range, a sampling that cannot be, or while a host has a slice.
    pub fn begin(&mut self, ids: &[u32], sampling: &Sampling, wanted: usize) -> Result<()> {
        check_ids(ids, self.decoder.config.vocab_size)?;
        sampling.validate()?;
        self.settled()?;
        self.came.clear();
        self.failed = None;
        self.sequences += 1;
        self.cursor = sampling.cursor();
        self.sequence = ids.to_vec();
        self.at = Place { window: ids.len().saturating_sub(self.context()), wanted, ..Place::default() };
        self.logits_wanted = false;
        Ok(())
    }

    /// The same for the logits after `ids`, which [`Generator::poll_logits`] tells.
    ///
    /// # Errors
    /// As [`Generator::begin`], and [`Error::Device`] when the driver refuses the buffer that brings them back.
    pub async fn begin_logits(&mut self, ids: &[u32]) -> Result<()> {
        self.begin(ids, &Sampling::greedy(), 0)?;
        if self.logits.is_none() {
            self.logits = Some(Readback::new(&self.gpu, self.decoder.logits.bytes()).await?);
        }
        self.logits_wanted = true;
        Ok(())
    }

    /// Whether everything that was wanted is submitted.
    pub fn is_idle(&self) -> bool {
        self.sequence.is_empty() || self.at.taken_in && self.at.wanted == 0 && self.at.rest.is_empty()
    }

    /// Encodes the next commands, as the budget allows, into a host's encoder. Never blocks: while two slices are still running, or tokens
    /// must come back first, nothing is encoded.
    ///
    /// # Errors
    /// [`Error::Usage`] while the last ticket is there still; [`Error::Device`] when the device is lost. Throw the encoder away then.
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, budget: Budget) -> Result<Ticket> {
        self.settle()?;
        self.runner.check()?;
        let Some(mut slice) = self.runner.open(encoder, budget)? else { return Ok(Ticket::empty()) };
        let (mut at, mut slots) = (self.at.clone(), 0);
        self.fill_slice(encoder, &mut slice, &mut at, &mut slots)?;
        if slice.is_empty() {
            return Ok(Ticket::empty());
        }
        self.ahead = Some((at, slots));
        Ok(self.runner.close(encoder, slice))
    }

    /// The same into an encoder of its own, which is submitted at once. Never blocks.
    ///
    /// # Errors
    /// As [`Generator::encode`].
    pub fn advance(&mut self, budget: Budget) -> Result<()> {
        let device = self.gpu.device().clone();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpt") });
        let ticket = self.encode(&mut encoder, budget)?;
        if ticket.dispatches() > 0 {
            self.gpu.queue().submit([encoder.finish()]);
        }
        ticket.submitted();
        self.settle()?;
        self.gpu.check()
    }

    /// The tokens that have come since the last call. Call it once a frame.
    ///
    /// # Errors
    /// [`Error::Diverged`] for logits that are not finite, once the tokens before them were handed out; [`Error::Device`] when the device is
    /// lost.
    pub fn poll(&mut self) -> Result<Vec<u32>> {
        self.collect()?;
        match &self.failed {
            Some(error) if self.came.is_empty() => Err(error.clone()),
            _ => Ok(self.came.drain(..).collect()),
        }
    }

    /// Polls the device without blocking, keeps the tokens that have come and asks for those that have not.
    pub(super) fn collect(&mut self) -> Result<()> {
        wait::look(&self.gpu)?;
        self.settle()?;
        self.runner.poll();
        self.runner.check()?;
        if let Some((sequence, bytes)) = self.readback.poll()?
            && sequence == self.sequences
        {
            self.keep_tokens(&bytes);
        }
        if self.readback.idle() && self.at.drawn > self.cursor.drawn && self.failed.is_none() {
            let (source, tag) = (self.compiled.place(&self.decoder.feed.cursor).0, self.sequences);
            let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("tokens") });
            self.readback.request(&mut encoder, source, tag);
            self.gpu.queue().submit([encoder.finish()]);
        }
        self.gpu.check()
    }

    /// The logits (V) that [`Generator::begin_logits`] asked for, once they have come. Forbidden ids have minus infinity.
    ///
    /// # Errors
    /// As [`Generator::poll`].
    pub fn poll_logits(&mut self) -> Result<Option<Vec<f32>>> {
        self.collect()?;
        let idle = self.is_idle();
        let Some(readback) = &mut self.logits else { return Ok(None) };
        let come = readback.poll()?;
        if self.logits_wanted && readback.idle() && idle {
            self.logits_wanted = false;
            let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("logits") });
            readback.request(&mut encoder, self.compiled.place(&self.decoder.logits).0, self.sequences);
            self.gpu.queue().submit([encoder.finish()]);
        }
        match come {
            Some((sequence, bytes)) if sequence == self.sequences => self.checked(bytemuck::pod_collect_to_vec(&bytes)).map(Some),
            _ => Ok(None),
        }
    }

    fn fill_slice(&mut self, encoder: &mut wgpu::CommandEncoder, slice: &mut Slice, at: &mut Place, slots: &mut usize) -> Result<()> {
        while !slice.is_full() {
            if at.rest.is_empty() && !self.begin_pass(encoder, at, slots)? {
                break;
            }
            let Some(range) = at.rest.front_mut() else { break };
            self.runner.encode(encoder, &self.compiled, slice, range);
            if range.start == range.end {
                at.rest.pop_front();
            }
            // A token counts once all of its pass is encoded: what a budget has cut has not drawn it yet.
            if at.rest.is_empty() && std::mem::take(&mut at.draws) {
                at.drawn += 1;
            }
        }
        Ok(())
    }

    /// Begins the next pass; false if there is none, or it has to wait for a slot or for tokens to come back.
    fn begin_pass(&mut self, encoder: &mut wgpu::CommandEncoder, at: &mut Place, slots: &mut usize) -> Result<bool> {
        if !at.taken_in {
            return self.begin_prefill(encoder, at, slots);
        }
        let unknown = (at.drawn - self.cursor.drawn) as usize;
        if at.wanted == 0 || unknown == RING {
            return Ok(false);
        }
        if !at.fresh && at.cached == self.context() {
            // The window slides over tokens that the host has to know, to take them in again.
            if unknown > 0 {
                return Ok(false);
            }
            (at.window, at.cached, at.taken_in) = (self.sequence.len() - self.context().div_ceil(2), 0, false);
            at.slides += 1;
            return self.begin_prefill(encoder, at, slots);
        }
        at.rest =
            if at.fresh { [self.compiled.phase(SAMPLE)].into() } else { [self.compiled.phase(TOKEN), self.compiled.phase(SAMPLE)].into() };
        at.cached += usize::from(!at.fresh);
        (at.fresh, at.draws, at.wanted) = (false, true, at.wanted - 1);
        Ok(true)
    }

    /// Begins to take in the next chunk of the sequence; with the last one come its logits.
    fn begin_prefill(&mut self, encoder: &mut wgpu::CommandEncoder, at: &mut Place, slots: &mut usize) -> Result<bool> {
        if !self.slots.ready(*slots)? {
            return Ok(false);
        }
        let first = at.window + at.cached;
        let end = (first + self.decoder.chunk()).min(self.sequence.len());
        let cursor = Cursor { position: at.cached as u32, rows: (end - first) as u32, ..self.cursor };
        self.slots.fill(*slots, &self.decoder.feed.slot(cursor, &self.sequence[first..end]))?;
        self.slots.encode(*slots, encoder, self.compiled.place(&self.decoder.feed.cursor).0);
        *slots += 1;
        at.cached += end - first;
        at.taken_in = end == self.sequence.len();
        at.fresh = at.taken_in;
        at.rest = [self.compiled.phase(PREFILL)].into();
        if at.taken_in {
            at.rest.push_back(self.compiled.phase(PICK));
        }
        Ok(true)
    }

    /// Whether the next pass takes a slot.
    pub(super) fn needs_slot(&self) -> bool {
        let at = &self.at;
        at.rest.is_empty() && (!at.taken_in || at.wanted > 0 && !at.fresh && at.cached == self.context())
    }

    /// Takes note of what the host did with the last slice.
    fn settle(&mut self) -> Result<Settled> {
        let settled = self.runner.settle()?;
        match settled {
            Settled::Submitted => {
                if let Some((at, slots)) = self.ahead.take() {
                    self.slots.commit(slots);
                    self.at = at;
                }
            }
            Settled::Dropped => {
                self.slots.recall();
                self.ahead = None;
            }
            Settled::Nothing | Settled::Open => {}
        }
        Ok(settled)
    }

    /// # Errors
    /// [`Error::Usage`] while a host has a slice.
    pub(super) fn settled(&mut self) -> Result<()> {
        match self.settle()? {
            Settled::Open => Err(Error::usage("a host has a slice of this generator: submit it or drop its ticket first")),
            _ => Ok(()),
        }
    }

    /// Keeps the tokens drawn since the last time.
    fn keep_tokens(&mut self, bytes: &[u8]) {
        let (now, ring) = self.decoder.feed.read(bytes);
        let drawn: Vec<u32> = (self.cursor.drawn..now.drawn).map(|index| ring[index as usize % RING]).collect();
        self.cursor.drawn = now.drawn;
        self.sequence.extend(&drawn);
        self.came.extend(drawn);
        if now.failed > 0 {
            self.failed = Some(diverged(now.failed as usize - 1));
        }
    }
}
