//! Generation in slices: passes over the model, cut where a budget ends and submitted by a host or by the generator, without blocking.

use std::ops::Range;

use super::{DecodeProgress, Generator, Sampling, check_ids, diverged};
use crate::error::Result;
use crate::gpu::compile::Compiled;
use crate::gpu::guest::Guest;
use crate::gpu::passes::{self, Pass, Passes};
use crate::gpu::slice::{Budget, Ticket};
use crate::gpu::slots::Readback;
use crate::model::decode::{DecodeModel, PICK, PREFILL, SAMPLE, TOKEN};
use crate::ops::cursor::Cursor;
use crate::ops::sample::RING;

impl passes::Progress for DecodeProgress {
    fn under_way(&self) -> bool {
        false
    }
}

/// The parts of a generator that run its passes.
pub(super) struct DecodeParts<'a> {
    pub compiled: &'a Compiled,
    pub guest: &'a mut Guest<DecodeProgress>,
}

/// Passes over one sequence.
pub(super) struct Decoding<'a> {
    decoder: &'a DecodeModel,
    sequence: &'a [u32],
    /// With the number of tokens read back.
    cursor: Cursor,
}

impl Decoding<'_> {
    /// The place at which the next pass begins. A full context slides over tokens that the host must know in order to process them again;
    /// `None` while it does not know all of them.
    fn slid(&self, place: &DecodeProgress) -> Option<DecodeProgress> {
        let context = self.decoder.config.seq_len;
        if !place.taken_in || place.fresh || place.wanted == 0 || place.cached < context {
            return Some(place.clone());
        }
        let window = self.sequence.len().checked_sub(context.div_ceil(2)).filter(|_| place.drawn == self.cursor.drawn)?;
        Some(DecodeProgress { window, cached: 0, taken_in: false, slides: place.slides + 1, ..place.clone() })
    }

    /// The tokens of the sequence that the next chunk processes.
    fn chunk(&self, place: &DecodeProgress) -> Range<usize> {
        let first = place.window + place.cached;
        first..(first + self.decoder.chunk()).min(self.sequence.len())
    }
}

impl Passes for Decoding<'_> {
    type Progress = DecodeProgress;

    /// The next chunk of the sequence, with the logits after the last one; or a token, unless too many are in flight.
    fn next(&self, place: &DecodeProgress) -> Option<Pass> {
        let place = self.slid(place)?;
        if !place.taken_in {
            let mut phases = vec![PREFILL];
            phases.extend((self.chunk(&place).end == self.sequence.len()).then_some(PICK));
            return Some(Pass { inputs: true, phases });
        }
        let unknown = (place.drawn - self.cursor.drawn) as usize;
        if place.wanted == 0 || unknown == RING {
            return None;
        }
        Some(Pass { inputs: false, phases: if place.fresh { vec![SAMPLE] } else { vec![TOKEN, SAMPLE] } })
    }

    fn begin(&mut self, place: &mut DecodeProgress) -> Result<Option<Vec<u8>>> {
        if let Some(slid) = self.slid(place) {
            *place = slid;
        }
        if place.taken_in {
            place.cached += usize::from(!place.fresh);
            (place.fresh, place.draws, place.wanted) = (false, true, place.wanted - 1);
            return Ok(None);
        }
        let chunk = self.chunk(place);
        let cursor = Cursor { position: place.cached as u32, rows: chunk.len() as u32, ..self.cursor };
        place.cached += chunk.len();
        place.taken_in = chunk.end == self.sequence.len();
        place.fresh = place.taken_in;
        Ok(Some(self.decoder.feed.slot(cursor, &self.sequence[chunk])))
    }

    /// A token counts once its whole pass is encoded: a pass that a budget has cut has not drawn it yet.
    fn end(&self, place: &mut DecodeProgress) {
        if std::mem::take(&mut place.draws) {
            place.drawn += 1;
        }
    }
}

impl Generator {
    /// Begins a new sequence and requests `wanted` tokens; the sequence in progress is abandoned. Never blocks.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for an empty sequence, an id out of range, invalid sampling settings, or while a host holds a
    /// slice.
    pub fn begin(&mut self, ids: &[u32], sampling: &Sampling, wanted: usize) -> Result<()> {
        check_ids(ids, self.decoder.config.vocab_size)?;
        sampling.validate()?;
        let window = ids.len().saturating_sub(self.context());
        self.guest.give_up()?;
        self.guest.begin_at(DecodeProgress { window, wanted, ..DecodeProgress::default() });
        self.came.clear();
        self.failed = None;
        self.sequences += 1;
        self.cursor = sampling.cursor();
        self.sequence = ids.to_vec();
        self.logits_wanted = false;
        Ok(())
    }

