//! Lists adapters, chooses one, and says what is missing if none fits.

use crate::error::{Advice, Error, Result, excerpt};

/// The adapter that a caller wants; the default is the best one with all its features.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// An index into [`list`], or a part of the adapter's name, ignoring case.
    pub adapter: Option<String>,
    /// Only adapters of this backend.
    pub backend: Option<wgpu::Backend>,
    /// Use only what every WebGPU device has: `wgpu::Limits::default()` and no features.
    pub baseline: bool,
    /// Also use features that wgpu calls experimental, whose validation may be incomplete: cooperative matrices.
    pub experimental: bool,
    /// Enable pass timestamps if the adapter has them, for [`super::profile`]; not with `baseline`.
    pub timestamps: bool,
}

/// All adapters of the wanted backend, in the order of preference of [`choose`]. GL is tried only if it is named or nothing else is found:
/// probing it starts a second driver, which may print warnings to stderr.
pub async fn list(request: &Request) -> Vec<wgpu::Adapter> {
    let wanted = request.backend.map_or(wgpu::Backends::PRIMARY, wgpu::Backends::from);
    let adapters = list_of(wanted).await;
    if adapters.is_empty() && request.backend.is_none() { list_of(wgpu::Backends::GL).await } else { adapters }
}

async fn list_of(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let mut adapters = wgpu::Instance::new(descriptor.with_env()).enumerate_adapters(backends).await;
    adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
    adapters
}

/// Real GPUs before software.
fn rank(info: &wgpu::AdapterInfo) -> u8 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// The index of the adapter to use: the one that is named, else the first that is large enough.
///
/// # Errors
/// [`Error::Adapter`] without any adapter (with advice how to get one), [`Error::Usage`] for a name or index that no adapter has.
pub fn choose(adapters: &[wgpu::Adapter], request: &Request) -> Result<usize> {
    if adapters.is_empty() {
        let vulkan = matches!(request.backend, None | Some(wgpu::Backend::Vulkan));
        if let Some(backend) = request.backend.filter(|_| !vulkan) {
            let problem = format!(
                "no usable GPU adapter found of the backend {backend}, which this system may not have: leave the choice of the backend out"
            );
            return Err(Error::Adapter(problem));
        }
        let silent = silent_driver().filter(|_| vulkan).map_or(String::new(), |manifest| {
            format!("the Vulkan driver of {manifest} is installed but offers no adapter, maybe for lack of memory (see `free`, `ulimit -v`); if not, ")
        });
        return Err(Error::Adapter(format!("no usable GPU adapter found: {silent}{}", how_to_get_one())));
    }
    if let Some(wanted) = &request.adapter {
        let index = find(adapters, wanted)?;
        return shortfall(&adapters[index]).map_or(Ok(index), |why| Err(Error::Adapter(why)));
    }
    let large_enough = adapters.iter().position(|adapter| shortfall(adapter).is_none());
    large_enough.ok_or_else(|| Error::Adapter(shortfall(&adapters[0]).unwrap_or_default()))
}

fn find(adapters: &[wgpu::Adapter], wanted: &str) -> Result<usize> {
    if wanted.trim().is_empty() {
        return Err(Error::usage("the name of an adapter is empty: it needs an index, or a part of a name"));
    }
    if let Ok(index) = wanted.parse::<usize>() {
        if index < adapters.len() {
            return Ok(index);
        }
        let problem = format!("adapter {index}: there are {} adapters, numbered from 0: ", adapters.len());
        return Err(Error::usage(problem).advised(Advice::ListAdapters));
    }
    let name = wanted.to_lowercase();
    let found = adapters.iter().position(|adapter| adapter.get_info().name.to_lowercase().contains(&name));
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    found.ok_or_else(|| {
        Error::usage(format!("adapter {}: no adapter has that in its name; there are: {}", excerpt(wanted), names.join("; ")))
    })
}

/// The features that kernels with cooperative matrices need.
pub const COOPERATIVE: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16);

/// The rows and columns of the largest square matrices of f16 that an adapter multiplies cooperatively and accumulates in f32: 16 or 8.
pub fn cooperative_matrices(adapter: &wgpu::Adapter) -> Option<u32> {
    let has = |size: &u32| {
        adapter.cooperative_matrix_properties().iter().any(|p| {
            let types = (p.ab_type, p.cr_type) == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
            types && (p.m_size, p.n_size, p.k_size) == (*size, *size, *size)
        })
    };
    [16, 8].into_iter().filter(|_| adapter.features().contains(COOPERATIVE)).find(has)
}

/// What an adapter lacks of the baseline limits, if anything.
pub fn shortfall(adapter: &wgpu::Adapter) -> Option<String> {
    let name = adapter.get_info().name;
    if !adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
        return Some(format!("the adapter {name} has no compute shaders: {}", how_to_get_one()));
    }
    let (has, needs) = (adapter.limits(), wgpu::Limits::default());
    let rows = [
        (
            "storage buffers per kernel",
            u64::from(has.max_storage_buffers_per_shader_stage),
            u64::from(needs.max_storage_buffers_per_shader_stage),
        ),
        ("bytes per binding", has.max_storage_buffer_binding_size, needs.max_storage_buffer_binding_size),
        (
            "invocations per workgroup",
            u64::from(has.max_compute_invocations_per_workgroup),
            u64::from(needs.max_compute_invocations_per_workgroup),
        ),
        (
            "bytes of workgroup memory",
            u64::from(has.max_compute_workgroup_storage_size),
            u64::from(needs.max_compute_workgroup_storage_size),
        ),
        (
            "workgroups per dimension",
            u64::from(has.max_compute_workgroups_per_dimension),
            u64::from(needs.max_compute_workgroups_per_dimension),
        ),
    ];
    let (what, has, needs) = rows.into_iter().find(|(_, has, needs)| has < needs)?;
    Some(format!("the adapter {name} has {has} {what}, {needs} are needed: {}", how_to_get_one()))
}

/// The manifest of an installed Vulkan driver, on systems where manifests are files: if there is no adapter, that driver failed to start.
fn silent_driver() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().find_map(std::env::var_os).filter(|files| !files.is_empty());
    let files: Vec<std::path::PathBuf> = match named {
        Some(files) => std::env::split_paths(&files).collect(),
        None => {
            let folders = ["/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d"];
            let mut files: Vec<_> =
                folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten().map(|e| e.path()).collect();
            files.sort();
            files
        }
    };
    // A hardware driver reports nothing if its card is absent; the software driver, lvp, always has an adapter, so it comes first.
    let software = |file: &&std::path::PathBuf| file.to_string_lossy().contains("lvp");
    let there: Vec<_> = files.iter().filter(|file| file.is_file()).collect();
    there.iter().copied().find(software).or(there.first().copied()).map(|file| file.display().to_string())
}

/// How a user of this operating system gets an adapter.
pub fn how_to_get_one() -> &'static str {
    if cfg!(target_os = "linux") {
        "install your card's Vulkan driver (Mesa for AMD and Intel, NVIDIA's own for NVIDIA), or the software one: apt-get install mesa-vulkan-drivers"
    } else if cfg!(target_os = "windows") {
        "install your graphics card's driver; Windows 10 and later include the software adapter WARP"
    } else if cfg!(target_os = "macos") {
        "Metal is part of macOS 10.14 and later; a virtual machine may hide it"
    } else {
        "this browser or system offers no WebGPU adapter; enable WebGPU or hardware acceleration"
    }
}
