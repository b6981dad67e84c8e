//! A Vulkan device that only compiles, and the driver's statistics of a compute pipeline.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};

use ash::{Device, Entry, Instance, khr, vk};

/// Whose cards the compiler is for: AMD's by the driver RADV, NVIDIA's by NVK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    Amd,
    Nvidia,
}

/// The compiler's statistics of one pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    pub instructions: u64,
    /// Vector registers of an invocation.
    pub registers: u64,
    /// Registers spilled and bytes of scratch memory (AMD); instructions that spill to memory or fill from it (NVIDIA).
    pub spills: u64,
    /// Bytes of memory of an invocation: spilled registers, and on NVIDIA arrays that are indexed by variables.
    pub scratch: u64,
    /// Subgroups that a SIMD unit (AMD) or a multiprocessor (NVIDIA) can keep in flight. On NVIDIA as limited by registers; on AMD by registers
    /// and workgroup memory.
    pub resident: u64,
}

impl Statistics {
    fn of(vendor: Vendor, all: &HashMap<String, u64>) -> Statistics {
        let of = |name: &str| *all.get(name).unwrap_or_else(|| panic!("the driver has no statistic `{name}`: {all:?}"));
        match vendor {
            Vendor::Amd => Statistics {
                instructions: of("Instructions"),
                registers: of("VGPRs"),
                spills: of("Spilled SGPRs") + of("Spilled VGPRs") + of("Scratch size"),
                scratch: of("Scratch size"),
                resident: of("Subgroups per SIMD"),
            },
            Vendor::Nvidia => Statistics {
                instructions: of("Instruction count"),
                registers: of("Number of GPRs"),
                spills: of("Spills to memory") + of("Fills from memory"),
                scratch: of("SLM size"),
                resident: of("Max warps/SM"),
            },
        }
    }
}

pub struct Compiler {
    pub vendor: Vendor,
    /// The card that the driver reports.
    pub name: String,
    /// Whether it has cooperative matrices.
    pub cooperative: bool,
    /// Bytes of memory that a workgroup may use.
    pub workgroup_memory: u32,
    device: Device,
    executables: khr::pipeline_executable_properties::Device,
    // These two must outlive the function pointers of the device.
    _instance: Instance,
    _entry: Entry,
}

impl Compiler {
    /// Opens the only driver that the loader finds, RADV or NVK.
    pub fn new() -> Result<Compiler, String> {
        // SAFETY: plain Vulkan calls in the required order; every pointer outlives its call.
        unsafe {
            let entry = Entry::load().map_err(|e| format!("no Vulkan loader: {e}"))?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let descriptor = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&descriptor, None).map_err(|e| format!("no Vulkan instance: {e}"))?;
            let found = instance.enumerate_physical_devices().map_err(|e| format!("no Vulkan device: {e}"))?;
            let physical =
                *found.first().ok_or("no Vulkan device: run .ci/isa.sh, which names a card that the driver shall compile for")?;
            let properties = instance.get_physical_device_properties(physical);
            let name = text(&properties.device_name);
            let vendor = match &name {
                name if name.contains("RADV") => Vendor::Amd,
                name if name.contains("NVK") => Vendor::Nvidia,
                _ => return Err(format!("the Vulkan device is {name}, of neither RADV nor NVK: run .ci/isa.sh")),
            };
            let workgroup_memory = properties.limits.max_compute_shared_memory_size;
            let (device, cooperative) = open(&instance, physical).map_err(|e| format!("{name} cannot be opened: {e}"))?;
            let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Compiler { vendor, name, cooperative, workgroup_memory, device, executables, _instance: instance, _entry: entry })
        }
    }

    /// Statistics and assembly of one entry point.
    ///
    /// # Panics
    /// When the driver refuses the SPIR-V: a mistake in naga or in this bench.
    pub fn compile(&self, entry: &str, words: &[u32]) -> (Statistics, String) {
        let name = CString::new(entry).expect("an identifier");
        // SAFETY: as above; the created objects live until the process ends and take a few kilobytes per kernel.
        unsafe {
            let bindings = bindings(words);
            let descriptor = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [self.device.create_descriptor_set_layout(&descriptor, None).expect("a set layout")];
            let descriptor = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = self.device.create_pipeline_layout(&descriptor, None).expect("a pipeline layout");
            let descriptor = vk::ShaderModuleCreateInfo::default().code(words);
            let module = self.device.create_shader_module(&descriptor, None).expect("a shader module");
            let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE).module(module).name(&name);
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let descriptor = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags);
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[descriptor], None);
            let pipeline = made.unwrap_or_else(|(_, e)| panic!("{entry} does not compile: {e}"))[0];
            (self.statistics(pipeline), self.assembly(pipeline))
        }
    }

    /// # Safety
    /// `pipeline` belongs to this device, and its statistics were captured.
    unsafe fn statistics(&self, pipeline: vk::Pipeline) -> Statistics {
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        // SAFETY: the caller promises it; every statistic read of the two drivers is a u64.
        let all = unsafe { self.executables.get_pipeline_executable_statistics(&executable) }.expect("statistics");
        // SAFETY: as above.
        let all = all.iter().map(|s| (text(&s.name), unsafe { s.value.u64 })).collect();
        Statistics::of(self.vendor, &all)
    }

    /// # Safety
    /// `pipeline` belongs to this device, and its representations were captured.
    unsafe fn assembly(&self, pipeline: vk::Pipeline) -> String {
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        // SAFETY: three calls as Vulkan prescribes: for the count, for the lengths, and for the texts, each into a buffer of its length.
        unsafe {
            let mut count = 0;
            let ask = |count: &mut u32, list| get(self.device.handle(), &executable, count, list).result().expect("representations");
            ask(&mut count, std::ptr::null_mut());
            let mut list = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            ask(&mut count, list.as_mut_ptr());
            let mut texts: Vec<Vec<u8>> = list.iter().map(|item| vec![0; item.data_size]).collect();
            for (item, text) in list.iter_mut().zip(&mut texts) {
                item.p_data = text.as_mut_ptr().cast();
            }
            ask(&mut count, list.as_mut_ptr());
            let found = list.iter().zip(texts).find(|(item, _)| ["Assembly", "NAK assembly"].contains(&text(&item.name).as_str()));
            found.map(|(_, bytes)| String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()).expect("the assembly")
        }
    }
}

