//! The ways in which a trial runs, and what they must have in common.

use super::{Checked, Expected, Failure, PHASE, POISON, Trial, Want, Ways, numbers, words_in};
use crate::error::{Error, Result};
use crate::gpu::commands::WorkInfo;
use crate::gpu::compile::Compiled;
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{KernelSource, Variant};
use crate::gpu::options::Options;
use crate::gpu::run::Runner;
use crate::gpu::tensor::Tensor;
use crate::gpu::variants::Choice;
use crate::gpu::wait::block_on;
use crate::gpu::{Gpu, Traits};
use crate::ops::SOURCES;
use crate::reference::finite_diff;

const SHIPPED: &str = "as shipped";
const CHECKED: &str = "with run-time checks";

impl Trial {
    /// Runs the trial in every way: in the default variants, and in every variant that the adapter can run.
    ///
    /// # Errors
    /// The first failure.
    pub fn run(&self, gpu: &Gpu) -> Checked {
        let mut taken = vec![];
        for choices in self.ways(gpu) {
            let options = Options { variants: choices.clone(), ..Options::default() };
            let compiled = self.compile(gpu, &options)?;
            // Skips the variant that is the default, which has run.
            if taken.contains(&compiled.variants) {
                continue;
            }
            taken.push(compiled.variants.clone());
            let shipped = self.once(gpu, &compiled, SHIPPED)?;
            self.compare(&compiled, &shipped, SHIPPED)?;
            // Bounds checks and slicing are tested on the file's default variants, not again on variants that only tuning selects; and
            // small grids test them as well as those that exceed the device's limit.
            if choices.iter().any(only_tuned) || self.groups(gpu, &options) > 65_535 {
                continue;
            }
            self.run_checked(gpu, &options)?;
            for max_groups in [1, 3] {
                // Slicing the largest trials would take too many dispatches.
                if self.groups(gpu, &options) / u64::from(max_groups) < 2000 {
                    self.run_sliced(gpu, &options, max_groups, &shipped)?;
                }
            }
        }
        Ok(())
    }

    /// Runs the trial once in these variants, and once more in slices of one workgroup.
    ///
    /// # Errors
    /// The first failure.
    pub fn run_quickly(&self, gpu: &Gpu, choices: &[Choice]) -> Checked {
        let options = Options { variants: choices.to_vec(), threads: threads(), ..Options::default() };
        let compiled = self.compile(gpu, &options)?;
        let shipped = self.once(gpu, &compiled, SHIPPED)?;
        self.compare(&compiled, &shipped, SHIPPED)?;
        self.run_sliced(gpu, &options, 1, &shipped)
    }

    /// Runs the trial once in each variant whose name contains `part`, and in slices; returns these variants.
    ///
    /// # Errors
    /// The first failure.
    pub fn run_in(&self, gpu: &Gpu, part: &str) -> Result<Vec<Choice>, Box<Failure>> {
        let named = self.files().flat_map(|file| variants_of(file, gpu)).filter(|choice| choice.variant.contains(part));
        let choices: Vec<Choice> = named.filter(|choice| self.offers(choice)).collect();
        choices.iter().try_for_each(|choice| self.run_quickly(gpu, std::slice::from_ref(choice)))?;
        Ok(choices)
    }

    /// The words of all tensors after one run, in the order in which they were added.
    ///
    /// # Errors
    /// The driver's error, or a guard zone that was written.
    pub(in crate::selftest) fn results(&self, gpu: &Gpu, options: &Options) -> Result<Vec<Vec<u32>>, Box<Failure>> {
        let compiled = self.compile(gpu, options)?;
        self.once(gpu, &compiled, if options.checked { CHECKED } else { SHIPPED })
    }

    /// Runs it with wgpu's run-time checks. They change the code, which a compiler may contract to other multiply-adds (NVIDIA's and newer
    /// Mesa's do): within tolerance, not bit-equal.
    fn run_checked(&self, gpu: &Gpu, options: &Options) -> Checked {
        let compiled = self.compile(gpu, &Options { checked: true, ..options.clone() })?;
        let results = self.once(gpu, &compiled, CHECKED)?;
        self.compare(&compiled, &results, CHECKED)
    }

    fn run_sliced(&self, gpu: &Gpu, options: &Options, max_groups: u32, shipped: &[Vec<u32>]) -> Checked {
        let how = format!("in slices of {max_groups}");
        let compiled = self.compile(gpu, &Options { max_groups, ..options.clone() })?;
        let sliced = self.once(gpu, &compiled, &how)?;
        self.same_bits(&compiled, shipped, &sliced, &how)
    }

    /// The default choice, and every variant of the plan's files that this adapter can run.
    fn ways(&self, gpu: &Gpu) -> Vec<Vec<Choice>> {
        let mut choices = if self.ways == Ways::Cooperative { vec![] } else { vec![vec![]] };
        for file in self.files().filter(|file| file.variants.len() > 1) {
            choices.extend(variants_of(file, gpu).filter(|choice| self.runs_in(gpu, file, choice)).map(|choice| vec![choice]));
        }
        choices
    }

