//! What several test crates share.
#![allow(dead_code)] // each crate uses some of it

use std::path::PathBuf;
use std::sync::OnceLock;

use wgpt::low_level::gpu::adapter;
use wgpt::{Gpu, Request};

/// The one device of this process: `wgpu::Limits::default()`, and subgroups and cooperative matrices where the adapter has them, so that
/// the variants run which a user gets, and those that wait for such a test. A test without an adapter fails.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let gpu = own();
        let matrices = gpu.traits().cooperative.map_or(String::new(), |size| format!(", cooperative matrices of {size} x {size}"));
        eprintln!("tests run on {} ({}){matrices}", gpu.info().name, gpu.info().driver_info);
        gpu
    })
}

/// The project's folder, for tests that read its files. Cargo sets the variable when it runs a test; so does whoever runs a test binary on
/// another machine.
pub fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// A device like it that no other test has, for one that counts what is created.
pub fn own() -> Gpu {
    pollster::block_on(open())
}

/// A device lent as a host application would, so that any error which is not handled panics.
async fn open() -> Gpu {
    let adapters = adapter::list(&Request::default()).await;
    let adapter = &adapters[adapter::choose(&adapters, &Request::default()).expect("tests need an adapter")];
    let cooperative = adapter::cooperative_matrices(adapter);
    let mut descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & wgpu::Features::SUBGROUP,
        required_limits: wgpu::Limits::default(),
        ..wgpu::DeviceDescriptor::default()
    };
    if cooperative.is_some() {
        descriptor.required_features |= adapter::COOPERATIVE;
        // Their tiles use more than the 16 KiB of the default.
        descriptor.required_limits.max_compute_workgroup_storage_size = adapter.limits().max_compute_workgroup_storage_size;
        // SAFETY: kernel tests compare what is computed with it, between guard zones.
        descriptor.experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let (device, queue) = adapter.request_device(&descriptor).await.expect("the baseline limits");
    match cooperative {
        Some(matrices) => Gpu::from_wgpu_cooperative(device, queue, matrices),
        None => Gpu::from_wgpu(device, queue),
    }
}
