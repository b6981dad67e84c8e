//! A recorded plan: an ordered list of dispatches over virtual tensors, in named phases.
//!
//! Recording allocates nothing and does not depend on an adapter. Because a plan is data it can be listed, its bytes and FLOPs counted,
//! laid out in memory, cut into slices, and compiled for one adapter ([`super::compile`]).

use std::fmt;
use std::sync::Arc;

use super::extent::Extent;
use super::kernel::{Access, Binding, Kernel, Value};
use super::tensor::{Dtype, Tensor, padded};

/// A named range of a plan that is run as a unit: `forward`, `update`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Phase(pub &'static str);

/// How long a storage must keep its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// From its first write to its last read within one run of the plan; others may use the buffer before and after.
    Step,
    /// Always: parameters, moments, inputs, results.
    Always,
}

/// Memory for tensors: a buffer of its own (`Keep::Always`) or a share of one.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The name that it was recorded under, by which [`super::options::Options::keep`] selects it.
    pub name: Arc<str>,
    /// Bytes that its tensors may use, their padding included.
    pub bytes: u64,
    /// How long its contents last, and so whether it may share a buffer.
    pub keep: Keep,
    /// Its row in the memory table: `parameters`, `activations`.
    pub class: &'static str,
}

/// One recorded dispatch or clear.
pub struct Work {
    /// The phase that [`Plan::begin`] had started when it was recorded.
    pub phase: Phase,
    /// Its place in the model: `h.0.attn`.
    pub scope: Arc<str>,
    /// What the device does.
    pub action: Action,
}

/// What one [`Work`] makes the device do.
pub enum Action {
    /// Runs one kernel.
    Dispatch(Dispatch),
    /// Zeroes a whole storage.
    Clear(usize),
}

/// One kernel with its bound tensors.
pub struct Dispatch {
    /// The entry point to run; compiling the plan chooses its variant.
    pub kernel: Kernel,
    /// The size of the output, which the variant's tile turns into a grid.
    pub extent: Extent,
    /// Values of `Dims`, in the kernel's order, without `first_group`.
    pub dims: Vec<Value>,
    /// Tensors in the kernel's order of bindings.
    pub tensors: Vec<Tensor>,
    /// Floating-point operations, a fused multiply-add counted as two.
    pub flops: u64,
}

/// The recording.
#[derive(Default)]
pub struct Plan {
    pub(crate) storages: Vec<Storage>,
    pub(crate) works: Vec<Work>,
    phase: Option<Phase>,
    scope: Vec<String>,
    stand_in: Option<Tensor>,
}

impl Plan {
    /// A plan without storages, works or a phase.
    pub fn new() -> Plan {
        Plan::default()
    }

    /// Starts a phase: everything recorded from now on belongs to it.
    pub fn begin(&mut self, phase: Phase) {
        self.phase = Some(phase);
    }

    /// Runs `record` with `name` appended to the scope that labels dispatches and tensors.
    pub fn scoped<T>(&mut self, name: &str, record: impl FnOnce(&mut Plan) -> T) -> T {
        self.scope.push(name.to_owned());
        let result = record(self);
        self.scope.pop();
        result
    }

    /// An activation, stored as `dtype`, that lives from its first write to its last read in a step.
    pub fn activation(&mut self, name: &str, shape: &[usize], dtype: Dtype) -> Tensor {
        self.add(name, shape, dtype, Keep::Step, "activations")
    }

    /// As [`Plan::activation`] for sums, moments and losses, which are always f32: bf16 would lose too much precision.
    pub fn statistic(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.add(name, shape, Dtype::F32, Keep::Step, "statistics")
    }

    /// A tensor that keeps its contents and has a buffer of its own.
    pub fn kept(&mut self, name: &str, shape: &[usize], dtype: Dtype, class: &'static str) -> Tensor {
        self.add(name, shape, dtype, Keep::Always, class)
    }

    fn add(&mut self, name: &str, shape: &[usize], dtype: Dtype, keep: Keep, class: &'static str) -> Tensor {
        let storage = self.storage(name, padded(shape.iter().product(), dtype), keep, class);
        self.view(storage, name, shape, dtype, 0)
    }

    /// Four numbers to bind where a dispatch does not use a binding of its kernel; nothing reads or writes them.
    pub fn stand_in(&mut self) -> Tensor {
        if self.stand_in.is_none() {
            self.stand_in = Some(self.kept("stand_in", &[4], Dtype::F32, "inputs"));
        }
        self.stand_in.clone().expect("it was just made")
    }