    /// Whether it is to run in this variant.
    pub(in crate::selftest) fn runs_in(&self, gpu: &Gpu, file: &'static KernelSource, choice: &Choice) -> bool {
        let wanted = match self.ways {
            Ways::All => true,
            Ways::Defaults => !gpu.traits().software || is_default(file, &choice.variant, gpu.traits()),
            Ways::Cooperative => variant(&choice.kernel, &choice.variant).is_some_and(Variant::is_cooperative),
        };
        wanted && self.offers(choice)
    }

    /// Whether a kernel of the plan has this variant: some are for one element type of activations only.
    fn offers(&self, choice: &Choice) -> bool {
        let label = format!("{}[{}]", choice.file(), choice.variant);
        let mut interfaces = self.plan.dispatches().flat_map(|dispatch| dispatch.kernel.interfaces());
        interfaces.any(|interface| interface.module.label == label)
    }

    /// Whether the plan runs this kernel.
    pub fn has(&self, kernel: &str) -> bool {
        self.plan.dispatches().any(|dispatch| dispatch.kernel.name() == kernel)
    }

    /// The kernel files that the plan uses.
    pub fn files(&self) -> impl Iterator<Item = &'static KernelSource> {
        let text = self.plan.to_string();
        SOURCES.iter().copied().filter(move |source| text.contains(&format!(" {}.", source.file)))
    }

    fn groups(&self, gpu: &Gpu, options: &Options) -> u64 {
        let one = Options { max_groups: 1, ..options.clone() };
        self.plan.needs(gpu, &one).map_or(u64::MAX, |needs| needs.dims_bytes / 256)
    }

    fn compile(&self, gpu: &Gpu, options: &Options) -> Result<Compiled, Box<Failure>> {
        block_on(gpu, self.plan.compile(gpu, options)).map_err(|e| {
            let choice = options.variants.first();
            let kernel = choice.map_or_else(|| self.files().map(|file| file.file).collect::<Vec<_>>().join(", "), |c| c.kernel.clone());
            let variant = choice.map_or("default", |choice| &choice.variant).to_owned();
            Box::new(Failure { kernel, variant, case: self.name.clone(), how: "when it is compiled".to_owned(), problem: e.to_string() })
        })
    }

    /// The failure of the kernel that wrote a tensor last.
    fn failure(&self, compiled: &Compiled, tensor: &Tensor, how: &str, problem: String) -> Box<Failure> {
        let writer = self.writer(compiled, tensor).or(compiled.works().last());
        let (kernel, variant) = writer.map_or_else(Default::default, |work| (work.kernel.clone(), work.variant.to_owned()));
        Box::new(Failure { kernel, variant, case: self.name.clone(), how: how.to_owned(), problem })
    }

    /// The kernel that writes a tensor last.
    fn writer<'c>(&self, compiled: &'c Compiled, tensor: &Tensor) -> Option<&'c WorkInfo> {
        compiled.works().iter().enumerate().rev().find(|(index, _)| self.plan.writes(*index, tensor)).map(|(_, work)| work)
    }

    /// Initializes all tensors, runs the plan, and reads the tensors back, checking their guard zones.
    fn once(&self, gpu: &Gpu, compiled: &Compiled, how: &str) -> Result<Vec<Vec<u32>>, Box<Failure>> {
        let failed = |tensor: &Tensor, e: Error| self.failure(compiled, tensor, how, e.to_string());
        let first = &self.tensors[0].0;
        self.start(gpu, compiled).map_err(|e| failed(first, e))?;
        let read = |(tensor, _): &(Tensor, Vec<u32>)| {
            let (buffer, offset) = compiled.place(tensor);
            let size = buffer.size();
            let bytes = block_on(gpu, compiled.transfer.read(gpu, buffer, 0, size)).map_err(|e| failed(tensor, e))?;
            let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
            let (first, end) = (offset as usize / 4, (offset + tensor.bytes()) as usize / 4);
            let mut guards = (0..first).chain(end..words.len());
            match guards.find(|&i| words[i] != POISON) {
                None => Ok(words[first..first + words_in(tensor)].to_vec()),
                Some(i) => {
                    let place = (i as i64 - first as i64) * 4;
                    let problem = format!("the guard zone of `{}` was written: {:#x} at byte {place} of the tensor", tensor.name, words[i]);
                    Err(self.failure(compiled, tensor, how, problem))
                }
            }
        };
        self.tensors.iter().map(read).collect()
    }

    /// Fills every buffer with poison and the tensors with their contents, and runs the plan to its end.
    fn start(&self, gpu: &Gpu, compiled: &Compiled) -> Result<()> {
        poison(gpu, compiled)?;
        for (tensor, words) in &self.tensors {
            let (buffer, offset) = compiled.place(tensor);
            block_on(gpu, compiled.transfer.write(gpu, buffer, offset, bytemuck::cast_slice(words)))?;
        }
        let mut runner = Runner::new(gpu);
        runner.run(compiled, [compiled.phase(PHASE)])?;
        runner.wait_for_all()
    }

    fn compare(&self, compiled: &Compiled, results: &[Vec<u32>], how: &str) -> Checked {
        for Expected { tensor, first, want } in &self.expected {
            let index = self.tensors.iter().position(|(t, _)| t.name == tensor.name).expect("an expected tensor of this trial");
            let name = &tensor.name;
            let wrong = match want {
                Want::Close { want, abs, rel, rounding } => {
                    let got = numbers(&results[index], tensor);
                    let rounds = self.writer(compiled, tensor).is_some_and(is_cooperative);
                    let abs = if rounds { abs + rounding } else { *abs };
                    finite_diff::difference(&got[*first..first + want.len()], want, abs, *rel)
                        .map(|(i, what)| format!("{name}[{}]: {what}", i + first))
                }
                Want::Sums { want, abs } => {
                    let sums: Vec<f64> = numbers(&results[index], tensor).chunks(tensor.cols()).map(|row| row.iter().sum()).collect();
                    finite_diff::difference(&sums, want, *abs, 0.0).map(|(row, what)| format!("the sum of row {row} of {name}: {what}"))
                }
                Want::Words(want) => {
                    let got = &results[index][*first..first + want.len()];
                    let place = (0..want.len()).find(|&i| got[i] != want[i]);
                    place.map(|i| format!("{name}[{}]: got the word {:#x}, want {:#x}", i + first, got[i], want[i]))
                }
            };
            if let Some(problem) = wrong {
                return Err(self.failure(compiled, tensor, how, problem));
            }
        }
        Ok(())
    }

    fn same_bits(&self, compiled: &Compiled, shipped: &[Vec<u32>], other: &[Vec<u32>], how: &str) -> Checked {
        for ((tensor, _), (a, b)) in self.tensors.iter().zip(shipped.iter().zip(other)) {
            if let Some(i) = a.iter().zip(b).position(|(a, b)| a != b) {
                let problem = format!("word {i} of {}: got {:#x}, and {:#x} in one launch", tensor.name, b[i], a[i]);
                return Err(self.failure(compiled, tensor, how, problem));
            }
        }
        Ok(())
    }
}

