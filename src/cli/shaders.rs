//! `wgpt shaders`: lists every kernel with all its variants, or writes them as files for GPU vendors' tools.

mod translate;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::{Context, Ended, output, place};
use crate::error::{Error, Result, excerpt};
use crate::files;
use crate::gpu::Traits;
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Access, Interface, Kernel};
use crate::gpu::tensor::Dtype;
use crate::model::config::MAX_HEAD_SIZE;
use crate::ops::{self, SOURCES};
use translate::Target;

/// List every kernel with its bindings and variants, or write them for GPU vendors' tools
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt shaders                                    all kernels, and which variants run here
  wgpt shaders matmul attention.forward --json
  wgpt shaders --target spirv --out spirv         for Radeon GPU Analyzer, spirv-val, Nsight
  wgpt shaders matmul --target msl --out metal    for xcrun metal and Xcode
  rga -s vk-spv-offline -c gfx1100 --isa isa.txt --comp spirv/matmul.forward.tile_shared.spv
  dxc -T cs_6_0 -E forward hlsl/matmul.forward.tile_shared.hlsl    after --target hlsl; also for PIX

Files are named KERNEL.VARIANT and an extension. They have no run-time checks, as in a release build. Bindings keep their numbers, in group \
(descriptor set, space) 0.")]
pub struct Shaders {
    /// Only these kernels, or all kernels of these files
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Translate to this language
    #[arg(long, value_name = "LANGUAGE", requires = "out")]
    target: Option<Target>,
    /// The folder to write to
    #[arg(long, value_name = "DIR", requires = "target")]
    out: Option<PathBuf>,
    /// Replace files in that folder
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Size of an attention head, a multiple of 4 up to 128: it determines how many registers a kernel uses
    #[arg(long, value_name = "D", default_value_t = 64)]
    head_size: usize,
    /// Element type of activations
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    storage: DtypeArg,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DtypeArg {
    F32,
    Bf16,
    F16,
}

#[derive(Debug, Serialize)]
struct KernelRow {
    kernel: String,
    bindings: Vec<BindingRow>,
    variants: Vec<VariantRow>,
}

#[derive(Debug, Serialize)]
struct BindingRow {
    name: String,
    index: u32,
    access: &'static str,
    r#type: String,
    /// Bytes of an element, or of the whole binding if it is not an array.
    stride: u64,
}

#[derive(Debug, Serialize)]
struct VariantRow {
    variant: &'static str,
    workgroup_size: [u32; 3],
    workgroup_bytes: u32,
    /// Rows and columns of output per workgroup; null if the kernel loops over the axis, or counts workgroups itself.
    tile: [Option<u32>; 2],
    /// Null without an adapter.
    runs: Option<bool>,
    /// The outputs for which the adapter uses it by default: `all`, `many rows`, `one row`, or null for none.
    default: Option<&'static str>,
}

pub fn run(args: Shaders, context: &Context) -> Result<Ended> {
    if args.head_size == 0 || args.head_size > MAX_HEAD_SIZE || !args.head_size.is_multiple_of(4) {
        return Err(Error::usage(format!("--head-size {}: needs a multiple of 4 from 4 to {MAX_HEAD_SIZE}", args.head_size)));
    }
    let kernels = kernels(&args)?;
    if let (Some(target), Some(out)) = (args.target, &args.out) {
        return write(&kernels, target, out, args.overwrite, context);
    }
    let gpu = match context.gpu() {
        Ok(gpu) => Some(gpu),
        Err(Error::Adapter(_)) => None,
        Err(other) => return Err(other),
    };
    let rows: Vec<KernelRow> = kernels.iter().map(|kernel| row(kernel, gpu.as_ref().map(|gpu| gpu.traits()))).collect();
    let adapter = gpu.as_ref().map(|gpu| gpu.info().name.clone());
    context.out.object(&json!({ "adapter": adapter, "kernels": rows }));
    match &adapter {
        Some(name) => context.out.notice(&format!("adapter   {name}")),
        None => context.out.notice("adapter   none found: which variants run, and which are the default, is unknown"),
    }
    rows.iter().for_each(|row| show(row, context));
    Ok(Ended::Done)
}

/// The requested kernels, in the order of the files.
fn kernels(args: &Shaders) -> Result<Vec<Kernel>> {
    let activations = match args.storage {
        DtypeArg::F32 => Dtype::F32,
        DtypeArg::Bf16 => Dtype::Bf16,
        DtypeArg::F16 => Dtype::F16,
    };
    let mut kernels = vec![];
    for source in SOURCES {
        let file = ops::load(source, args.head_size, activations);
        kernels.extend(file.entries().into_iter().map(|entry| file.kernel(entry.leak())));
    }
    let names = |wanted: &String, kernel: &Kernel| wanted == kernel.name() || wanted == kernel.file();
    if let Some(unknown) = args.kernels.iter().find(|wanted| !kernels.iter().any(|kernel| names(wanted, kernel))) {
        let files: Vec<&str> = SOURCES.iter().map(|source| source.file).collect();
        return Err(Error::usage(format!("there is no kernel `{}`; the kernel files are {}", excerpt(unknown), files.join(", "))));
    }
    kernels.retain(|kernel| args.kernels.is_empty() || args.kernels.iter().any(|wanted| names(wanted, kernel)));
    Ok(kernels)
}

fn write(kernels: &[Kernel], target: Target, out: &Path, overwrite: bool, context: &Context) -> Result<Ended> {
    let (mut found, mut left_out) = (vec![], vec![]);
    for kernel in kernels {
        for interface in kernel.interfaces() {
            let name = format!("{}.{}.{}", kernel.name(), interface.module.variant.name, target.extension());
            match target.translate(interface, kernel.entry()) {
                Ok(bytes) => found.push((name, bytes)),
                Err(problem) => left_out.push((name, problem)),
            }
        }
    }
    if std::fs::symlink_metadata(out).is_ok() && !out.is_dir() {
        return Err(Error::file(out, "is not a folder: name another with --out"));
    }
    files::disk::make_folders(out).map_err(|e| Error::file(out, format!("cannot be made: {e}")))?;
    // Checked before anything is written, so that all files are written or none.
    found.iter().try_for_each(|(name, _)| place::check(&out.join(name), "another folder with --out", overwrite))?;
    for (name, bytes) in &found {
        files::write(&out.join(name), |out| out.write_all(bytes))?;
    }
    let written: Vec<&String> = found.iter().map(|(name, _)| name).collect();
    for (name, problem) in &left_out {
        context.out.notice(&format!("note: {name} is skipped: {problem}"));
    }
    context.out.object(
        &json!({ "out": output::path(out), "written": written, "left_out": left_out.iter().map(|(name, _)| name).collect::<Vec<_>>() }),
    );
    context.out.line(&format!("{} files written to {}", written.len(), out.display()));
    Ok(Ended::Done)
}

fn row(kernel: &Kernel, traits: Option<&Traits>) -> KernelRow {
    let first = &kernel.interfaces()[0];
    let dims = BindingRow {
        name: "dims".into(),
        index: first.dims_binding,
        access: "uniform",
        r#type: first.module.type_of("dims"),
        stride: first.dims_size,
    };
    let others = first.bindings.iter().map(|binding| BindingRow {
        name: binding.name.clone(),
        index: binding.index,
        access: access(binding.access),
        r#type: first.module.type_of(&binding.name),
        stride: binding.stride,
    });
    let variants = (0..kernel.interfaces().len()).map(|index| variant(kernel, index, traits)).collect();
    KernelRow { kernel: kernel.name().to_owned(), bindings: std::iter::once(dims).chain(others).collect(), variants }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Uniform => "uniform",
        Access::Read => "read",
        Access::Write => "write",
        Access::ReadWrite => "read and write",
    }
}

