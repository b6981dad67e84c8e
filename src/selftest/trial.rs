//! One trial of one operation: inputs between guard zones, recorded as the model records it, outputs compared with the twin (the f64
//! reference implementation).
//!
//! A trial runs several times: as shipped (unchecked) in each variant, with wgpu's run-time checks, and cut into slices. Every variant must
//! agree with the twin; sliced runs must be bit-identical to the unsliced run; guard zones must be untouched; elements that a kernel does
//! not write must still be poison.

mod run;

pub(super) use run::{threads, variants_of};

use std::fmt;

use half::{bf16, f16};

use crate::gpu::Gpu;
use crate::gpu::plan::{Keep, Phase, Plan};
use crate::gpu::tensor::{Dtype, Tensor};
use crate::ops::cursor::Cursor;
use crate::ops::step::{State, Step};
use crate::reference::finite_diff;

/// The bits of a NaN that no kernel computes, and an id that no table has.
pub const POISON: u32 = 0x7fc0_dead;
const GUARD: u64 = 256;
const PHASE: Phase = Phase("trial");

/// Noise in [-1, 1), exact in f32.
pub fn noise(len: usize, seed: u32) -> Vec<f64> {
    finite_diff::noise(len, seed).into_iter().map(|x| f64::from(x as f32)).collect()
}

/// Noise in [-1, 1) in multiples of 1 / `steps`. While every partial sum stays below 2²⁴ / `steps`, f32 adds it without rounding in any
/// order, so one term too few or too many is detected in a sum of any length.
pub fn dyadic(len: usize, seed: u32, steps: f64) -> Vec<f64> {
    finite_diff::noise(len, seed).into_iter().map(|x| (x * steps).floor() / steps).collect()
}

/// a + b, elementwise.
pub fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The words of an f32 tensor with these numbers.
pub fn bits(data: &[f64]) -> Vec<u32> {
    data.iter().map(|&x| (x as f32).to_bits()).collect()
}

/// The same numbers rounded to an element type: to the nearest, ties to even.
pub fn stored(data: &[f64], dtype: Dtype) -> Vec<f64> {
    let nearest = |x: f64| match dtype {
        Dtype::Bf16 => bf16::from_f32(x as f32).to_f64(),
        Dtype::F16 => f16::from_f32(x as f32).to_f64(),
        Dtype::F32 | Dtype::U32 => x,
    };
    data.iter().copied().map(nearest).collect()
}

/// The words of a tensor of these numbers, which the element type holds exactly.
pub fn words_of(data: &[f64], dtype: Dtype) -> Vec<u32> {
    let half = |&x: &f64| match dtype {
        Dtype::F16 => f16::from_f32(x as f32).to_bits(),
        _ => bf16::from_f32(x as f32).to_bits(),
    };
    if !dtype.is_packed() {
        return bits(data);
    }
    let halves: Vec<u32> = data.iter().map(|x| u32::from(half(x))).collect();
    halves.chunks(2).map(|pair| pair[0] | pair.get(1).unwrap_or(&0) << 16).collect()
}

fn words_in(tensor: &Tensor) -> usize {
    (tensor.len() * tensor.dtype.size() as usize).div_ceil(4)
}

/// The numbers stored in the words of a tensor.
fn numbers(words: &[u32], tensor: &Tensor) -> Vec<f64> {
    let number = |bits: u32| f64::from(f32::from_bits(bits));
    let both = |&word: &u32| [number(word << 16), number(word & 0xffff_0000)];
    let halves = |&word: &u32| [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f64());
    match tensor.dtype {
        Dtype::F16 => words.iter().flat_map(halves).take(tensor.len()).collect(),
        Dtype::Bf16 => words.iter().flat_map(both).take(tensor.len()).collect(),
        Dtype::F32 | Dtype::U32 => words.iter().copied().map(number).collect(),
    }
}

/// The relative tolerance of a result: `f32` of the computation, plus 2⁻⁸ if the result is rounded to 8 significant bits, 2⁻¹⁰ if it is
/// rounded to 11, which WGSL allows in either direction.
pub fn relative(dtype: Dtype, f32: f64) -> f64 {
    match dtype {
        Dtype::Bf16 => f32 + 2f64.powi(-8),
        Dtype::F16 => f32 + 2f64.powi(-10),
        Dtype::F32 | Dtype::U32 => f32,
    }
}

