//! Checks that this machine can hold what an adapter without memory of its own allocates: bytes and mappings.

use sysinfo::System;

use crate::error::{Error, Result, bytes};
use crate::gpu::Gpu;
use crate::model::session::Memory;

/// Refuses a plan that a software adapter or integrated graphics cannot hold: some drivers accept any allocation, and the system kills the
/// process when the memory is used.
///
/// # Errors
/// [`Error::Usage`] with what the plan needs and what the machine has.
pub fn check(gpu: &Gpu, memory: &Memory) -> Result<()> {
    use wgpu::DeviceType::{Cpu, IntegratedGpu};
    let shares = matches!(gpu.info().device_type, Cpu | IntegratedGpu);
    if let Some(total) = total() {
        // What the device has of its own does not count.
        let kept = memory.classes.iter().find(|(class, _)| *class == SNAPSHOTS).map_or(0, |(_, bytes)| *bytes);
        if shares {
            fits(&gpu.info().name, memory, total)?;
        }
        fits_snapshots(if shares { memory.total } else { kept }, memory.host, total)?;
    }
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let allowed = if cfg!(target_os = "linux") { read("/proc/sys/vm/max_map_count").trim().parse().ok() } else { None };
    allowed.map_or(Ok(()), |allowed| fits_mappings(&gpu.info().name, memory, &read("/proc/self/maps"), allowed))
}

/// How Mesa's llvmpipe since 24 names the file that it keeps its memory in.
const DRIVERS_FILE: &str = "memfd:allocation fd";
/// Mappings that it creates per bind group: counted on Mesa 25, 774 for 384 bind groups and 1,510 for 752.
const OF_A_BIND_GROUP: u64 = 2;
/// Allowance for other mappings: threads, compiled code, files.
const OTHER_MAPPINGS: u64 = 2000;

/// Refuses a plan with too many bind groups for the mappings that a process may have: that driver creates some for each, and crashes when
/// it gets none. `maps` lists the mappings of the process, `allowed` is their limit.
fn fits_mappings(adapter: &str, memory: &Memory, maps: &str, allowed: u64) -> Result<()> {
    let needed = OF_A_BIND_GROUP * memory.bind_groups + maps.lines().count() as u64 + OTHER_MAPPINGS;
    if needed <= allowed || !maps.contains(DRIVERS_FILE) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the run has {} dispatches a step, and the driver of {adapter} maps memory for each: it needs {needed} mappings, this system allows \
         {allowed} (vm.max_map_count): use a smaller model.n_layer, or raise the limit with: sysctl -w vm.max_map_count={needed}",
        memory.bind_groups
    )))
}

/// The class of the buffers of snapshots, which are in host memory on every adapter.
const SNAPSHOTS: &str = "snapshots";

/// Refuses a plan that fits only without the `host` bytes of its snapshots.
fn fits_snapshots(needed: u64, host: u64, total: u64) -> Result<()> {
    if needed + host <= total || host == 0 {
        return Ok(());
    }
    let (needed, host, there) = (bytes(needed + host), bytes(host), bytes(total));
    Err(Error::usage(format!(
        "the run needs {needed} of this machine's memory, {host} of it for copies of snapshots, and there are {there}: use a smaller model, \
         or take no snapshots with --set train.snapshot_every=0"
    )))
}

fn fits(adapter: &str, memory: &Memory, total: u64) -> Result<()> {
    if memory.total <= total {
        return Ok(());
    }
    let (needed, there) = (bytes(memory.total), bytes(total));
    let (class, largest) = memory.classes.iter().max_by_key(|(_, size)| *size).copied().unwrap_or(("buffers", memory.total));
    Err(Error::usage(format!(
        "the run needs {needed} of memory, {} of it for {class}; the adapter {adapter} shares the {there} of this machine: use a smaller \
         model, a smaller train.batch_size (with more train.grad_accumulation), or a graphics card (see `wgpt devices`)",
        bytes(largest)
    )))
}

/// Bytes of memory and swap of this machine, or of the container that this process runs in; `None` if the system does not report them.
fn total() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let whole = system.total_memory();
    let allowed = system.cgroup_limits().map_or(whole, |limits| limits.total_memory.min(whole));
    (whole > 0).then_some(allowed + system.total_swap())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_machine_has_is_refused_by_what_takes_most() {
        let memory =
            Memory { classes: vec![("weights", 3 << 30), ("activations", 5 << 30)], total: 8 << 30, buffers: 2, bind_groups: 9, host: 0 };
        fits("llvmpipe", &memory, 8 << 30).unwrap();
        let refused = fits("llvmpipe", &memory, (8 << 30) - 1).unwrap_err().to_string();
        assert!(
            refused.starts_with("the run needs 8.0 GiB of memory, 5.0 GiB of it for activations; the adapter llvmpipe shares the 8.0 GiB")
        );
    }

    #[test]
    fn snapshots_are_refused_where_only_the_rest_fits() {
        fits_snapshots(6 << 30, 2 << 30, 8 << 30).unwrap();
        fits_snapshots(9 << 30, 0, 8 << 30).unwrap();
        let refused = fits_snapshots(7 << 30, 2 << 30, 8 << 30).unwrap_err().to_string();
        assert!(refused.starts_with("the run needs 9.0 GiB of this machine's memory, 2.0 GiB of it for copies"), "{refused}");
        assert!(refused.ends_with("--set train.snapshot_every=0"), "{refused}");
    }

    #[test]
    fn more_dispatches_than_mappings_are_refused_where_the_driver_maps_each() {
        let memory = Memory { classes: vec![], total: 0, buffers: 2, bind_groups: 30_000, host: 0 };
        let maps = "7f00-7f10 rw-s 00000000 00:01 1024 /memfd:allocation fd (deleted)\n55d0-55d1 r-xp 00000000 00:01 7 /usr/bin/wgpt\n";
        fits_mappings("llvmpipe", &memory, maps, 62_002).unwrap();
        fits_mappings("llvmpipe", &memory, "55d0-55d1 r-xp 00000000 00:01 7 /usr/bin/wgpt\n", 100).unwrap();
        let refused = fits_mappings("llvmpipe", &memory, maps, 62_001).unwrap_err().to_string();
        assert!(refused.starts_with("the run has 30000 dispatches a step, and the driver of llvmpipe maps"), "{refused}");
        assert!(
            refused.contains("needs 62002 mappings, this system allows 62001") && refused.ends_with("vm.max_map_count=62002"),
            "{refused}"
        );
    }

    #[test]
    fn this_machine_has_memory() {
        let total = total().unwrap();
        assert!((1 << 26..1 << 50).contains(&total), "{total} bytes");
    }
}
