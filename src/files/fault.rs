//! Fault injection for tests: in builds with debug assertions, an operation that changes files can be made to fail or to abort the process.
//!
//! `WGPT_FAULT=error:N` makes the Nth operation of the process fail, `full:N` makes every operation from the Nth on that needs disk space
//! fail, and `kill:N` aborts the process at the Nth. A failing write first writes half of its bytes. `WGPT_FAULT_LOG=FILE` logs a line for
//! each operation. A release build ignores both.

#[cfg(not(debug_assertions))]
use std::{io, path::Path};

/// The kind of an operation, as far as faults depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Needs disk space: it fails on a full disk.
    Grows(&'static str),
    Other(&'static str),
}

/// Called before an operation; an `Err` replaces the operation.
#[cfg(not(debug_assertions))]
pub fn before(_: Kind, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Calls `write` with `bytes`, or with half of them if the operation is to fail.
#[cfg(not(debug_assertions))]
pub fn write(_: &Path, bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    write(bytes)
}

#[cfg(debug_assertions)]
pub use armed::{before, write};

#[cfg(debug_assertions)]
mod armed {
    use std::fs::{File, OpenOptions};
    use std::io::{self, Write};
    use std::path::Path;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use super::Kind;

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Fault {
        None,
        Error,
        Full,
        Kill,
    }

    struct FaultPlan {
        fault: Fault,
        at: u64,
        log: Option<File>,
        count: u64,
    }

    fn plan() -> &'static Mutex<FaultPlan> {
        static PLAN: OnceLock<Mutex<FaultPlan>> = OnceLock::new();
        PLAN.get_or_init(|| {
            let (mut fault, mut at) = (Fault::None, 0);
            if let Ok(text) = std::env::var("WGPT_FAULT") {
                let parsed = text.split_once(':').and_then(|(kind, at)| Some((kind, at.parse().ok()?)));
                (fault, at) = match parsed {
                    Some(("error", at)) => (Fault::Error, at),
                    Some(("full", at)) => (Fault::Full, at),
                    Some(("kill", at)) => (Fault::Kill, at),
                    _ => panic!("WGPT_FAULT is `{text}`, error:N, full:N or kill:N is needed"),
                };
            }
            let log = std::env::var_os("WGPT_FAULT_LOG").map(|path| {
                let file = OpenOptions::new().create(true).append(true).open(&path);
                file.unwrap_or_else(|e| panic!("WGPT_FAULT_LOG is {}: {e}", path.display()))
            });
            Mutex::new(FaultPlan { fault, at, log, count: 0 })
        })
    }

    /// Counts the operation and returns the fault to inject.
    fn next(kind: Kind, path: &Path) -> Fault {
        let mut plan = plan().lock().unwrap_or_else(PoisonError::into_inner);
        plan.count += 1;
        let count = plan.count;
        let (name, grows) = match kind {
            Kind::Grows(name) => (name, true),
            Kind::Other(name) => (name, false),
        };
        if let Some(log) = &mut plan.log {
            log.write_all(format!("{count} {name} {}\n", path.display()).as_bytes()).expect("the log of WGPT_FAULT_LOG");
        }
        match plan.fault {
            Fault::Full if count >= plan.at && grows => Fault::Full,
            Fault::Error | Fault::Kill if count == plan.at => plan.fault,
            _ => Fault::None,
        }
    }

    fn error(fault: Fault) -> io::Result<()> {
        match fault {
            Fault::None => Ok(()),
            Fault::Kill => std::process::abort(),
            Fault::Error => Err(io::Error::other("input/output error (injected)")),
            Fault::Full => Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device (injected)")),
        }
    }

    pub fn before(kind: Kind, path: &Path) -> io::Result<()> {
        error(next(kind, path))
    }

    pub fn write(path: &Path, bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        let fault = next(Kind::Grows("write"), path);
        if fault != Fault::None {
            write(&bytes[..bytes.len() / 2])?;
            error(fault)?;
        }
        write(bytes)
    }
}
