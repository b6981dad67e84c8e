//! WGSL files, their interfaces as naga reads them, and their variants.
//!
//! A kernel is one entry point of one WGSL file. A *variant* of the file is its text with other files appended: WGSL's module scope is
//! order-free, so appending is a complete import system and the kernel keeps its line numbers. naga reads the bindings, the `Dims` struct,
//! the workgroup size and the tile constants from the same text that is compiled, and tensors are bound by name.

use std::sync::Arc;

use naga::common::wgsl::TypeContext;
use naga::valid::{Capabilities, GlobalUse, ValidationFlags, Validator};

use super::Traits;
use super::broken;
use super::extent::Extent;
use super::tensor::Dtype;

/// A WGSL file with the files appended to it.
#[derive(Clone, Copy)]
pub struct KernelSource {
    /// The file's name without `.wgsl`; kernels are called `<file>.<entry point>`.
    pub file: &'static str,
    /// The WGSL of the file alone.
    pub text: &'static str,
    /// Appended to every variant.
    pub shared: &'static [&'static str],
    /// The variants, at least one; the last one runs on every adapter.
    pub variants: &'static [Variant],
}

/// One way to build a [`KernelSource`].
#[derive(Clone, Copy)]
pub struct Variant {
    /// What a [`super::variants::Choice`] calls it: `tile_shared` in `matmul=tile_shared`.
    pub name: &'static str,
    /// Appended to the file: constants, a reduction, a storage type.
    pub text: &'static str,
    /// The element types of activations that it is for; none stands for all.
    pub storages: &'static [Dtype],
    /// Whether an adapter can run this variant at all.
    pub runs: fn(&Traits) -> bool,
    /// Whether it is the default on such an adapter for a dispatch of this extent; the first variant that runs and suits is chosen.
    pub suits: fn(&Traits, &Extent) -> bool,
}

impl Variant {
    /// Whether it uses cooperative matrices, which it loads from quads: SPIR-V can, no other language can.
    pub fn is_cooperative(&self) -> bool {
        self.text.contains("enable wgpu_cooperative_matrix;")
    }
}

/// The variant list of a file that has only one form.
pub const SINGLE: &[Variant] = &[Variant { name: "plain", text: "", storages: &[], runs: |_| true, suits: |_, _| true }];

/// A parsed and validated [`KernelSource`], in all its variants.
pub struct KernelFile {
    /// [`KernelSource::file`]: the first part of the names of its kernels.
    pub name: &'static str,
    source: &'static KernelSource,
    variants: Vec<Arc<Module>>,
    /// The parsed modules, one per variant. They take megabytes and are dropped with the file: kernels keep only the texts.
    parsed: Vec<Parsed>,
}

/// The result of parsing and validating a text.
pub struct Parsed {
    /// The parsed text, as naga's writers translate it to SPIR-V, MSL or HLSL.
    pub naga: naga::Module,
    /// What validating `naga` found out, which naga's writers need too.
    pub info: naga::valid::ModuleInfo,
}

/// The text of one variant.
pub struct Module {
    /// `matmul[tile_shared]`: file and variant, for error messages.
    pub label: String,
    /// The WGSL to compile: the file, what is appended to it, and its `enable` directives moved to the front.
    pub text: String,
    /// The variant whose text was appended.
    pub variant: &'static Variant,
}

/// One entry point of a [`KernelFile`]; cheap to clone.
#[derive(Clone)]
pub struct Kernel(Arc<KernelInner>);

struct KernelInner {
    name: String,
    entry: &'static str,
    source: &'static KernelSource,
    interfaces: Vec<Interface>,
}

/// The interface of one entry point in one variant.
pub struct Interface {
    /// The text that it was read from.
    pub module: Arc<Module>,
    /// The tensors it binds, without `dims`.
    pub bindings: Vec<Binding>,
    /// Binding index of the `dims` uniform.
    pub dims_binding: u32,
    /// Members of `Dims`, without `first_group`, which always comes first.
    pub dims: Vec<Field>,
    /// Size of `Dims` in bytes.
    pub dims_size: u64,
    /// Output rows and columns that one workgroup computes; `None` if the kernel loops over the whole axis.
    pub tile: [Option<u32>; 2],
    /// Invocations of one workgroup along x, y and z.
    pub workgroup_size: [u32; 3],
}

/// One `var<storage>` or `var<uniform>` of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The variable's name in WGSL, by which a tensor is bound.
    pub name: String,
    /// Its `@binding` in group 0.
    pub index: u32,
    /// How this entry point accesses it, as naga finds.
    pub access: Access,
    /// The element type of a tensor bound to it.
    pub dtype: Dtype,
    /// Bytes of one array element, or of the whole struct; bindings are at least this long.
    pub stride: u64,
}