fn variant(kernel: &Kernel, index: usize, traits: Option<&Traits>) -> VariantRow {
    let interface: &Interface = &kernel.interfaces()[index];
    // A training step has thousands of rows, a step of decoding has one.
    let [many, one] =
        [1024, 1].map(|rows| traits.is_some_and(|traits| kernel.choose(traits, &Extent::matrix(rows, 1024), None, &[]) == index));
    VariantRow {
        variant: interface.module.variant.name,
        workgroup_size: interface.workgroup_size,
        workgroup_bytes: interface.module.workgroup_bytes(kernel.entry()),
        tile: interface.tile,
        runs: traits.map(|traits| (interface.module.variant.runs)(traits)),
        default: match (many, one) {
            (true, true) => Some("all"),
            (true, false) => Some("many rows"),
            (false, true) => Some("one row"),
            (false, false) => None,
        },
    }
}

fn show(row: &KernelRow, context: &Context) {
    let out = &context.out;
    out.line(&row.kernel);
    for b in &row.bindings {
        out.line(&format!("  {:>2}  {:<10} {:<14} {} ({} bytes)", b.index, b.name, b.access, b.r#type, b.stride));
    }
    for v in &row.variants {
        let [x, y, z] = v.workgroup_size;
        let size = if y * z == 1 { x.to_string() } else { format!("{x}x{y}x{z}") };
        let tile = match v.tile {
            [Some(rows), Some(cols)] => format!(", tile {rows}x{cols}"),
            [Some(rows), None] => format!(", {rows} rows"),
            [None, _] => String::new(),
        };
        let here = match (v.default, v.runs) {
            (Some("all"), _) => ", default here",
            (Some("many rows"), _) => ", default here for many rows",
            (Some(_), _) => ", default here for one row",
            (None, Some(true)) => ", runs here",
            (None, Some(false)) => ", does not run here",
            (None, None) => "",
        };
        out.line(&format!("      {:<16} workgroup {size}, {} bytes of workgroup memory{tile}{here}", v.variant, v.workgroup_bytes));
    }
    out.line("");
}
