//! Statistics of Mesa's shader compilers for AMD and NVIDIA for every kernel, on a machine without such a card.
//!
//! Mesa's drivers, RADV and NVK, can compile for a card that is absent: RADV by itself (`RADV_FORCE_FAMILY=navi31`), NVK with the library of
//! ../nvshim.c. They execute nothing then. VK_KHR_pipeline_executable_properties reports registers, spills, subgroups in flight and the
//! instructions. On Linux RADV's compiler is what AMD cards use; NVK's, called NAK, is not NVIDIA's own, whose figures differ.
//!
//!     bash .ci/isa.sh                      a table for each of four cards; fails when a kernel spills
//!     bash .ci/isa.sh --record             rewrites their files in benches/record instead
//!     bash .ci/isa.sh matmul               kernels whose name contains that
//!     CARDS=ada bash .ci/isa.sh --dump attention.forward[tiles]/32/f32
//!
//! A kernel is compiled as in a release build: the library's own text of every variant that such an adapter can run, without run-time
//! checks; variants for software adapters are left out. The *hot block* is the basic block with the most multiply-adds, which in a matrix
//! product is the inner loop.

mod assembly;
mod compiler;

use std::fmt::Write;
use std::process::ExitCode;

use assembly::{Block, hot_block};
use compiler::{Compiler, Statistics, Vendor};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use wgpt::low_level::gpu::Traits;
use wgpt::low_level::gpu::extent::Extent;
use wgpt::low_level::gpu::kernel::{KernelSource, Module, Parsed, Variant};
use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops;
use wgpt::low_level::ops::{SOURCES, STORAGES};

/// Head sizes to compile attention for: those of the presets, and the widest.
const HEAD_SIZES: [usize; 3] = [32, 64, 128];

const HEADER: &str = "kernel,instructions,registers,spills,scratch_bytes,workgroup_bytes,resident,hot_instructions,hot_multiply_adds,\
                      hot_matrix_products,hot_workgroup_loads,hot_buffer_loads";

/// The compiled kernel of one variant, head size and element type.
struct Row {
    name: String,
    statistics: Statistics,
    /// Of memory that a workgroup's invocations share.
    workgroup_bytes: u32,
    hot: Block,
}