/// What one kernel did wrong in one variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The kernel that wrote the tensor last, `matmul.forward`; the file's name if no tensor is to blame.
    pub kernel: String,
    /// The variant that it ran in.
    pub variant: String,
    /// The trial: operation and sizes.
    pub case: String,
    /// How it ran: as shipped, with run-time checks, in slices.
    pub how: String,
    /// What is wrong: the element, its value and the value needed; or the driver's error.
    pub problem: String,
}

/// The result of a case, and of a trial.
pub type Checked = Result<(), Box<Failure>>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { kernel, variant, case, how, problem } = self;
        write!(f, "{kernel}[{variant}] is wrong {how}: {problem} ({case})")
    }
}

/// Runs the trials of cases on one device.
pub struct Checker<'a> {
    /// The device.
    pub gpu: &'a Gpu,
    run: &'a mut dyn FnMut(Trial) -> Checked,
}

impl<'a> Checker<'a> {
    /// A checker that calls `run` with each trial of a case; an `Err` ends the case.
    pub fn new(gpu: &'a Gpu, run: &'a mut dyn FnMut(Trial) -> Checked) -> Checker<'a> {
        Checker { gpu, run }
    }

    /// Checks one trial.
    ///
    /// # Errors
    /// What is wrong, unless the failures are collected elsewhere.
    pub fn check(&mut self, trial: Trial) -> Checked {
        (self.run)(trial)
    }

    /// As [`Checker::check`], for a trial that software drivers, which take seconds to compile a variant, run in default variants only.
    ///
    /// # Errors
    /// As [`Checker::check`].
    pub fn check_defaults(&mut self, trial: Trial) -> Checked {
        (self.run)(Trial { ways: Ways::Defaults, ..trial })
    }

    /// As [`Checker::check`], in those variants only that use cooperative matrices.
    ///
    /// # Errors
    /// As [`Checker::check`].
    pub fn check_cooperative(&mut self, trial: Trial) -> Checked {
        (self.run)(Trial { ways: Ways::Cooperative, ..trial })
    }
}

/// What a tensor must contain after the trial, from element `first` on.
struct Expected {
    tensor: Tensor,
    first: usize,
    want: Want,
}

enum Want {
    Close {
        want: Vec<f64>,
        abs: f64,
        rel: f64,
        /// Allowed on top of `abs` in variants that round operands to f16.
        rounding: f64,
    },
    Sums {
        want: Vec<f64>,
        abs: f64,
    },
    Words(Vec<u32>),
}

/// The variants in which a trial runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    All,
    /// On software adapters those that are the default there.
    Defaults,
    Cooperative,
}

/// Inputs, outputs and the plan of one trial.
pub struct Trial {
    name: String,
    pub plan: Plan,
    tensors: Vec<(Tensor, Vec<u32>)>,
    expected: Vec<Expected>,
    ways: Ways,
}

impl Trial {
    /// `name` describes kernel and sizes in failure messages.
    pub fn new(name: impl Into<String>) -> Trial {
        let mut plan = Plan::new();
        plan.begin(PHASE);
        Trial { name: name.into(), plan, tensors: vec![], expected: vec![], ways: Ways::All }
    }

    fn add(&mut self, name: &str, shape: &[usize], dtype: Dtype, words: Vec<u32>) -> Tensor {
        let bytes = (shape.iter().product::<usize>() as u64 * dtype.size()).next_multiple_of(16);
        let storage = self.plan.storage(name, (GUARD + bytes + GUARD).next_multiple_of(4), Keep::Always, "trial");
        assert!(self.tensors.iter().all(|(t, _)| &*t.name != name), "{}: two tensors are called {name}", self.name);
        let tensor = self.plan.view(storage, name, shape, dtype, GUARD);
        self.tensors.push((tensor.clone(), words));
        tensor
    }

