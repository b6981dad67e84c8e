//! What drivers read of the environment, set before the first of them is loaded; and what the system does when a file grows too large.

/// Without XDG_RUNTIME_DIR there is no Wayland display to find, but Mesa's layer that sorts the adapters looks for one all the same and
/// complains about it on stderr, `--quiet` or not. A display that is a path is looked for without that folder, and in silence.
#[allow(unsafe_code)]
pub fn settle() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|folder| folder.is_empty()) {
        // SAFETY: this is the program's first act, before any thread but this one is there to read the environment.
        unsafe { std::env::set_var("WAYLAND_DISPLAY", "/dev/null") };
    }
}

/// A file that would grow beyond the user's limit (`ulimit -f`) ends the process by a signal, unless that is ignored: then the write fails,
/// as on a full disk.
#[allow(unsafe_code)]
pub fn let_large_files_fail() {
    #[cfg(unix)]
    // SAFETY: no handler of ours is installed, the signal is only ignored.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// The largest file that the user's limit allows (`ulimit -f`), in bytes; none without a limit.
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