/// The choices of each variant of a file that this adapter can run.
pub fn variants_of(file: &'static KernelSource, gpu: &Gpu) -> impl Iterator<Item = Choice> {
    let able = file.variants.iter().filter(|variant| (variant.runs)(gpu.traits()));
    able.map(|variant| Choice { kernel: file.file.to_owned(), class: None, variant: variant.name.to_owned() })
}

/// The number of threads that compile shaders.
pub(in crate::selftest) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Fills every buffer of a plan with poison, temporary tensors included.
fn poison(gpu: &Gpu, compiled: &Compiled) -> Result<()> {
    for buffer in compiled.buffers() {
        let words = vec![POISON; buffer.size() as usize / 4];
        block_on(gpu, compiled.transfer.write(gpu, buffer, 0, bytemuck::cast_slice(&words)))?;
    }
    Ok(())
}

fn variant(file: &str, name: &str) -> Option<&'static Variant> {
    SOURCES.iter().find(|source| source.file == file)?.variants.iter().find(|variant| variant.name == name)
}

fn is_cooperative(work: &WorkInfo) -> bool {
    let file = work.kernel.split('.').next().unwrap_or_default();
    variant(file, work.variant).is_some_and(Variant::is_cooperative)
}

/// Whether only tuning selects this variant: it is not the default of any kind of adapter, for one row or many. The texts by cooperative
/// matrices of 8 x 8 are those of 16 x 16, which are defaults.
fn only_tuned(choice: &Choice) -> bool {
    let variant = variant(&choice.kernel, &choice.variant).expect("a variant of a file");
    if variant.is_cooperative() {
        return false;
    }
    let taken = |software: bool, rows: usize| (variant.suits)(&Traits { software, ..Traits::default() }, &Extent::matrix(rows, 4096));
    ![1, 4096].into_iter().any(|rows| taken(true, rows) || taken(false, rows))
}

/// Whether a variant of a file is the default on this adapter, for one row or many.
fn is_default(file: &KernelSource, variant: &str, traits: &Traits) -> bool {
    let default = |rows: usize| {
        let extent = Extent::matrix(rows, 4096);
        file.variants.iter().find(|variant| (variant.runs)(traits) && (variant.suits)(traits, &extent))
    };
    [1, 4096].into_iter().filter_map(default).any(|default| default.name == variant)
}