/// How a kernel accesses a binding; `Write` never reads, `ReadWrite` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A `var<uniform>`, which is only read.
    Uniform,
    /// A `var<storage, read>`.
    Read,
    /// A `var<storage, read_write>` that the entry point never reads.
    Write,
    /// A `var<storage, read_write>` that the entry point reads, and may write.
    ReadWrite,
}

/// A member of a kernel's `Dims`.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The member's name in WGSL, by which [`super::plan::Plan::push`] takes its value.
    pub name: String,
    /// Bytes from the start of `Dims`.
    pub offset: u32,
    /// True for an f32, false for a u32; there are no other types.
    pub float: bool,
}

/// The value of one [`Field`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A size, an index, or a flag as 0 or 1.
    U32(u32),
    /// A real number, such as a scale or a learning rate.
    F32(f32),
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::U32(value)
    }
}

impl From<usize> for Value {
    /// Planning a model checks its sizes against `u32`.
    fn from(value: usize) -> Value {
        Value::U32(u32::try_from(value).expect("a size of more than 32 bits reached a kernel"))
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Value {
        Value::F32(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::U32(value as u32)
    }
}

impl KernelFile {
    /// Parses and validates every variant.
    ///
    /// # Panics
    /// With naga's message when the WGSL is invalid: a mistake of this crate, not of its user.
    pub fn load(source: &'static KernelSource) -> KernelFile {
        KernelFile::with_constants(source, "")
    }

    /// As [`KernelFile::load`], with a line of constants that size registers, for example `const HEAD_SIZE: u32 = 32u;`.
    pub fn with_constants(source: &'static KernelSource, constants: &str) -> KernelFile {
        KernelFile::with_variants(source, &|variant| variant.storages.is_empty(), "", constants)
    }

    /// The same for activations stored as `dtype`: `storage` declares their `Quad`, unless a variant does so itself.
    pub fn stored(source: &'static KernelSource, dtype: Dtype, storage: &str, constants: &str) -> KernelFile {
        KernelFile::with_variants(source, &|variant| variant.storages.is_empty() || variant.storages.contains(&dtype), storage, constants)
    }

    fn with_variants(source: &'static KernelSource, wanted: &dyn Fn(&Variant) -> bool, storage: &str, constants: &str) -> KernelFile {
        let wanted = source.variants.iter().filter(|variant| wanted(variant));
        let variants: Vec<_> = wanted.map(|variant| Arc::new(Module::new(source, variant, storage, constants))).collect();
        let parsed = variants.iter().map(|module| module.parse()).collect();
        KernelFile { name: source.file, source, variants, parsed }
    }

    /// The kernel of one entry point.
    pub fn kernel(&self, entry: &'static str) -> Kernel {
        let interfaces: Vec<Interface> =
            self.variants.iter().zip(&self.parsed).map(|(module, parsed)| Interface::reflect(module, parsed, entry)).collect();
        for other in &interfaces[1..] {
            let first = &interfaces[0];
            assert!(
                first.bindings == other.bindings && first.dims == other.dims,
                "variants {} and {} disagree on the interface of `{entry}`",
                first.module.label,
                other.module.label
            );
        }
        Kernel(Arc::new(KernelInner { name: format!("{}.{entry}", self.name), entry, source: self.source, interfaces }))
    }

    /// Names of all entry points, in the order of the file.
    pub fn entries(&self) -> Vec<String> {
        self.parsed[0].naga.entry_points.iter().map(|e| e.name.clone()).collect()
    }

    /// The text of each variant, in the order of [`KernelSource::variants`].
    pub fn modules(&self) -> &[Arc<Module>] {
        &self.variants
    }
}

impl Kernel {
    /// `<file>.<entry point>`: the name of this kernel in labels, tests, benches and profiles.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn file(&self) -> &'static str {
        self.0.source.file
    }

    /// All variants of its file, those for other element types of activations included.
    pub(crate) fn variants(&self) -> &'static [Variant] {
        self.0.source.variants
    }

