//! Finds the fastest variant of each kernel on this adapter, by timing the dispatches of a plan.
//!
//! Dispatches are grouped by kernel and shape class; the most expensive of each group is timed alone, on scratch buffers of the same sizes,
//! never on a run's own buffers. Every variant that runs on the adapter is a candidate; it is chosen if its result agrees with the
//! default's and it is faster by [`MARGIN`]. Only an explicit call tunes: timing noise must not change a run's results.

mod data;
#[cfg(feature = "files")]
pub mod file;

use std::time::Duration;

use web_time::Instant;

use super::Gpu;
use super::compile::Compiled;
use super::kernel::{Access, Binding};
use super::options::Options;
use super::plan::{Dispatch, Keep, Phase, Plan};
use super::run::Runner;
use super::tensor::Tensor;
use super::variants::{Choice, Class};
use super::wait::{self, block_on};
use crate::error::Result;

/// A variant is chosen only if it is faster than the default by this fraction.
pub const MARGIN: f64 = 0.03;

/// A candidate whose best time so far is this many times the fastest's is not timed any further.
const HOPELESS: f64 = 2.0;

/// A variant is not timed in a kernel if it was this many times slower than the fastest in the kernel that this one extends.
const FAR: f64 = 3.0;

/// Shapes up to this distance count as near.
const NEAR: u64 = 32;

/// How long one measurement should take: long compared with a submit, short for a user who waits.
const LONG_ENOUGH: Duration = Duration::from_millis(10);

const PHASE: Phase = Phase("tune");

/// The dispatches of one kernel and shape class.
pub struct ShapeGroup<'p> {
    /// The most expensive of them.
    dispatch: &'p Dispatch,
    /// The shape class of all of them.
    pub class: Class,
    /// Number of dispatches in all plans.
    pub calls: usize,
}

/// The timings of one kernel and shape class.
#[derive(Debug, Clone)]
pub struct TuneRow {
    /// `matmul.forward`.
    pub kernel: String,
    /// The shape class of its dispatches.
    pub class: Class,
    /// Number of dispatches in all plans that [`groups`] was given.
    pub calls: usize,
    /// Every variant with code of its own that runs on the adapter.
    pub candidates: Vec<Candidate>,
    /// Index of the candidate that is used without tuning.
    pub default: usize,
    /// Index of the candidate to use.
    pub chosen: usize,
}

/// One variant with its timing.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The name that a [`Choice`] stores.
    pub variant: &'static str,
    /// Median seconds of one dispatch, or why it was not timed.
    pub seconds: Result<f64, String>,
}

impl TuneRow {
    /// The choice to store.
    pub fn choice(&self) -> Choice {
        let variant = self.candidates[self.chosen].variant.to_owned();
        Choice { kernel: self.kernel.clone(), class: Some(self.class), variant }
    }

    /// Seconds of one dispatch with a variant, if it was timed.
    fn timed(&self, variant: &str) -> Option<f64> {
        self.candidates.iter().find(|candidate| candidate.variant == variant)?.seconds.clone().ok()
    }

    fn fastest(&self) -> f64 {
        self.candidates.iter().filter_map(|candidate| candidate.seconds.clone().ok()).fold(f64::INFINITY, f64::min)
    }

    /// Seconds of one dispatch with the default and with the chosen variant.
    pub fn seconds(&self) -> [f64; 2] {
        [self.default, self.chosen].map(|index| self.candidates[index].seconds.clone().unwrap_or(f64::INFINITY))
    }
}

/// The groups of several plans for which this adapter has more than one variant, ordered by kernel.
pub fn groups<'p>(plans: &[&'p Plan], gpu: &Gpu) -> Vec<ShapeGroup<'p>> {
    let mut groups: Vec<ShapeGroup> = vec![];
    for dispatch in plans.iter().flat_map(|plan| plan.dispatches()) {
        let class = Class::of(dispatch);
        match groups.iter_mut().find(|group| group.class == class && group.dispatch.kernel.name() == dispatch.kernel.name()) {
            Some(group) => {
                group.calls += 1;
                if dispatch.cost() > group.dispatch.cost() {
                    group.dispatch = dispatch;
                }
            }
            None => groups.push(ShapeGroup { dispatch, class, calls: 1 }),
        }
    }
    groups.retain(|group| group.candidates(gpu).len() > 1);
    groups.sort_by(|a, b| (a.dispatch.kernel.name(), a.class).cmp(&(b.dispatch.kernel.name(), b.class)));
    groups
}

