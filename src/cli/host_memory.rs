//! Whether this machine's memory holds what an adapter takes that has none of its own.

use sysinfo::System;

use crate::error::{Error, Result, bytes};
use crate::gpu::Gpu;
use crate::model::session::Memory;

/// Refuses a plan that a software adapter, or graphics within the processor, cannot hold: some drivers accept any allocation, and the
/// system ends the process when it is used.
///
/// # Errors
/// [`Error::Usage`] with what the plan needs and what the machine has.
pub fn check(gpu: &Gpu, memory: &Memory) -> Result<()> {
    use wgpu::DeviceType::{Cpu, IntegratedGpu};
    let shares = matches!(gpu.info().device_type, Cpu | IntegratedGpu);
    total().filter(|_| shares).map_or(Ok(()), |total| fits(&gpu.info().name, memory, total))
}

fn fits(adapter: &str, memory: &Memory, total: u64) -> Result<()> {
    if memory.total <= total {
        return Ok(());
    }
    let (needed, there) = (bytes(memory.total), bytes(total));
    let (class, largest) = memory.classes.iter().max_by_key(|(_, size)| *size).copied().unwrap_or(("buffers", memory.total));
    Err(Error::usage(format!(
        "the run needs {needed} of memory, {} of it for {class}; the adapter {adapter} shares the {there} of this machine: take a smaller \
         model, a smaller train.batch_size (with more train.grad_accumulation), or a graphics card (see `wgpt devices`)",
        bytes(largest)
    )))
}

/// Bytes of memory and swap of this machine, or of the container that this process is in; `None` where the system does not tell.
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
        let memory = Memory { classes: vec![("weights", 3 << 30), ("activations", 5 << 30)], total: 8 << 30, buffers: 2 };
        fits("llvmpipe", &memory, 8 << 30).unwrap();
        let refused = fits("llvmpipe", &memory, (8 << 30) - 1).unwrap_err().to_string();
        assert!(
            refused.starts_with("the run needs 8.0 GiB of memory, 5.0 GiB of it for activations; the adapter llvmpipe shares the 8.0 GiB")
        );
    }

    #[test]
    fn this_machine_has_memory() {
        let total = total().unwrap();
        assert!((1 << 26..1 << 50).contains(&total), "{total} bytes");
    }
}