    /// A storage for several tensors, which [`Plan::view`] makes.
    pub fn storage(&mut self, name: &str, bytes: u64, keep: Keep, class: &'static str) -> usize {
        self.storages.push(Storage { name: name.into(), bytes, keep, class });
        self.storages.len() - 1
    }

    /// A tensor at a byte offset of a storage.
    ///
    /// # Panics
    /// When the offset is not a multiple of 256 or the tensor does not fit into the storage.
    pub fn view(&self, storage: usize, name: &str, shape: &[usize], dtype: Dtype, offset: u64) -> Tensor {
        let tensor = Tensor { name: name.into(), shape: shape.to_vec(), dtype, storage, offset };
        let end = offset + tensor.bytes();
        assert!(offset.is_multiple_of(256), "`{name}` begins at byte {offset}, which is no multiple of 256");
        assert!(end <= self.storages[storage].bytes, "`{name}` reaches byte {end} of {}", self.storages[storage].bytes);
        tensor
    }

    /// Records one dispatch. `bindings` are matched by name, in any order.
    ///
    /// # Panics
    /// When a name in `dims` or `bindings` is missing, unknown or of the wrong type, or when memory that is written is bound twice: a
    /// mistake in the calling operation.
    pub fn push(&mut self, kernel: &Kernel, extent: Extent, flops: u64, dims: &[(&str, Value)], bindings: &[(&str, &Tensor)]) {
        let dims = ordered_dims(kernel, dims);
        let tensors = ordered_tensors(kernel, bindings);
        self.push_dispatch(Dispatch { kernel: kernel.clone(), extent, dims, tensors, flops });
    }

    /// Records a dispatch whose dims and tensors are in the kernel's order already.
    pub(crate) fn push_dispatch(&mut self, dispatch: Dispatch) {
        dispatch.check_types();
        dispatch.check_overlaps();
        self.add_work(Action::Dispatch(dispatch));
    }

    /// Records the zeroing of a whole storage.
    pub fn clear(&mut self, storage: usize) {
        self.add_work(Action::Clear(storage));
    }

    fn add_work(&mut self, action: Action) {
        let phase = self.phase.expect("a plan needs a phase before its first dispatch");
        self.works.push(Work { phase, scope: self.scope.join(".").into(), action });
    }

    /// Whether the work of this index writes a tensor's storage.
    #[cfg(feature = "cli")]
    pub(crate) fn writes(&self, work: usize, tensor: &Tensor) -> bool {
        let Action::Dispatch(dispatch) = &self.works[work].action else { return false };
        let bound = dispatch.kernel.interfaces()[0].bindings.iter().zip(&dispatch.tensors);
        bound.into_iter().any(|(b, t)| t.storage == tensor.storage && matches!(b.access, Access::Write | Access::ReadWrite))
    }

    /// The dispatches and clears of all phases, in the order of recording.
    pub fn works(&self) -> &[Work] {
        &self.works
    }

    /// The tensors of all dispatches, in order; a tensor that several dispatches bind appears several times.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.dispatches().flat_map(|dispatch| &dispatch.tensors)
    }

    pub(crate) fn storages(&self) -> &[Storage] {
        &self.storages
    }

    /// Floating-point operations of a phase.
    pub fn flops(&self, phase: Phase) -> u64 {
        self.works.iter().filter(|w| w.phase == phase).map(Work::flops).sum()
    }
}

impl Work {
    pub(crate) fn flops(&self) -> u64 {
        match &self.action {
            Action::Dispatch(dispatch) => dispatch.flops,
            Action::Clear(_) => 0,
        }
    }

    /// `h.0.attn layer_norm.forward`: the label on the device and in profiles.
    pub fn label(&self) -> String {
        let what = match &self.action {
            Action::Dispatch(dispatch) => dispatch.kernel.name(),
            Action::Clear(_) => "clear",
        };
        if self.scope.is_empty() { what.to_owned() } else { format!("{} {what}", self.scope) }
    }

    /// Storages that it writes.
    pub(crate) fn writes(&self) -> impl Iterator<Item = usize> {
        self.touches().into_iter().filter(|(_, access)| matches!(access, Access::Write | Access::ReadWrite)).map(|(storage, _)| storage)
    }

    /// Storages that it uses, with the access.
    pub(crate) fn touches(&self) -> Vec<(usize, Access)> {
        match &self.action {
            Action::Dispatch(d) => {
                let bindings = &d.kernel.interfaces()[0].bindings;
                bindings.iter().zip(&d.tensors).map(|(b, t)| (t.storage, b.access)).collect()
            }
            Action::Clear(storage) => vec![(*storage, Access::Write)],
        }
    }
}

