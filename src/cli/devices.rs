//! `wgpt devices`: lists the adapters, and which one a run would use.

use serde::Serialize;
use serde_json::json;

use super::{Context, Ended};
use crate::error::{Result, bytes};
use crate::gpu::adapter::{self, Request};

/// List the adapters, and which one `train` would use and why
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt devices
  wgpt devices --backend vulkan --json
  wgpt train --adapter 1                by index
  wgpt train --adapter radeon           by a part of the name")]
pub struct Devices {}

#[derive(Debug, Serialize)]
struct AdapterRow {
    index: usize,
    name: String,
    backend: String,
    r#type: &'static str,
    driver: String,
    limits: AdapterLimits,
    /// Optional features that would be used.
    features: Vec<&'static str>,
    /// What the adapter lacks, if it is unusable.
    problem: Option<String>,
}

/// In bytes, except for the buffers and invocations, which are counts.
#[derive(Debug, Serialize)]
struct AdapterLimits {
    max_buffer_size: u64,
    max_storage_buffer_binding_size: u64,
    max_compute_workgroup_storage_size: u32,
    max_compute_invocations_per_workgroup: u32,
    max_storage_buffers_per_shader_stage: u32,
}

pub fn run(_: Devices, context: &Context) -> Result<Ended> {
    let adapters = pollster::block_on(adapter::list(&context.request));
    let taken = adapter::choose(&adapters, &context.request)?;
    let rows: Vec<AdapterRow> = adapters.iter().enumerate().map(|(index, adapter)| row(index, adapter, context.request.baseline)).collect();
    let why = why(&rows, taken, &context.request);
    context.out.object(&json!({ "adapters": rows, "taken": taken, "why": why }));
    for row in &rows {
        show(row, context);
    }
    context.out.line(&format!("`wgpt train` uses {taken}: {why}"));
    Ok(Ended::Done)
}

fn row(index: usize, adapter: &wgpu::Adapter, baseline: bool) -> AdapterRow {
    let (info, limits) = (adapter.get_info(), if baseline { wgpu::Limits::default() } else { adapter.limits() });
    let subgroups = !baseline && adapter.features().contains(wgpu::Features::SUBGROUP);
    AdapterRow {
        index,
        name: info.name,
        backend: info.backend.to_string(),
        r#type: kind(info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        limits: AdapterLimits {
            max_buffer_size: limits.max_buffer_size,
            max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
            max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
        },
        features: if subgroups { vec!["subgroups"] } else { vec![] },
        problem: adapter::shortfall(adapter),
    }
}

fn kind(device_type: wgpu::DeviceType) -> &'static str {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => "graphics card",
        wgpu::DeviceType::IntegratedGpu => "integrated graphics",
        wgpu::DeviceType::VirtualGpu => "virtual graphics card",
        wgpu::DeviceType::Cpu => "software adapter",
        wgpu::DeviceType::Other => "adapter of unknown type",
    }
}

fn show(row: &AdapterRow, context: &Context) {
    let AdapterLimits {
        max_buffer_size,
        max_storage_buffer_binding_size,
        max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup,
        max_storage_buffers_per_shader_stage,
    } = row.limits;
    let features = if row.features.is_empty() { "none".to_owned() } else { row.features.join(", ") };
    let out = &context.out;
    out.line(&format!("{}  {} ({}, {})", row.index, row.name, row.r#type, row.backend));
    out.line(&format!("   driver    {}", if row.driver.is_empty() { "unknown" } else { &row.driver }));
    let [buffer, binding] = [max_buffer_size, max_storage_buffer_binding_size].map(bytes);
    let shared = bytes(u64::from(max_compute_workgroup_storage_size));
    out.line(&format!("   memory    buffers to {buffer}, bindings to {binding}, {shared} of workgroup memory"));
    out.line(&format!(
        "   kernels   {max_storage_buffers_per_shader_stage} storage buffers, {max_compute_invocations_per_workgroup} invocations per workgroup"
    ));
    out.line(&format!("   features  {features}"));
    if let Some(problem) = &row.problem {
        out.line(&format!("   UNUSABLE  {problem}"));
    }
    out.line("");
}

fn why(rows: &[AdapterRow], taken: usize, request: &Request) -> String {
    let row = &rows[taken];
    if let Some(wanted) = &request.adapter {
        return format!("selected by --adapter {wanted}");
    }
    let usable = rows.iter().filter(|row| row.problem.is_none()).count();
    match (usable, rows.len()) {
        (1, 1) => "it is the only adapter".to_owned(),
        (1, _) => "it is the only usable adapter".to_owned(),
        _ => format!("a {}; graphics cards are preferred to integrated graphics, software and GL come last", row.r#type),
    }
}
