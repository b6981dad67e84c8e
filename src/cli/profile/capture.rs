//! Captures one step in the graphics debugger that this process was started from.

use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// # Errors
/// [`Error::Usage`] when no debugger is attached to this process, with how to attach one; none on systems where this cannot be detected.
pub fn attached() -> Result<()> {
    // Without a debugger wgpu silently does nothing. Only Linux shows which libraries a process has loaded.
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return Ok(()) };
    if maps.contains("librenderdoc") {
        return Ok(());
    }
    Err(Error::usage("--capture: RenderDoc is not attached: start this command with `renderdoccmd capture` or from RenderDoc's window"))
}

/// Runs `step`, which waits for its work, within a capture.
#[allow(unsafe_code)]
pub fn captured(gpu: &Gpu, step: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: no other capture is active, as this program starts one only, and the step has run when the capture ends.
    unsafe { gpu.device().start_graphics_debugger_capture() };
    let done = step();
    // SAFETY: as above.
    unsafe { gpu.device().stop_graphics_debugger_capture() };
    done
}