    /// The entry point's name in WGSL, without the file.
    pub fn entry(&self) -> &'static str {
        self.0.entry
    }

    /// One interface per variant; they differ only in tile and workgroup size.
    pub fn interfaces(&self) -> &[Interface] {
        &self.0.interfaces
    }

    /// The binding with this name.
    ///
    /// # Panics
    /// When the kernel has no such binding; the message lists those it has.
    pub fn binding(&self, name: &str) -> &Binding {
        let bindings = &self.0.interfaces[0].bindings;
        bindings.iter().find(|b| b.name == name).unwrap_or_else(|| {
            let names: Vec<&str> = bindings.iter().map(|b| b.name.as_str()).collect();
            panic!("`{}` has no binding `{name}`; it has [{}]", self.name(), names.join(", "))
        })
    }

    /// The index of the variant for a dispatch: the one named `wanted` if it runs, else the first that runs and suits, else the last that
    /// runs; none of those named in `avoid`, unless nothing else runs.
    pub fn choose(&self, traits: &Traits, extent: &Extent, wanted: Option<&str>, avoid: &[&str]) -> usize {
        let variant = |i: usize| self.0.interfaces[i].module.variant;
        let able = |i: &usize| (variant(*i).runs)(traits) && !avoid.contains(&variant(*i).name);
        let all = 0..self.0.interfaces.len();
        let named = all.clone().find(|i| able(i) && wanted == Some(variant(*i).name));
        let suited = all.clone().find(|i| able(i) && (variant(*i).suits)(traits, extent));
        named.or(suited).or_else(|| all.clone().rev().find(able)).unwrap_or(self.0.interfaces.len() - 1)
    }
}

impl Module {
    fn new(source: &'static KernelSource, variant: &'static Variant, storage: &str, constants: &str) -> Module {
        let mut text = String::from(source.text);
        let storage = if variant.text.contains("alias Quad =") { "" } else { storage };
        for appended in source.shared.iter().chain([&variant.text, &storage, &constants]) {
            text.push('\n');
            text.push_str(appended);
        }
        let label = format!("{}[{}]", source.file, variant.name);
        let text = broken::text(source.file, variant.name, enables_first(&text));
        Module { label, text, variant }
    }

    /// Parses and validates the text; the result is not cached.
    ///
    /// # Panics
    /// With naga's message when the WGSL is invalid.
    pub fn parse(&self) -> Parsed {
        let Module { label, text, variant } = self;
        // pack2x16float and unpack2x16float are part of WGSL and need no device feature.
        let mut capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        if variant.is_cooperative() {
            capabilities |= Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
        }
        let naga = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(text)));
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&naga)
            .unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(text)));
        Parsed { naga, info }
    }

    /// One entry point with only what it uses, as text: two variants whose texts are equal compile to the same code.
    pub fn code(&self, entry: &str) -> String {
        let mut naga = self.parse().naga;
        naga.entry_points.retain(|e| e.name == entry);
        // Compaction keeps named constants even if they are unused.
        naga.constants.iter_mut().for_each(|(_, constant)| constant.name = None);
        naga::compact::compact(&mut naga, naga::compact::KeepUnused::No);
        format!("{:?}", (naga.types, naga.constants, naga.global_expressions, naga.global_variables, naga.functions, naga.entry_points))
    }

    /// The WGSL type of a module-scope variable.
    ///
    /// # Panics
    /// When there is no such variable.
    pub fn type_of(&self, variable: &str) -> String {
        let naga = self.parse().naga;
        let found = naga.global_variables.iter().find(|(_, v)| v.name.as_deref() == Some(variable));
        let (_, found) = found.unwrap_or_else(|| panic!("{} has no variable `{variable}`", self.label));
        naga.to_ctx().type_to_string(found.ty)
    }

    /// Bytes of the workgroup memory that an entry point uses.
    ///
    /// # Panics
    /// When there is no such entry point.
    pub fn workgroup_bytes(&self, entry: &str) -> u32 {
        let Parsed { naga, info } = self.parse();
        let index = naga.entry_points.iter().position(|e| e.name == entry);
        let uses = info.get_entry_point(index.unwrap_or_else(|| panic!("{} has no entry point `{entry}`", self.label)));
        let shared = |v: &naga::GlobalVariable| v.space == naga::AddressSpace::WorkGroup;
        let used = naga.global_variables.iter().filter(|(handle, v)| shared(v) && !uses[*handle].is_empty());
        used.map(|(_, v)| naga.types[v.ty].inner.size(naga.to_ctx())).sum()
    }
}

impl Parsed {
    /// The value of a module-scope `const NAME: u32`.
    fn constant(&self, name: &str) -> Option<u32> {
        let (_, constant) = self.naga.constants.iter().find(|(_, c)| c.name.as_deref() == Some(name))?;
        match self.naga.global_expressions[constant.init] {
            naga::Expression::Literal(naga::Literal::U32(value)) => Some(value),
            _ => None,
        }
    }
}

