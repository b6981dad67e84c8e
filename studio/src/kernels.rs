//! The time of each kernel in a step: measured on demand, because the measurement waits for every dispatch.

use wgpt::low_level::gpu::profile::Profiler;
use wgpt::{Result, block_on};

use crate::engine::Engine;

/// Milliseconds of each kernel in one step, longest first. Blocks for that step; empty while a save holds training.
pub fn measure(engine: &mut Engine) -> Result<Vec<(String, f32)>> {
    let gpu = engine.gpu.clone();
    let held = engine.saver.holds();
    let data = &engine.opened.corpus.train;
    let Some(trainer) = std::rc::Rc::get_mut(&mut engine.opened.trainer).filter(|_| !held) else { return Ok(vec![]) };
    trainer.end_step(data)?;
    trainer.session.profiler = Some(block_on(&gpu, Profiler::new(&gpu, &trainer.session.compiled, None))?);
    let stepped = trainer.step(data, false, &|| false);
    let profiler = trainer.session.profiler.take();
    stepped?;
    let Some(mut profiler) = profiler else { return Ok(vec![]) };
    profiler.end_step();
    let mut kernels: Vec<(String, f32)> = vec![];
    for row in profiler.rows(&trainer.session.compiled) {
        let milliseconds = row.last as f32 * 1e3;
        match kernels.iter_mut().find(|(kernel, _)| *kernel == row.kernel) {
            Some((_, sum)) => *sum += milliseconds,
            None => kernels.push((row.kernel, milliseconds)),
        }
    }
    kernels.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(kernels)
}
