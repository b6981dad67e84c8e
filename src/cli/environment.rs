//! The environment variables that drivers read, set before the first driver is loaded, and the user's limit on file sizes.

/// Without XDG_RUNTIME_DIR there is no Wayland display to find, but Mesa's layer that sorts the adapters still looks for one and complains
/// on stderr, even with `--quiet`. So WAYLAND_DISPLAY is set to a path, which the layer tries without that folder and without a message.
#[allow(unsafe_code)]
pub fn settle() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|folder| folder.is_empty()) {
        // SAFETY: this runs first in `main`, before any other thread exists that could read the environment.
        unsafe { std::env::set_var("WAYLAND_DISPLAY", "/dev/null") };
    }
}

/// Lets a write beyond the user's file size limit (`ulimit -f`) fail, as on a full disk, instead of ending the process by a signal.
#[allow(unsafe_code)]
pub fn let_large_files_fail() {
    #[cfg(unix)]
    // SAFETY: no handler of ours is installed, the signal is only ignored.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// The user's file size limit (`ulimit -f`) in bytes; `None` without a limit.
#[allow(unsafe_code)]
pub fn largest_file() -> Option<u64> {
    #[cfg(unix)]
    {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the call writes into `limit`, which outlives it.
        let read = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
        #[allow(clippy::unnecessary_cast)] // not u64 everywhere
        (read && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as u64)
    }
    #[cfg(not(unix))]
    None
}