impl Dispatch {
    fn bound(&self) -> impl Iterator<Item = (&Binding, &Tensor)> {
        self.kernel.interfaces()[0].bindings.iter().zip(&self.tensors)
    }

    /// # Panics
    /// When a tensor does not have the element type that the shader declares.
    fn check_types(&self) {
        for (binding, tensor) in self.bound() {
            let (declared, name) = (binding.dtype, self.kernel.name());
            assert!(declared == tensor.dtype, "`{name}` declares `{}` as {declared:?} and is given {tensor:?}", binding.name);
        }
    }

    /// # Panics
    /// When it binds what WebGPU refuses, and native wgpu refuses only in part: a storage for both reading and writing, or a range twice
    /// for writing. A browser would drop the whole command buffer.
    fn check_overlaps(&self) {
        let bound: Vec<_> = self.bound().collect();
        for (i, (a, x)) in bound.iter().enumerate() {
            for (b, y) in bound[..i].iter().filter(|(_, y)| y.storage == x.storage) {
                let written = [a, b].map(|binding| matches!(binding.access, Access::Write | Access::ReadWrite));
                let apart = written == [true, true] && (x.end() <= y.offset || y.end() <= x.offset);
                let (kernel, one, other) = (self.kernel.name(), &b.name, &a.name);
                assert!(written == [false, false] || apart, "`{kernel}` writes `{one}` and `{other}` in the same memory: {y:?}, {x:?}");
            }
        }
    }

    /// Bytes that memory must move at least, counted as for a copy: bytes read plus bytes written. A tensor that is bound twice counts
    /// once; a tensor that is added to counts as read and as written.
    pub fn bytes(&self) -> u64 {
        let moved = |skipped: &[Access]| {
            let bound = self.bound().filter(|(binding, _)| !skipped.contains(&binding.access));
            let mut ranges: Vec<(usize, u64, u64)> = bound.map(|(_, tensor)| (tensor.storage, tensor.offset, tensor.bytes())).collect();
            ranges.sort_unstable();
            ranges.dedup();
            ranges.iter().map(|(.., bytes)| bytes).sum::<u64>()
        };
        moved(&[Access::Write]) + moved(&[Access::Read, Access::Uniform])
    }
}

fn ordered_dims(kernel: &Kernel, given: &[(&str, Value)]) -> Vec<Value> {
    let fields = &kernel.interfaces()[0].dims;
    let names = || fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
    for (name, _) in given {
        assert!(fields.iter().any(|f| f.name == *name), "`{}` has no dims.{name}; it has [{}]", kernel.name(), names());
    }
    let value = |field: &super::kernel::Field| {
        let found = given.iter().find(|(name, _)| *name == field.name);
        let (_, value) = found.unwrap_or_else(|| panic!("`{}` needs dims.{}", kernel.name(), field.name));
        assert!(matches!(value, Value::F32(_)) == field.float, "`{}`: dims.{} has the wrong type", kernel.name(), field.name);
        *value
    };
    fields.iter().map(value).collect()
}

fn ordered_tensors(kernel: &Kernel, given: &[(&str, &Tensor)]) -> Vec<Tensor> {
    for (name, _) in given {
        kernel.binding(name);
    }
    let tensor = |binding: &super::kernel::Binding| {
        let found = given.iter().find(|(name, _)| *name == binding.name);
        found.unwrap_or_else(|| panic!("`{}` needs a tensor for `{}`", kernel.name(), binding.name)).1.clone()
    };
    kernel.interfaces()[0].bindings.iter().map(tensor).collect()
}

