//! Derives lifetimes from a plan's reads and writes, and buffers from lifetimes, before anything is allocated.
//!
//! Step storages share whole buffers if their lifetimes do not overlap. They never share ranges of one buffer, because wgpu refuses a
//! buffer that is bound read-only and read-write in the same dispatch.

use super::kernel::Access;
use super::plan::{Keep, Plan};
use crate::error::{Error, Result, bytes};

/// The buffer of each storage, and the sizes of all buffers.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    /// Label of each buffer: the name of its first storage.
    pub labels: Vec<String>,
    /// Buffer of each storage; `usize::MAX` for an unused step storage.
    pub of_storage: Vec<usize>,
    /// Bytes by class, in order of first appearance: `parameters`, `activations`.
    pub classes: Vec<(&'static str, u64)>,
}

impl Layout {
    /// Bytes of all buffers together.
    pub fn total(&self) -> u64 {
        self.buffers.iter().sum()
    }
}

/// The first and last work that uses a storage; `None` if none does.
type Life = Option<(usize, usize)>;

/// Lays a plan out; storages named in `kept` get a buffer of their own, like those with [`Keep::Always`].
///
/// # Errors
/// [`Error::Usage`] for a name that no storage has; [`Error::Limit`], with both sizes, when a storage is larger than the largest buffer or
/// a tensor larger than the largest binding.
pub fn layout(plan: &Plan, limits: &wgpu::Limits, kept: &[String]) -> Result<Layout> {
    check_limits(plan, limits)?;
    if let Some(name) = kept.iter().find(|name| plan.storages.iter().all(|storage| *storage.name != ***name)) {
        return Err(Error::usage(format!("`{name}` is to be kept, but this plan has no tensor of that name")));
    }
    let keep = |storage: usize| {
        let info = &plan.storages[storage];
        if kept.iter().any(|name| **name == *info.name) { Keep::Always } else { info.keep }
    };
    let lives = lifetimes(plan);
    let mut layout = Layout { buffers: vec![], labels: vec![], of_storage: vec![usize::MAX; plan.storages.len()], classes: vec![] };
    // Lifetimes of the storages in each shared buffer; empty for a kept storage, whose buffer is never shared.
    let mut occupied: Vec<Vec<(usize, usize)>> = vec![];
    let mut order: Vec<usize> = (0..plan.storages.len()).collect();
    // Largest first: a later, smaller storage then fits into any buffer that is free during its lifetime. The sort is stable.
    order.sort_by_key(|&s| (keep(s) == Keep::Step, std::cmp::Reverse(plan.storages[s].bytes)));
    for storage in order {
        let info = &plan.storages[storage];
        let free = |stretches: &Vec<(usize, usize)>, (first, last): (usize, usize)| {
            !stretches.is_empty() && stretches.iter().all(|&(from, to)| last < from || to < first)
        };
        let shared = match (keep(storage), lives[storage]) {
            (Keep::Step, None) => continue,
            (Keep::Step, Some(life)) => occupied.iter().position(|stretches| free(stretches, life)),
            (Keep::Always, _) => None,
        };
        let buffer = shared.unwrap_or_else(|| {
            layout.buffers.push(info.bytes);
            layout.labels.push(info.name.to_string());
            occupied.push(vec![]);
            match layout.classes.iter_mut().find(|(class, _)| *class == info.class) {
                Some((_, sum)) => *sum += info.bytes,
                None => layout.classes.push((info.class, info.bytes)),
            }
            layout.buffers.len() - 1
        });
        if keep(storage) == Keep::Step {
            occupied[buffer].extend(lives[storage]);
        }
        layout.of_storage[storage] = buffer;
    }
    Ok(layout)
}

/// First and last use of every storage, in the order of recording.
///
/// # Panics
/// When a step storage is read before it is written; the message names the dispatch and the storage.
fn lifetimes(plan: &Plan) -> Vec<Life> {
    let mut lives: Vec<Life> = vec![None; plan.storages.len()];
    for (time, work) in plan.works.iter().enumerate() {
        for (storage, access) in work.touches() {
            let info = &plan.storages[storage];
            let born_here = lives[storage].is_none() && info.keep == Keep::Step;
            assert!(!born_here || access == Access::Write, "{} reads `{}`, which nothing has written", work.label(), info.name);
            let life = lives[storage].get_or_insert((time, time));
            life.1 = time;
        }
    }
    lives
}

fn check_limits(plan: &Plan, limits: &wgpu::Limits) -> Result<()> {
    let too_large = |what: String, needed: u64, allowed: u64| Error::Limit {
        what,
        needed: bytes(needed),
        allowed: bytes(allowed),
        advice: "take a smaller train.batch_size (with more train.grad_accumulation), a smaller model, or another adapter".into(),
    };
    for storage in &plan.storages {
        if storage.bytes > limits.max_buffer_size {
            return Err(too_large(format!("the buffer of `{}`", storage.name), storage.bytes, limits.max_buffer_size));
        }
    }
    let binding_limit = limits.max_storage_buffer_binding_size;
    for work in &plan.works {
        let super::plan::Action::Dispatch(dispatch) = &work.action else { continue };
        if let Some(tensor) = dispatch.tensors.iter().find(|t| t.bytes() > binding_limit) {
            return Err(too_large(format!("`{}` in one binding", tensor.name), tensor.bytes(), binding_limit));
        }
    }
    Ok(())
}
