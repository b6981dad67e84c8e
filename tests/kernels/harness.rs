//! One trial of one operation: inputs between guard zones, recorded as the model records it, outputs compared with the twin (the f64
//! reference implementation).
//!
//! A trial runs several times: as shipped (unchecked) in each variant, with wgpu's run-time checks, and cut into slices. Every variant must
//! agree with the twin; sliced runs must be bit-identical to the unsliced run; guard zones must be untouched; elements that a kernel does
//! not write must still be poison.

use half::{bf16, f16};
use wgpt::low_level::gpu::Traits;
use wgpt::low_level::gpu::compile::Compiled;
use wgpt::low_level::gpu::extent::Extent;
use wgpt::low_level::gpu::plan::{Keep, Phase, Plan};
use wgpt::low_level::gpu::run::Runner;
use wgpt::low_level::gpu::tensor::{Dtype, Tensor};
use wgpt::low_level::gpu::variants::Choice;
use wgpt::low_level::ops::SOURCES;
use wgpt::low_level::ops::cursor::Cursor;
use wgpt::low_level::ops::step::{State, Step};
use wgpt::low_level::reference::finite_diff;
use wgpt::{Options, block_on};

use crate::common::gpu;

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

/// Whether only tuning selects this variant: it is not the default of any kind of adapter, for one row or many.
fn only_tuned(choice: &Choice) -> bool {
    let source = SOURCES.iter().find(|source| source.file == choice.kernel).expect("a file");
    let variant = source.variants.iter().find(|variant| variant.name == choice.variant).expect("a variant");
    let taken = |software: bool, rows: usize| (variant.suits)(&Traits { software, ..Traits::default() }, &Extent::matrix(rows, 4096));
    ![1, 4096].into_iter().any(|rows| taken(true, rows) || taken(false, rows))
}

/// What a tensor must contain after the trial, from element `first` on.
struct Expected {
    tensor: Tensor,
    first: usize,
    want: Want,
}

enum Want {
    Close { want: Vec<f64>, abs: f64, rel: f64 },
    Sums { want: Vec<f64>, abs: f64 },
    Words(Vec<u32>),
}

/// Inputs, outputs and the plan of one trial.
pub struct Trial {
    name: String,
    pub plan: Plan,
    tensors: Vec<(Tensor, Vec<u32>)>,
    expected: Vec<Expected>,
}