impl fmt::Display for Plan {
    /// One line per dispatch: phase, label, extent and tensors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for work in &self.works {
            write!(f, "{:<9} {:<44}", work.phase.0, work.label())?;
            if let Action::Dispatch(d) = &work.action {
                write!(f, " {}x{}x{}", d.extent.batch, d.extent.rows, d.extent.cols)?;
                for (binding, tensor) in d.kernel.interfaces()[0].bindings.iter().zip(&d.tensors) {
                    let arrow = if binding.access == Access::Read || binding.access == Access::Uniform { "" } else { ">" };
                    write!(f, " {arrow}{}={}{:?}", binding.name, tensor.name, tensor.shape)?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernel::{KernelFile, KernelSource, SINGLE};

    const PACKED: KernelSource = KernelSource {
        file: "packed",
        text: "alias Bf16Quad = vec2<u32>;\n\
               struct Block { a: u32, b: f32 }\n\
               struct Dims { first_group: u32 }\n\
               @group(0) @binding(0) var<uniform> dims: Dims;\n\
               @group(0) @binding(1) var<storage, read> x: array<Bf16Quad>;\n\
               @group(0) @binding(2) var<storage, read> pairs: array<vec2<u32>>;\n\
               @group(0) @binding(3) var<storage, read> block: Block;\n\
               @group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;\n\
               @group(0) @binding(5) var<storage, read_write> z: array<vec2<f32>>;\n\
               @compute @workgroup_size(1) fn forward() {\n\
                   y[dims.first_group] = vec4<f32>(vec4(x[0], pairs[0]) + block.a);\n\
                   z[dims.first_group] = vec2(block.b);\n\
               }",
        shared: &[],
        variants: SINGLE,
    };

    /// The panic message for a dispatch over these tensors.
    fn refusal(plan: &mut Plan, tensors: [&Tensor; 5]) -> String {
        let kernel = KernelFile::load(&PACKED).kernel("forward");
        plan.begin(Phase("test"));
        let [x, pairs, block, y, z] = tensors;
        let bindings = [("x", x), ("pairs", pairs), ("block", block), ("y", y), ("z", z)];
        let push = std::panic::AssertUnwindSafe(|| plan.push(&kernel, Extent::rows(1), 0, &[], &bindings));
        match std::panic::catch_unwind(push) {
            Ok(()) => String::new(),
            Err(message) => *message.downcast::<String>().expect("a message"),
        }
    }

    fn tensors(plan: &mut Plan) -> [Tensor; 5] {
        let types = [("x", Dtype::Bf16), ("pairs", Dtype::U32), ("block", Dtype::U32), ("y", Dtype::F32), ("z", Dtype::F32)];
        types.map(|(name, dtype)| plan.kept(&format!("the_{name}"), &[64], dtype, "test"))
    }

    #[test]
    fn a_tensor_of_another_type_than_the_shaders_is_refused_by_name() {
        let mut plan = Plan::new();
        let [x, pairs, block, y, z] = &tensors(&mut plan);
        let wrong = plan.kept("wrong", &[64], Dtype::F32, "test");
        assert_eq!(refusal(&mut plan, [x, pairs, block, y, z]), "");
        for (found, binding, declared) in [
            (refusal(&mut plan, [&wrong, pairs, block, y, z]), "x", "Bf16"),
            (refusal(&mut plan, [x, &wrong, block, y, z]), "pairs", "U32"),
            (refusal(&mut plan, [x, pairs, &wrong, y, z]), "block", "U32"),
        ] {
            assert_eq!(found, format!("`packed.forward` declares `{binding}` as {declared} and is given wrong F32 [64]"));
        }
        let found = refusal(&mut plan, [x, pairs, block, x, z]);
        assert_eq!(found, "`packed.forward` declares `y` as F32 and is given the_x Bf16 [64]");
        assert_eq!(plan.works().len(), 1);
    }

    #[test]
    fn memory_that_is_bound_twice_and_written_is_refused_by_name() {
        let mut plan = Plan::new();
        let [x, pairs, block, y, z] = &tensors(&mut plan);
        // Reading twice is fine.
        assert_eq!(refusal(&mut plan, [x, pairs, &Tensor { shape: vec![2], ..pairs.clone() }, y, z]), "");
        let found = refusal(&mut plan, [x, pairs, block, y, &Tensor { shape: vec![2], ..y.clone() }]);
        assert_eq!(found, "`packed.forward` writes `y` and `z` in the same memory: the_y F32 [64], the_y F32 [2]");
        let storage = plan.storage("shared", 1024, Keep::Always, "test");
        let view = |name: &str, dtype, offset| plan.view(storage, name, &[64], dtype, offset);
        let (first, second, words) = (view("first", Dtype::F32, 0), view("second", Dtype::F32, 256), view("words", Dtype::U32, 512));
        // Two ranges of one storage may be written, but a storage that is written must not be read.
        assert_eq!(refusal(&mut plan, [x, pairs, block, &first, &second]), "");
        let found = refusal(&mut plan, [x, &words, block, &first, z]);
        assert_eq!(found, "`packed.forward` writes `pairs` and `y` in the same memory: words U32 [64], first F32 [64]");
    }
}