    /// As [`Generator::begin`], but for the logits after `ids`, which [`Generator::poll_logits`] returns.
    ///
    /// # Errors
    /// As [`Generator::begin`], and [`Error::Device`](crate::Error::Device) when the driver refuses the readback buffer.
    pub async fn begin_logits(&mut self, ids: &[u32]) -> Result<()> {
        self.begin(ids, &Sampling::greedy(), 0)?;
        if self.logits.is_none() {
            self.logits = Some(Readback::new(&self.gpu, self.decoder.logits.bytes()).await?);
        }
        self.logits_wanted = true;
        Ok(())
    }

    /// Whether everything that was requested is submitted.
    pub fn is_idle(&self) -> bool {
        let at = self.guest.place();
        self.sequence.is_empty() || at.taken_in && at.wanted == 0 && self.guest.next_phase(&self.compiled).is_none()
    }

    /// Encodes the next commands that fit the budget into a host's encoder. Never blocks: while two slices are still running, or tokens
    /// must be read back first, it encodes nothing.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) while the last slice is not settled; [`Error::DeviceLost`](crate::Error::DeviceLost) when the device
    /// is lost. Discard the encoder then.
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, budget: Budget) -> Result<Ticket> {
        let (running, mut decoding) = self.decoding();
        running.guest.encode(running.compiled, encoder, &mut decoding, budget)
    }

    /// As [`Generator::encode`], but into an encoder of its own, which it submits at once. Never blocks.
    ///
    /// # Errors
    /// As [`Generator::encode`].
    pub fn advance(&mut self, budget: Budget) -> Result<()> {
        let (running, mut decoding) = self.decoding();
        running.guest.advance(running.compiled, &mut decoding, budget)
    }

    /// The passes over the sequence, and the parts that run them.
    pub(super) fn decoding(&mut self) -> (DecodeParts<'_>, Decoding<'_>) {
        let Generator { compiled, guest, decoder, sequence, cursor, .. } = self;
        (DecodeParts { compiled, guest }, Decoding { decoder, sequence, cursor: *cursor })
    }

    /// Returns the tokens that were read back since the last call. Call it once a frame.
    ///
    /// # Errors
    /// [`Error::Diverged`](crate::Error::Diverged) for logits that are not finite, after the tokens before them were returned;
    /// [`Error::DeviceLost`](crate::Error::DeviceLost) when the device is lost.
    pub fn poll(&mut self) -> Result<Vec<u32>> {
        self.collect()?;
        match &self.failed {
            Some(error) if self.came.is_empty() => Err(error.clone()),
            _ => Ok(self.came.drain(..).collect()),
        }
    }

    /// Polls the device without blocking, keeps the tokens that were read back and requests those that are missing.
    pub(super) fn collect(&mut self) -> Result<()> {
        self.guest.poll()?;
        if let Some((sequence, bytes)) = self.guest.fetched(&mut self.readback)?
            && sequence == self.sequences
        {
            self.keep_tokens(&bytes);
        }
        if self.guest.place().drawn > self.cursor.drawn && self.failed.is_none() {
            self.guest.fetch(&mut self.readback, self.compiled.place(&self.decoder.feed.cursor).0, self.sequences)?;
        }
        Ok(())
    }

    /// The logits (V) that [`Generator::begin_logits`] requested, once they are read back. Forbidden ids have minus infinity.
    ///
    /// # Errors
    /// As [`Generator::poll`].
    pub fn poll_logits(&mut self) -> Result<Option<Vec<f32>>> {
        self.collect()?;
        let idle = self.is_idle();
        let Some(readback) = &mut self.logits else { return Ok(None) };
        let come = self.guest.fetched(readback)?;
        if let Some((_, bytes)) = come.filter(|(sequence, _)| *sequence == self.sequences && self.logits_wanted) {
            self.logits_wanted = false;
            return self.checked(bytemuck::pod_collect_to_vec(&bytes)).map(Some);
        }
        if self.logits_wanted && idle {
            self.guest.fetch(readback, self.compiled.place(&self.decoder.logits).0, self.sequences)?;
        }
        Ok(None)
    }

    /// Keeps the tokens drawn since the last readback.
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