/// # Safety
/// `physical` belongs to this instance.
unsafe fn open(instance: &Instance, physical: vk::PhysicalDevice) -> Result<(Device, bool), vk::Result> {
    let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
    let mut sixteen = vk::PhysicalDeviceVulkan11Features::default().storage_buffer16_bit_access(true);
    let mut twelve = vk::PhysicalDeviceVulkan12Features::default().shader_float16(true).vulkan_memory_model(true);
    let mut info = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
    let mut cooperative = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
    let mut extensions = vec![khr::pipeline_executable_properties::NAME.as_ptr()];
    // SAFETY: the caller promises it.
    let available = unsafe { instance.enumerate_device_extension_properties(physical)? };
    let has_cooperative = available.iter().any(|e| e.extension_name_as_c_str() == Ok(khr::cooperative_matrix::NAME));
    let mut descriptor =
        vk::DeviceCreateInfo::default().queue_create_infos(&queues).push_next(&mut sixteen).push_next(&mut twelve).push_next(&mut info);
    if has_cooperative {
        extensions.push(khr::cooperative_matrix::NAME.as_ptr());
        descriptor = descriptor.push_next(&mut cooperative);
    }
    // SAFETY: the caller promises it; everything that the descriptor points to lives until the call returns.
    let device = unsafe { instance.create_device(physical, &descriptor.enabled_extension_names(&extensions), None)? };
    Ok((device, has_cooperative))
}

/// The bindings of a module in group 0, read from its SPIR-V; the storage class distinguishes uniforms from storage buffers.
fn bindings(words: &[u32]) -> Vec<vk::DescriptorSetLayoutBinding<'static>> {
    const OP_DECORATE: u32 = 71;
    const OP_VARIABLE: u32 = 59;
    const DECORATION_BINDING: u32 = 33;
    const CLASS_UNIFORM: u32 = 2;
    let (mut numbers, mut classes) = (vec![], HashMap::new());
    let mut rest = &words[5..];
    while let Some(&first) = rest.first() {
        let (operation, length) = (first & 0xffff, (first >> 16) as usize);
        match (operation, &rest[1..length]) {
            (OP_DECORATE, &[id, DECORATION_BINDING, number]) => numbers.push((id, number)),
            (OP_VARIABLE, &[_, id, class, ..]) => drop(classes.insert(id, class)),
            _ => {}
        }
        rest = &rest[length..];
    }
    let binding = |(id, number): (u32, u32)| {
        let uniform = classes.get(&id) == Some(&CLASS_UNIFORM);
        let kind = if uniform { vk::DescriptorType::UNIFORM_BUFFER } else { vk::DescriptorType::STORAGE_BUFFER };
        let binding = vk::DescriptorSetLayoutBinding::default().binding(number).descriptor_type(kind);
        binding.descriptor_count(1).stage_flags(vk::ShaderStageFlags::COMPUTE)
    };
    numbers.into_iter().map(binding).collect()
}

fn text(chars: &[c_char]) -> String {
    // SAFETY: Vulkan terminates its names with a zero inside the array.
    unsafe { CStr::from_ptr(chars.as_ptr()) }.to_string_lossy().into_owned()
}
