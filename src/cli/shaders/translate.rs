//! Translates a kernel by naga for each kind of driver, without run-time checks, as in a release run.

use naga::ShaderStage;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use crate::gpu::kernel::{Interface, Parsed};

/// A language to translate to: SPIR-V 1.3 for Vulkan, Metal 2.4, HLSL of shader model 6.0 for Direct3D 12, GLSL 4.5 for OpenGL, and the
/// WGSL that is compiled, a kernel's file with its variant appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    Spirv,
    Msl,
    Hlsl,
    Glsl,
    Wgsl,
}

/// No index is bounds-checked.
const UNCHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Unchecked,
    buffer: BoundsCheckPolicy::Unchecked,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};

impl Target {
    /// The file extension that vendors' tools expect.
    pub fn extension(self) -> &'static str {
        match self {
            Target::Spirv => "spv",
            Target::Msl => "metal",
            Target::Hlsl => "hlsl",
            Target::Glsl => "comp",
            Target::Wgsl => "wgsl",
        }
    }

    /// Translates one entry point of one variant.
    ///
    /// # Errors
    /// naga's message for what a language does not support.
    pub fn translate(self, interface: &Interface, entry: &str) -> Result<Vec<u8>, String> {
        if interface.module.variant.is_cooperative() && !matches!(self, Target::Spirv | Target::Wgsl) {
            return Err("this language has no cooperative matrices that are loaded from quads".into());
        }
        match self {
            Target::Spirv => spirv(interface, entry),
            Target::Msl => metal(interface, entry).map(String::into_bytes),
            Target::Hlsl => direct3d(interface, entry).map(String::into_bytes),
            Target::Glsl => opengl(interface, entry).map(String::into_bytes),
            Target::Wgsl => Ok(interface.module.text.clone().into_bytes()),
        }
    }
}

fn spirv(interface: &Interface, entry: &str) -> Result<Vec<u8>, String> {
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::DEBUG,
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.to_owned() };
    let Parsed { naga, info } = interface.module.parse();
    let words = spv::write_vec(&naga, &info, &options, Some(&pipeline)).map_err(|e| e.to_string())?;
    Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
}

/// Buffers are numbered in the order of the kernel's bindings, `dims` first; the array lengths, which Metal does not know, come last.
fn metal(interface: &Interface, entry: &str) -> Result<String, String> {
    let indices = std::iter::once(interface.dims_binding).chain(interface.bindings.iter().map(|binding| binding.index));
    let target = |(slot, binding): (usize, u32)| {
        let target = msl::BindTarget { buffer: Some(slot as u8), mutable: true, ..msl::BindTarget::default() };
        (naga::ResourceBinding { group: 0, binding }, target)
    };
    let resources: msl::BindingMap = indices.enumerate().map(target).collect();
    let resources =
        msl::EntryPointResources { sizes_buffer: Some(resources.len() as u8), resources, ..msl::EntryPointResources::default() };
    let options = msl::Options {
        lang_version: (2, 4),
        per_entry_point_map: [(entry.to_owned(), resources)].into(),
        fake_missing_bindings: false,
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..msl::Options::default()
    };
    let pipeline = msl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry.to_owned())), ..msl::PipelineOptions::default() };
    let Parsed { naga, info } = interface.module.parse();
    let (text, made) = msl::write_string(&naga, &info, &options, &pipeline).map_err(|e| e.to_string())?;
    made.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Ok(text)
}

fn direct3d(interface: &Interface, entry: &str) -> Result<String, String> {
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        zero_initialize_workgroup_memory: false,
        restrict_indexing: false,
        force_loop_bounding: false,
        ..hlsl::Options::default()
    };
    let pipeline = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry.to_owned())) };
    let (Parsed { naga, info }, mut text) = (interface.module.parse(), String::new());
    let made = hlsl::Writer::new(&mut text, &options, &pipeline).write(&naga, &info, None).map_err(|e| e.to_string())?;
    made.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Ok(text)
}

fn opengl(interface: &Interface, entry: &str) -> Result<String, String> {
    let indices = std::iter::once(interface.dims_binding).chain(interface.bindings.iter().map(|binding| binding.index));
    let options = glsl::Options {
        // The integer `mix` that naga writes is core since GLSL 4.5.
        version: glsl::Version::Desktop(450),
        binding_map: indices.map(|binding| (naga::ResourceBinding { group: 0, binding }, binding as u8)).collect(),
        zero_initialize_workgroup_memory: false,
        ..glsl::Options::default()
    };
    let pipeline = glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.to_owned(), multiview: None };
    let (Parsed { naga, info }, mut text) = (interface.module.parse(), String::new());
    let writer = glsl::Writer::new(&mut text, &naga, &info, &options, &pipeline, UNCHECKED);
    writer.and_then(|mut writer| writer.write()).map_err(|e| e.to_string())?;
    Ok(text)
}