impl ShapeGroup<'_> {
    /// `matmul.forward`.
    pub fn kernel(&self) -> &str {
        self.dispatch.kernel.name()
    }

    /// Whether `wanted` names its kernel or the kernel's file.
    pub fn is_of(&self, wanted: &str) -> bool {
        wanted == self.dispatch.kernel.name() || wanted == self.dispatch.kernel.file()
    }

    /// The variants that run on the adapter, the default first; of variants with equal code for this kernel only the first.
    fn candidates(&self, gpu: &Gpu) -> Vec<&'static str> {
        let Dispatch { kernel, extent, .. } = self.dispatch;
        let default = kernel.choose(gpu.traits(), extent, None, &[]);
        let module = |index: usize| &kernel.interfaces()[index].module;
        let able = |index: &usize| *index != default && (module(*index).variant.runs)(gpu.traits());
        let others = (0..kernel.interfaces().len()).filter(able);
        let mut found: Vec<(&'static str, String)> = vec![];
        for index in std::iter::once(default).chain(others) {
            let code = module(index).code(kernel.entry());
            if found.iter().all(|(_, other)| *other != code) {
                found.push((module(index).variant.name, code));
            }
        }
        found.into_iter().map(|(name, _)| name).collect()
    }

    /// Times the candidates in `rounds` rounds, in which they take turns; blocks. `known` returns the contents of bindings, by name, for
    /// which noise would not be valid; `before` holds the rows of the groups that were measured before this one; `next` is called with each
    /// variant before it is compiled.
    ///
    /// # Errors
    /// [`crate::error::Error::Limit`] and [`crate::error::Error::Device`] as [`Plan::compile`] for the default; the error of another
    /// candidate is stored in its row.
    pub fn measure(
        &self,
        gpu: &Gpu,
        rounds: usize,
        known: &dyn Fn(&str) -> Option<Vec<u32>>,
        before: &[TuneRow],
        next: &mut dyn FnMut(&str),
    ) -> Result<TuneRow> {
        let plan = isolated(self.dispatch);
        let names = self.candidates(gpu);
        next(names[0]);
        let mut first = Contender::new(gpu, &plan, names[0], &[])?;
        first.fill(known, &|_| true)?;
        let lent: Vec<(String, wgpu::Buffer)> = first.bindings.iter().zip(&first.tensors).map(|(b, t)| first.buffer(b, t)).collect();
        let wanted = first.result()?;
        first.calibrate()?;
        let mut contenders = vec![Ok(first)];
        for name in &names[1..] {
            let hopeless = if gpu.traits().software { far_behind((self.kernel(), self.class), name, before) } else { None };
            contenders.push(match hopeless {
                Some(why) => Err(why),
                None => {
                    next(name);
                    challenger(gpu, &plan, name, &lent, known, &wanted)
                }
            });
        }
        for _ in 0..rounds {
            let best = contenders.iter().flatten().map(Contender::least).fold(f64::INFINITY, f64::min);
            for (index, contender) in contenders.iter_mut().enumerate() {
                let Ok(contender) = contender else { continue };
                if index > 0 && contender.least() > HOPELESS * best {
                    continue;
                }
                contender.fill(known, &|access| access == Access::ReadWrite)?;
                contender.time()?;
            }
        }
        let candidate = |(variant, contender): (&&'static str, &Result<Contender, String>)| Candidate {
            variant,
            seconds: contender.as_ref().map(Contender::median).map_err(String::clone),
        };
        let candidates: Vec<Candidate> = names.iter().zip(&contenders).map(candidate).collect();
        let chosen = fastest(&candidates);
        Ok(TuneRow { kernel: self.dispatch.kernel.name().to_owned(), class: self.class, calls: self.calls, candidates, default: 0, chosen })
    }
}

/// Why a variant is not worth compiling on a software driver, where that takes seconds and a dispatch microseconds: it was far from the
/// fastest at every near shape in the kernel that this one extends, as `matmul.forward_bias` extends `matmul.forward`. Graphics cards
/// compile quickly and are not full at small shapes, whose times then say nothing about larger ones: on them no variant is left out.
fn far_behind((kernel, class): (&str, Class), variant: &str, before: &[TuneRow]) -> Option<String> {
    if before.iter().any(|row| row.kernel == kernel && row.timed(variant).is_some()) {
        return None; // it is already compiled
    }
    let continues = |stem: &str| kernel.strip_prefix(stem).is_some_and(|rest| rest.starts_with('_'));
    let near = before.iter().filter(|row| continues(&row.kernel) && class.distance(row.class) <= NEAR);
    let timed = near.filter_map(|row| Some((row.timed(variant)? / row.fastest(), row)));
    let (ratio, row) = timed.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (ratio >= FAR).then(|| format!("{ratio:.0} times the fastest in {} {}", row.kernel, row.class))
}