    /// A tensor with contents.
    pub fn input(&mut self, name: &str, shape: &[usize], data: &[f64]) -> Tensor {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "{}: {name}", self.name);
        self.add(name, shape, Dtype::F32, bits(data))
    }

    /// An activation with contents, stored as `dtype`; the numbers must be exact in it (see [`stored`]).
    pub fn activation(&mut self, name: &str, shape: &[usize], dtype: Dtype, data: &[f64]) -> Tensor {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "{}: {name}", self.name);
        self.add(name, shape, dtype, words_of(data, dtype))
    }

    /// An activation that the operation overwrites completely; initially poison.
    pub fn activation_output(&mut self, name: &str, shape: &[usize], dtype: Dtype) -> Tensor {
        let words = (shape.iter().product::<usize>() * dtype.size() as usize).div_ceil(4);
        self.add(name, shape, dtype, vec![POISON; words])
    }

    /// A tensor of ids.
    pub fn words(&mut self, name: &str, shape: &[usize], data: &[u32]) -> Tensor {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "{}: {name}", self.name);
        self.add(name, shape, Dtype::U32, data.to_vec())
    }

    /// A tensor of numbers given by their bits, to contain poison.
    pub fn numbers(&mut self, name: &str, shape: &[usize], words: &[u32]) -> Tensor {
        assert_eq!(words.len(), shape.iter().product::<usize>(), "{}: {name}", self.name);
        self.add(name, shape, Dtype::F32, words.to_vec())
    }

    /// The block of a micro-batch, which the host writes.
    pub fn step(&mut self, name: &str, step: Step) -> Tensor {
        self.words(name, &[Step::WORDS], bytemuck::cast_slice(&[step]))
    }

    /// The block of the optimizer's state, which the device updates.
    pub fn state(&mut self, name: &str, state: State) -> Tensor {
        self.words(name, &[State::WORDS], bytemuck::cast_slice(&[state]))
    }

    /// The block with the state of decoding.
    pub fn cursor(&mut self, name: &str, cursor: Cursor) -> Tensor {
        self.words(name, &[Cursor::WORDS], bytemuck::cast_slice(&[cursor]))
    }

    /// A tensor that the operation overwrites completely; initially poison.
    pub fn output(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.add(name, shape, Dtype::F32, vec![POISON; shape.iter().product()])
    }

    /// Requires the contents of a tensor after the trial: |a − b| ≤ abs + rel · |b|.
    pub fn expect(&mut self, tensor: &Tensor, want: &[f64], abs: f64, rel: f64) {
        assert_eq!(want.len(), tensor.len(), "{}: {}", self.name, tensor.name);
        self.expect_part(tensor, 0, want, abs, rel);
    }

    /// The same for `want.len()` elements from `first` on.
    pub fn expect_part(&mut self, tensor: &Tensor, first: usize, want: &[f64], abs: f64, rel: f64) {
        // The smallest number of f16.
        let abs = if tensor.dtype == Dtype::F16 { abs + 2f64.powi(-24) } else { abs };
        self.expected.push(Expected { tensor: tensor.clone(), first, want: Want::Close { want: want.to_vec(), abs, rel, rounding: 0.0 } });
    }

    /// The same, with an error of `rounding` more where the kernel that writes the tensor multiplies by cooperative matrices, and rounds
    /// what it has computed to f16 before.
    pub fn expect_rounded(&mut self, tensor: &Tensor, want: &[f64], abs: f64, rel: f64, rounding: f64) {
        self.expect(tensor, want, abs, rel);
        if let Some(Expected { want: Want::Close { rounding: allowed, .. }, .. }) = self.expected.last_mut() {
            *allowed = rounding;
        }
    }

    /// Requires the sums of a tensor's rows: |a − b| ≤ abs.
    pub fn expect_sums(&mut self, tensor: &Tensor, want: &[f64], abs: f64) {
        assert_eq!(want.len(), tensor.rows(), "{}: {}", self.name, tensor.name);
        self.expected.push(Expected { tensor: tensor.clone(), first: 0, want: Want::Sums { want: want.to_vec(), abs } });
    }

    /// Requires exact words from element `first` on: integers, or contents that must be untouched.
    pub fn expect_words(&mut self, tensor: &Tensor, first: usize, want: &[u32]) {
        self.expected.push(Expected { tensor: tensor.clone(), first, want: Want::Words(want.to_vec()) });
    }
}