impl Trial {
    /// `name` describes kernel and sizes in failure messages.
    pub fn new(name: impl Into<String>) -> Trial {
        let mut plan = Plan::new();
        plan.begin(PHASE);
        Trial { name: name.into(), plan, tensors: vec![], expected: vec![] }
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
        self.expected.push(Expected { tensor: tensor.clone(), first, want: Want::Close { want: want.to_vec(), abs, rel } });
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

    /// Runs the trial in every way and checks all expectations.
    pub fn run(self) {
        let mut taken = vec![];
        for variants in self.variant_choices() {
            let options = Options { variants: variants.clone(), ..Options::default() };
            let compiled = self.compile(&options);
            // Skips the variant that is the default, which has run.
            if taken.contains(&compiled.variants) {
                continue;
            }
            taken.push(compiled.variants.clone());
            let shipped = self.once(&compiled);
            self.compare(&shipped, &variants, "as shipped");
            // Bounds checks and slicing are tested on the file's default variants, not again on variants that only tuning selects; and
            // small grids test them as well as those that exceed the device's limit.
            if variants.iter().any(only_tuned) || self.groups(&options) > 65_535 {
                continue;
            }
            // The checks change the code, which a compiler may contract to other multiply-adds (NVIDIA's and newer Mesa's do): within
            // tolerance, not bit-equal.
            let checked = self.once(&self.compile(&Options { checked: true, ..options.clone() }));
            self.compare(&checked, &variants, "with run-time checks");
            for max_groups in [1, 3] {
                // Slicing the largest trials would take too many dispatches.
                if self.groups(&options) / u64::from(max_groups) < 2000 {
                    let sliced = self.once(&self.compile(&Options { max_groups, ..options.clone() }));
                    self.same_bits(&shipped, &sliced, &format!("in slices of {max_groups}"));
                }
            }
        }
    }

    /// The default choice, and every variant of the plan's files that this adapter can run.
    fn variant_choices(&self) -> Vec<Vec<Choice>> {
        let text = self.plan.to_string();
        let mut choices = vec![vec![]];
        for source in SOURCES {
            if source.variants.len() > 1 && text.contains(&format!(" {}.", source.file)) {
                let able = source.variants.iter().filter(|v| (v.runs)(gpu().traits()));
                choices.extend(able.map(|v| vec![Choice { kernel: source.file.to_owned(), class: None, variant: v.name.to_owned() }]));
            }
        }
        choices
    }

    fn groups(&self, options: &Options) -> u64 {
        let one = Options { max_groups: 1, ..options.clone() };
        self.plan.needs(gpu(), &one).map_or(u64::MAX, |needs| needs.dims_bytes / 256)
    }

    fn compile(&self, options: &Options) -> Compiled {
        block_on(gpu(), self.plan.compile(gpu(), options)).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Initializes all tensors, runs the plan, and reads the tensors back, checking their guard zones.
    fn once(&self, compiled: &Compiled) -> Vec<Vec<u32>> {
        poison(compiled);
        for (tensor, words) in &self.tensors {
            let (buffer, offset) = compiled.place(tensor);
            block_on(gpu(), compiled.transfer.write(gpu(), buffer, offset, bytemuck::cast_slice(words))).unwrap();
        }
        let mut runner = Runner::new(gpu());
        runner.run(compiled, [compiled.phase(PHASE)]).unwrap();
        runner.wait_for_all().unwrap();
        let read = |(tensor, _): &(Tensor, Vec<u32>)| {
            let (buffer, offset) = compiled.place(tensor);
            let size = buffer.size();
            let bytes = block_on(gpu(), compiled.transfer.read(gpu(), buffer, 0, size)).unwrap();
            let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
            let (first, end) = (offset as usize / 4, (offset + tensor.bytes()) as usize / 4);
            let guards = words[..first].iter().chain(&words[end..]);
            assert!(guards.copied().all(|w| w == POISON), "{}: a guard zone of `{}` was written", self.name, tensor.name);
            words[first..first + words_in(tensor)].to_vec()
        };
        self.tensors.iter().map(read).collect()
    }

    fn compare(&self, results: &[Vec<u32>], variants: &[Choice], how: &str) {
        let variants: Vec<String> = variants.iter().map(Choice::to_string).collect();
        for Expected { tensor, first, want } in &self.expected {
            let index = self.tensors.iter().position(|(t, _)| t.name == tensor.name).expect("an expected tensor of this trial");
            let name = format!("{} {variants:?} {how} `{}` from {first}", self.name, tensor.name);
            match want {
                Want::Close { want, abs, rel } => {
                    let got = numbers(&results[index], tensor);
                    finite_diff::assert_close(&name, &got[*first..first + want.len()], want, *abs, *rel);
                }
                Want::Sums { want, abs } => {
                    let sums: Vec<f64> = numbers(&results[index], tensor).chunks(tensor.cols()).map(|row| row.iter().sum()).collect();
                    finite_diff::assert_close(&format!("{name}, sums of rows"), &sums, want, *abs, 0.0);
                }
                Want::Words(want) => {
                    let got = &results[index][*first..first + want.len()];
                    if let Some(i) = (0..want.len()).find(|&i| got[i] != want[i]) {
                        panic!("{name}[{i}]: got word {:#x}, want {:#x}", got[i], want[i]);
                    }
                }
            }
        }
    }

    fn same_bits(&self, shipped: &[Vec<u32>], other: &[Vec<u32>], how: &str) {
        for ((tensor, _), (a, b)) in self.tensors.iter().zip(shipped.iter().zip(other)) {
            let differs = a.iter().zip(b).position(|(a, b)| a != b);
            assert!(differs.is_none(), "{}: `{}` differs {how} at element {differs:?}", self.name, tensor.name);
        }
    }
}

/// Fills every buffer of a plan with poison, temporary tensors included.
fn poison(compiled: &Compiled) {
    for buffer in compiled.buffers() {
        let words = vec![POISON; buffer.size() as usize / 4];
        block_on(gpu(), compiled.transfer.write(gpu(), buffer, 0, bytemuck::cast_slice(&words))).unwrap();
    }
}