fn main() -> ExitCode {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|flag| !["--csv", "--dump"].contains(&flag.as_str())) {
        eprintln!("isa: {unknown} is not known; there are --csv and --dump, and a part of a kernel's name");
        return ExitCode::from(2);
    }
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let compiler = match Compiler::new() {
        Ok(compiler) => compiler,
        Err(why) => {
            eprintln!("isa: {why}");
            return ExitCode::from(2);
        }
    };
    let mut rows = vec![];
    for source in SOURCES {
        for head_size in if source.text.contains("HEAD_SIZE") { &HEAD_SIZES[..] } else { &HEAD_SIZES[..1] } {
            for dtype in if source.text.contains("Quad") { &STORAGES[..] } else { &[Dtype::F32][..] } {
                let wanted = |name: &str| words.iter().all(|word| name.contains(word.as_str()));
                compile_file(&compiler, source, *head_size, *dtype, &wanted, has("--dump"), &mut rows);
            }
        }
    }
    print!("{}", if has("--csv") { csv(&rows) } else { table(&compiler.name, &rows) });
    let spilling: Vec<&str> = rows.iter().filter(|row| row.statistics.spills > 0).map(|row| row.name.as_str()).collect();
    if rows.is_empty() || !spilling.is_empty() {
        eprintln!("isa: {}", if rows.is_empty() { "no kernel has that name".into() } else { format!("spills: {}", spilling.join(", ")) });
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Compiles those entry points of a file whose names are `wanted`.
fn compile_file(
    compiler: &Compiler,
    source: &'static KernelSource,
    head_size: usize,
    dtype: Dtype,
    wanted: &dyn Fn(&str) -> bool,
    dump: bool,
    rows: &mut Vec<Row>,
) {
    let file = ops::load(source, head_size, dtype);
    for entry in file.entries() {
        let kernel = file.kernel(entry.leak());
        let traits = traits(compiler);
        for module in kernel.interfaces().iter().map(|interface| &interface.module).filter(|module| taken(module.variant, &traits)) {
            let mut name = format!("{}[{}]", kernel.name(), module.variant.name);
            if source.text.contains("HEAD_SIZE") {
                write!(name, "/{head_size}").expect("a string");
            }
            if source.text.contains("Quad") {
                write!(name, "/{}", format!("{dtype:?}").to_lowercase()).expect("a string");
            }
            if !wanted(&name) {
                continue;
            }
            let (statistics, text) = compiler.compile(kernel.entry(), &spirv(module, kernel.entry()));
            if dump {
                println!("{name}\n{text}");
            }
            let hot = hot_block(compiler.vendor, &text);
            rows.push(Row { name, statistics, workgroup_bytes: module.workgroup_bytes(kernel.entry()), hot });
        }
    }
}

/// Whether such a card can run a variant, and might: a default of software adapters alone is never the fastest elsewhere.
fn taken(variant: &Variant, traits: &Traits) -> bool {
    let extents = [(1, 512), (16, 16), (1024, 128), (4096, 4096)].map(|(rows, cols)| Extent::matrix(rows, cols));
    let suits = |traits: &Traits| extents.iter().any(|extent| (variant.suits)(traits, extent));
    (variant.runs)(traits) && (suits(traits) || !suits(&Traits { software: true, ..traits.clone() }))
}

/// What wgpt would know of such an adapter. AMD's driver chooses between subgroups of 32 and 64, so no variant may depend on their size.
fn traits(compiler: &Compiler) -> Traits {
    let subgroup = (compiler.vendor == Vendor::Nvidia).then_some(32);
    let limits = wgpt::wgpu::Limits { max_compute_workgroup_storage_size: compiler.workgroup_memory, ..wgpt::wgpu::Limits::default() };
    Traits { subgroup, cooperative: compiler.cooperative.then_some(16), limits, ..Traits::default() }
}

/// The SPIR-V of one entry point without run-time checks, as wgpu makes it for a trusted module.
fn spirv(module: &Module, entry: &str) -> Vec<u32> {
    let options = spv::Options {
        lang_version: (1, 4),
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Unchecked,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        force_loop_bounding: false,
        emit_int_div_checks: false,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: entry.to_owned() };
    let Parsed { naga, info } = module.parse();
    spv::write_vec(&naga, &info, &options, Some(&pipeline)).unwrap_or_else(|e| panic!("{} {entry}: {e}", module.label))
}

fn table(card: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "{card}\n{:<60} {:>6} {:>4} {:>6} {:>7} {:>6} {:>8}  {:>6} {:>7} {:>6} {:>5} {:>7}\n",
        "kernel", "instr.", "reg.", "spills", "scratch", "shared", "resident", "hot:", "mul-add", "matrix", "share", "/load"
    );
    for Row { name, statistics: s, workgroup_bytes, hot } in rows {
        let counts = format!("{:>6} {:>4} {:>6} {:>7}", s.instructions, s.registers, s.spills, s.scratch);
        let per_load = hot.per_local_load().map_or(String::from("-"), |ratio| format!("{ratio:.1}"));
        let of_hot = format!("{:>6} {:>7} {:>6}", hot.instructions, hot.multiply_adds, hot.matrix_products);
        let share = 100.0 * hot.share();
        writeln!(text, "{name:<60} {counts} {workgroup_bytes:>6} {:>8}  {of_hot} {share:>4.0}% {per_load:>7}", s.resident)
            .expect("a string");
    }
    text
}

fn csv(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    for Row { name, statistics: s, workgroup_bytes, hot } in rows {
        let counts = [s.instructions, s.registers, s.spills, s.scratch, u64::from(*workgroup_bytes), s.resident];
        let of_hot = [hot.instructions, hot.multiply_adds, hot.matrix_products, hot.local_loads, hot.global_loads].map(u64::from);
        let cells: Vec<String> = counts.iter().chain(&of_hot).map(u64::to_string).collect();
        writeln!(text, "{name},{}", cells.join(",")).expect("a string");
    }
    text
}
