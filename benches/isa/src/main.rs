//! Statistics of AMD's shader compiler for every kernel, on a machine without an AMD card.
//!
//! Mesa's driver RADV can pretend to be a card that is absent (`RADV_FORCE_FAMILY=navi31`). It then executes nothing, but its compiler is
//! the same as on a real card, and VK_KHR_pipeline_executable_properties reports registers, spills, workgroup memory, waves in flight and
//! the instructions.
//!
//!     bash .ci/isa.sh                      navi31 and navi21, one table each; fails when a kernel spills
//!     bash .ci/isa.sh --record             the same, and rewrites benches/record/radv-*.csv
//!     bash .ci/isa.sh matmul               kernels whose name contains that
//!     bash .ci/isa.sh --dump attention.forward[tiles]/32/f32
//!
//! A kernel is compiled as in a release build: the library's own text of every variant that such an adapter would use, without run-time
//! checks. The *hot block* is the basic block with the most multiply-adds, which in a matrix product is the inner loop.

mod assembly;
mod radv;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;

use assembly::{Block, hot_block};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use radv::{Compiler, Statistics};
use wgpt::low_level::gpu::Traits;
use wgpt::low_level::gpu::extent::Extent;
use wgpt::low_level::gpu::kernel::{Kernel, KernelSource, Module, Parsed};
use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops;
use wgpt::low_level::ops::{SOURCES, STORAGES};

/// Head sizes to compile attention for: those of the presets, and the widest.
const HEAD_SIZES: [usize; 3] = [32, 64, 128];

const HEADER: &str = "kernel,vgprs,spilled_sgprs,spilled_vgprs,scratch_bytes,lds_bytes,waves_per_simd,hot_multiply_adds,hot_share,\
                      lds_loads_per_multiply_add,global_loads_per_multiply_add";

/// The compiled kernel of one variant, head size and element type.
struct Row {
    name: String,
    statistics: Statistics,
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
    let spilling: Vec<&str> = rows.iter().filter(|row| row.statistics.spills()).map(|row| row.name.as_str()).collect();
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
        for index in taken(&kernel, compiler.cooperative) {
            let module = &kernel.interfaces()[index].module;
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
            rows.push(Row { name, statistics, hot: hot_block(&text) });
        }
    }
}

/// The variants that such a card uses by default for extents from a single row to a large matrix, and those with cooperative matrices that
/// run there: not those for subgroups of 32, since the driver chooses between 32 and 64.
fn taken(kernel: &Kernel, cooperative: bool) -> BTreeSet<usize> {
    let traits = Traits { cooperative: cooperative.then_some(16), ..Traits::default() };
    let extents = [(1, 512), (16, 16), (1024, 128), (4096, 4096)].map(|(rows, cols)| Extent::matrix(rows, cols));
    let by_default = extents.iter().map(|extent| kernel.choose(&traits, extent, None, &[]));
    let all = kernel.interfaces().iter().enumerate();
    by_default
        .chain(all.filter(|(_, i)| i.module.variant.is_cooperative() && (i.module.variant.runs)(&traits)).map(|(index, _)| index))
        .collect()
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
        "{card}\n{:<56} {:>5} {:>7} {:>7} {:>6} {:>5} {:>10} {:>6} {:>9} {:>9}\n",
        "kernel", "VGPRs", "spilled", "scratch", "LDS", "waves", "hot mul-add", "share", "LDS/m-a", "global/m-a"
    );
    for Row { name, statistics: s, hot } in rows {
        let spilled = s.spilled_sgprs + s.spilled_vgprs;
        let counts = format!("{:>5} {spilled:>7} {:>7} {:>6} {:>5}", s.vgprs, s.scratch, s.lds, s.waves);
        let [share, local, global] = [hot.share(), hot.local_per_multiply_add(), hot.global_per_multiply_add()];
        writeln!(text, "{name:<56} {counts} {:>10} {:>5.0}% {local:>9.3} {global:>9.3}", hot.multiply_adds, 100.0 * share)
            .expect("a string");
    }
    text
}

fn csv(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    for Row { name, statistics: s, hot } in rows {
        let counts = [s.vgprs, s.spilled_sgprs, s.spilled_vgprs, s.scratch, s.lds, s.waves, u64::from(hot.multiply_adds)];
        let counts = counts.map(|count| count.to_string()).join(",");
        let [share, local, global] = [hot.share(), hot.local_per_multiply_add(), hot.global_per_multiply_add()];
        writeln!(text, "{name},{counts},{share:.2},{local:.3},{global:.3}").expect("a string");
    }
    text
}
