//! The loss over a whole token store, on non-overlapping windows.

use crate::error::Result;
use crate::gpu::wait;
use crate::model::session::Session;
use crate::model::{CAST, EVALUATE, FORWARD, RECORDS, STEP_RECORDS};
use crate::ops::loss::RECORD;
use crate::ops::step::Step;
use crate::text::{Bigram, Corpus, EvalWindow, IGNORED, TokenStore, eval_windows, fill_eval};
use crate::train::config::RunConfig;

/// The result of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean over tokens, nats.
    pub loss: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
}

/// The number of batches that [`evaluate`] runs.
///
/// # Errors
/// [`crate::error::Error::Usage`] for fewer than two tokens.
pub fn eval_batches(data: &TokenStore, seq_len: usize, batches: usize, batch: usize) -> Result<usize> {
    Ok(windows(data, seq_len, batches, batch)?.len().div_ceil(batch))
}

/// The windows that `batches` batches of `batch` sequences evaluate, spread over the whole of `data`; 0 batches means all of it.
fn windows(data: &TokenStore, seq_len: usize, batches: usize, batch: usize) -> Result<impl ExactSizeIterator<Item = EvalWindow> + use<>> {
    eval_windows(data, seq_len, batches.saturating_mul(batch))
}

/// The loss of a bigram model of the training part, in nats per token, on the same windows as the run's validations.
///
/// # Errors
/// [`crate::error::Error::Usage`] for a validation part of fewer than two tokens, or an id outside the vocabulary.
pub fn bigram_loss(config: &RunConfig, corpus: &Corpus) -> Result<f64> {
    let (model, train) = (&config.model, &config.train);
    let measured = windows(&corpus.val, model.seq_len, train.eval_batches, train.batch_size)?;
    Bigram::count(&corpus.train, model.vocab_size)?.loss_on(&corpus.val, measured)
}

/// Evaluates a training or evaluation session on at most `batches` batches of windows, spread over the whole of `data`; 0 means all.
/// Returns `None` if `stop` returned true.
pub fn evaluate(session: &mut Session, data: &TokenStore, batches: usize, stop: &dyn Fn() -> bool) -> Result<Option<Evaluation>> {
    evaluate_shown(session, data, batches, stop, &mut |_, _| ())
}

/// As [`evaluate`], but calls `show` before each batch with the number of batches submitted and the total.
pub fn evaluate_shown(
    session: &mut Session,
    data: &TokenStore,
    batches: usize,
    stop: &dyn Fn() -> bool,
    show: &mut dyn FnMut(usize, usize),
) -> Result<Option<Evaluation>> {
    let time = session.model.config.seq_len;
    let batch = session.model.inputs.ids.shape[0];
    let windows: Vec<EvalWindow> = windows(data, time, batches, batch)?.collect();
    let (mut ids, mut targets) = (vec![0; batch * time], vec![IGNORED; batch * time]);
    let order: Vec<u32> = (0..(batch * time) as u32).collect();
    let (mut sum, mut tokens) = (0.0, 0);
    let mut phases = vec![CAST, FORWARD, EVALUATE];
    // The records after those of the training steps hold the losses of this many batches before they must be read back.
    let rows = RECORDS - STEP_RECORDS;
    let (mut done, all) = (0, windows.len().div_ceil(batch));
    for group in windows.chunks(rows * batch) {
        for (row, members) in group.chunks(batch).enumerate() {
            show(done, all);
            done += 1;
            targets.fill(IGNORED);
            for (index, window) in members.iter().enumerate() {
                let span = index * time..(index + 1) * time;
                fill_eval(data, *window, &mut ids[span.clone()], &mut targets[span])?;
            }
            tokens += targets.iter().filter(|&&target| target != IGNORED).count() as u64;
            let step = Step { target_scale: 1.0, record: (STEP_RECORDS + row) as u32, fresh: 1, ..Step::default() }.with_dropout(0.0);
            let slot = session.model.inputs.slot(step, &ids, &targets, &order, &[]);
            if !session.run(&slot, &phases, stop)? {
                return Ok(None);
            }
            phases.retain(|phase| *phase != CAST);
        }
        session.guest.runner.wait_for_all()?;
        let records = wait::block_on(&session.gpu, session.compiled.read::<f32>(&session.model.records))?;
        let used = group.len().div_ceil(batch);
        sum += records[STEP_RECORDS * RECORD..].chunks(RECORD).take(used).map(|record| f64::from(record[0])).sum::<f64>();
    }
    Ok(Some(Evaluation { loss: sum / tokens.max(1) as f64, tokens }))
}