/// The fastest candidate if it beats the default, which comes first, by [`MARGIN`]; else the default.
fn fastest(candidates: &[Candidate]) -> usize {
    let seconds = |index: usize| candidates[index].seconds.clone().unwrap_or(f64::INFINITY);
    let best = (0..candidates.len()).min_by(|&a, &b| seconds(a).total_cmp(&seconds(b))).unwrap_or(0);
    if seconds(best) < seconds(0) * (1.0 - MARGIN) { best } else { 0 }
}

/// A candidate that can be timed, or the reason why not.
fn challenger(
    gpu: &Gpu,
    plan: &Plan,
    variant: &'static str,
    lent: &[(String, wgpu::Buffer)],
    known: &dyn Fn(&str) -> Option<Vec<u32>>,
    wanted: &[Vec<u32>],
) -> Result<Contender, String> {
    let make = || {
        let mut contender = Contender::new(gpu, plan, variant, lent)?;
        contender.fill(known, &|access| access != Access::Read && access != Access::Uniform)?;
        let found = contender.result()?;
        contender.calibrate()?;
        Ok((contender, found))
    };
    let (contender, found) = make().map_err(|e: crate::error::Error| e.to_string())?;
    for (tensor, (found, wanted)) in contender.written().zip(found.iter().zip(wanted)) {
        if let Some(difference) = data::difference(tensor.dtype, found, wanted) {
            return Err(format!("disagrees with the default in `{}`: {difference}", tensor.name));
        }
    }
    Ok(contender)
}

/// A plan with this dispatch only, each binding in a buffer of its own.
fn isolated(dispatch: &Dispatch) -> Plan {
    let mut plan = Plan::new();
    plan.begin(PHASE);
    let own = |(binding, tensor): (&Binding, &Tensor)| {
        let storage = plan.storage(&binding.name, tensor.bytes().max(binding.stride), Keep::Always, "tuning");
        plan.view(storage, &binding.name, &tensor.shape, tensor.dtype, 0)
    };
    let tensors = dispatch.kernel.interfaces()[0].bindings.iter().zip(&dispatch.tensors).map(own).collect();
    let Dispatch { kernel, extent, dims, flops, .. } = dispatch;
    plan.push_dispatch(Dispatch { kernel: kernel.clone(), extent: *extent, dims: dims.clone(), tensors, flops: *flops });
    plan
}

/// One variant with its compiled plan and its times.
struct Contender {
    gpu: Gpu,
    compiled: Compiled,
    runner: Runner,
    bindings: Vec<Binding>,
    tensors: Vec<Tensor>,
    /// Dispatches in one measurement.
    repeats: usize,
    /// Seconds of the fastest of a few single dispatches.
    estimate: f64,
    seconds: Vec<f64>,
}

impl Contender {
    fn new(gpu: &Gpu, plan: &Plan, variant: &'static str, lent: &[(String, wgpu::Buffer)]) -> Result<Contender> {
        let dispatch = plan.dispatches().next().expect("an isolated plan has one dispatch");
        let choice = Choice { kernel: dispatch.kernel.name().to_owned(), class: None, variant: variant.to_owned() };
        let options = Options { variants: vec![choice], existing: lent.to_vec(), ..Options::default() };
        let compiled = block_on(gpu, plan.compile(gpu, &options))?;
        let bindings = dispatch.kernel.interfaces()[0].bindings.clone();
        let tensors = dispatch.tensors.clone();
        Ok(Contender {
            gpu: gpu.clone(),
            compiled,
            runner: Runner::new(gpu),
            bindings,
            tensors,
            repeats: 1,
            estimate: f64::INFINITY,
            seconds: vec![],
        })
    }

    fn buffer(&self, binding: &Binding, tensor: &Tensor) -> (String, wgpu::Buffer) {
        (binding.name.clone(), self.compiled.place(tensor).0.clone())
    }

    fn written(&self) -> impl Iterator<Item = &Tensor> {
        let written = |(binding, _): &(&Binding, &Tensor)| matches!(binding.access, Access::Write | Access::ReadWrite);
        self.bindings.iter().zip(&self.tensors).filter(written).map(|(_, tensor)| tensor)
    }

    /// Fills the bindings whose access is selected with their known contents, or with noise.
    fn fill(&mut self, known: &dyn Fn(&str) -> Option<Vec<u32>>, which: &dyn Fn(Access) -> bool) -> Result<()> {
        for (seed, (binding, tensor)) in self.bindings.iter().zip(&self.tensors).enumerate().filter(|(_, (b, _))| which(b.access)) {
            let (buffer, _) = self.compiled.place(tensor);
            let words = (buffer.size() / 4) as usize;
            let known = known(&binding.name).filter(|known| known.len() <= words);
            let contents = known.unwrap_or_else(|| data::noise(tensor.dtype, words, seed as u32));
            block_on(&self.gpu, self.compiled.transfer.write(&self.gpu, buffer, 0, bytemuck::cast_slice(&contents)))?;
        }
        Ok(())
    }