/// Moves the `enable` directives, which must precede all other WGSL, to the front of the first line: every line keeps its number.
fn enables_first(text: &str) -> String {
    let is_enable = |line: &&str| line.starts_with("enable ");
    let enables: String = text.lines().filter(is_enable).collect();
    let rest: Vec<&str> = text.lines().map(|line| if is_enable(&line) { "" } else { line }).collect();
    enables + &rest.join("\n") + "\n"
}

impl Interface {
    fn reflect(module: &Arc<Module>, parsed: &Parsed, entry: &str) -> Interface {
        let (label, Parsed { naga, info }) = (&module.label, parsed);
        let index = naga.entry_points.iter().position(|e| e.name == entry);
        let index = index.unwrap_or_else(|| panic!("{label} has no entry point `{entry}`"));
        let uses = info.get_entry_point(index);
        let mut bindings = Vec::new();
        let mut dims = None;
        for (handle, variable) in naga.global_variables.iter() {
            let (Some(binding), used) = (&variable.binding, uses[handle]) else { continue };
            if used.is_empty() {
                continue;
            }
            let name = variable.name.clone().unwrap_or_default();
            assert!(binding.group == 0, "{label}: `{name}` is not in group 0");
            if name == "dims" {
                dims = Some((binding.binding, variable.ty));
                continue;
            }
            let access = match variable.space {
                naga::AddressSpace::Uniform => Access::Uniform,
                naga::AddressSpace::Storage { access } if !access.contains(naga::StorageAccess::STORE) => Access::Read,
                _ if !used.contains(GlobalUse::READ) => Access::Write,
                _ => Access::ReadWrite,
            };
            let (element, stride) = match naga.types[variable.ty].inner {
                naga::TypeInner::Array { base, stride, .. } => (base, u64::from(stride)),
                ref other => (variable.ty, u64::from(other.size(naga.to_ctx()))),
            };
            let dtype = dtype(&naga.types[element])
                .unwrap_or_else(|| panic!("{label}: no tensor has the elements of `{name}`, {}", naga.to_ctx().type_to_string(element)));
            bindings.push(Binding { name, index: binding.binding, access, dtype, stride });
        }
        let (dims_binding, dims_type) = dims.unwrap_or_else(|| panic!("{label}: `{entry}` does not use `dims`"));
        let (dims, dims_size) = fields(naga, dims_type, label);
        let tile = [parsed.constant("ROWS_PER_GROUP"), parsed.constant("COLS_PER_GROUP")];
        let workgroup_size = naga.entry_points[index].workgroup_size;
        Interface { module: module.clone(), bindings, dims_binding, dims, dims_size, tile, workgroup_size }
    }
}

/// Maps a shader's element type to a tensor's; another packed type adds one row here. `Bf16Quad` and `F16Quad` are aliases in
/// shaders/shared/store_*.wgsl, whose names tell packed numbers from plain words.
fn dtype(element: &naga::Type) -> Option<Dtype> {
    use naga::{ScalarKind as Kind, TypeInner};
    let scalar = match element.inner {
        TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } => scalar,
        // A block that the host writes word by word.
        TypeInner::Struct { .. } => return Some(Dtype::U32),
        _ => return None,
    };
    match (element.name.as_deref(), scalar.kind, scalar.width) {
        (Some("Bf16Quad"), Kind::Uint, 4) => Some(Dtype::Bf16),
        (Some("F16Quad"), Kind::Uint, 4) | (Some("F16Quad"), Kind::Float, 2) => Some(Dtype::F16),
        (_, Kind::Float, 4) => Some(Dtype::F32),
        (_, Kind::Uint, 4) => Some(Dtype::U32),
        _ => None,
    }
}

/// Members of a `Dims` struct and its size; `first_group` must come first and is left out.
fn fields(module: &naga::Module, ty: naga::Handle<naga::Type>, label: &str) -> (Vec<Field>, u64) {
    let naga::TypeInner::Struct { ref members, span } = module.types[ty].inner else {
        panic!("{label}: `dims` is not a struct");
    };
    let read = |member: &naga::StructMember| {
        let name = member.name.clone().unwrap_or_default();
        let float = match module.types[member.ty].inner {
            naga::TypeInner::Scalar(naga::Scalar { kind: naga::ScalarKind::Float, width: 4 }) => true,
            naga::TypeInner::Scalar(naga::Scalar { kind: naga::ScalarKind::Uint, width: 4 }) => false,
            ref other => panic!("{label}: `Dims.{name}` must be u32 or f32, it is {other:?}"),
        };
        Field { name, offset: member.offset, float }
    };
    let all: Vec<Field> = members.iter().map(read).collect();
    assert!(all[0].name == "first_group" && !all[0].float, "{label}: `Dims` must begin with `first_group: u32`");
    (all[1..].to_vec(), u64::from(span))
}
