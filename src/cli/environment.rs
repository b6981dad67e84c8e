//! What drivers read of the environment, set before the first of them is loaded.

/// Without XDG_RUNTIME_DIR there is no Wayland display to find, but Mesa's layer that sorts the adapters looks for one all the same and
/// complains about it on stderr, `--quiet` or not. A display that is a path is looked for without that folder, and in silence.
#[allow(unsafe_code)]
pub fn settle() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|folder| folder.is_empty()) {
        // SAFETY: this is the program's first act, before any thread but this one is there to read the environment.
        unsafe { std::env::set_var("WAYLAND_DISPLAY", "/dev/null") };
    }
}