    /// Runs once, which also makes the driver compile, and reads the outputs back.
    fn result(&mut self) -> Result<Vec<Vec<u32>>> {
        self.run(1)?;
        let read = |tensor: &Tensor| {
            let (buffer, _) = self.compiled.place(tensor);
            let bytes = block_on(&self.gpu, self.compiled.transfer.read(&self.gpu, buffer, 0, buffer.size()))?;
            Ok(bytemuck::pod_collect_to_vec(&bytes))
        };
        self.written().map(read).collect()
    }

    /// Determines how many dispatches a measurement needs.
    fn calibrate(&mut self) -> Result<()> {
        // One sample is enough if a dispatch takes long.
        while self.seconds.len() < 3 && self.seconds.iter().sum::<f64>() < 5.0 * LONG_ENOUGH.as_secs_f64() {
            self.time()?;
        }
        self.estimate = self.seconds.drain(..).fold(f64::INFINITY, f64::min);
        self.repeats = (LONG_ENOUGH.as_secs_f64() / self.estimate.max(1e-9)).clamp(1.0, 1000.0) as usize;
        Ok(())
    }

    /// Takes one measurement of `repeats` dispatches.
    fn time(&mut self) -> Result<()> {
        wait::for_device(&self.gpu)?;
        let began = Instant::now();
        self.run(self.repeats)?;
        self.seconds.push(began.elapsed().as_secs_f64() / self.repeats as f64);
        Ok(())
    }

    fn run(&mut self, repeats: usize) -> Result<()> {
        let ranges = std::iter::repeat_n(self.compiled.phase(PHASE), repeats);
        self.runner.run(&self.compiled, ranges)?;
        self.runner.wait_for_all()
    }

    /// The best time so far, including single dispatches.
    fn least(&self) -> f64 {
        self.seconds.iter().copied().fold(self.estimate, f64::min)
    }

    /// The median of the rounds; the estimate for a candidate that was not timed in any.
    fn median(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(self.estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(seconds: &[Result<f64, String>]) -> Vec<Candidate> {
        seconds.iter().map(|seconds| Candidate { variant: "v", seconds: seconds.clone() }).collect()
    }

    #[test]
    fn a_challenger_must_win_by_the_margin() {
        assert_eq!(fastest(&candidates(&[Ok(1.0), Ok(0.98), Ok(2.0)])), 0);
        assert_eq!(fastest(&candidates(&[Ok(1.0), Ok(0.96), Ok(0.95)])), 2);
        assert_eq!(fastest(&candidates(&[Ok(1.0), Err("disagrees".into())])), 0);
        assert_eq!(fastest(&candidates(&[Ok(1.0)])), 0);
    }

    #[test]
    fn only_evidence_from_near_leaves_a_variant_out() {
        let row = |kernel: &str, class: &str, seconds: f64| TuneRow {
            kernel: kernel.into(),
            class: class.parse().unwrap(),
            calls: 1,
            candidates: candidates(&[Ok(1.0)]).into_iter().chain([Candidate { variant: "slow", seconds: Ok(seconds) }]).collect(),
            default: 0,
            chosen: 0,
        };
        let left_out = |kernel: &str, class: &str, before: &[TuneRow]| far_behind((kernel, class.parse().unwrap()), "slow", before);
        let (far, near) = ([row("a.forward", "8x8x8", 4.0)], row("a.forward", "16x8x8", 2.9));
        assert_eq!(left_out("a.forward_bias", "8x8x8", &far).unwrap(), "4 times the fastest in a.forward 8x8x8");
        assert_eq!(left_out("a.forward_bias", "32x32x16", &far).unwrap(), "4 times the fastest in a.forward 8x8x8");
        // One near shape where it was fast enough is a reason to time it; distant shapes and other element types say nothing.
        assert_eq!(left_out("a.forward_bias", "8x8x8", &[far[0].clone(), near]), None);
        assert_eq!(left_out("a.forward_bias", "32x32x32", &far), None);
        assert_eq!(left_out("a.forward_bias", "8x8x8xbf16", &far), None);
        // Other kernels say nothing about it, and a variant that is already compiled is timed.
        assert_eq!(left_out("a.forwards", "8x8x8", &far), None);
        assert_eq!(left_out("a.backward_bias", "8x8x8", &far), None);
        assert_eq!(left_out("a.forward", "16x8x8", &far), None);
        assert_eq!(left_out("a.forward_bias", "8x8x8", &[far[0].clone(), row("a.forward_bias", "8x16x8", 9.0)]), None);
        // A candidate that failed was not timed.
        let failed = TuneRow { candidates: candidates(&[Ok(1.0), Err("disagrees".into())]), ..far[0].clone() };
        assert_eq!(left_out("a.forward_bias", "8x8x8", &[failed]), None);
    }
}
