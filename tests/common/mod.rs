//! What several test crates share.

use std::sync::OnceLock;

use wgpt::gpu::Gpu;
use wgpt::gpu::adapter::Request;

/// The one device of this process, with `wgpu::Limits::default()` and no features; a test without an adapter fails.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let request = Request { baseline: true, ..Request::default() };
        let gpu = pollster::block_on(Gpu::request(&request)).expect("these tests need an adapter");
        eprintln!("tests run on {} ({})", gpu.info().name, gpu.info().driver_info);
        gpu
    })
}
