//! Compiled pipelines, kept in the user's cache folder between commands. A failure here only costs time.

use std::cell::Cell;
use std::io::Write;
use std::path::PathBuf;

use super::variants::cache_folder;
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Gpu;

/// The cache of one adapter.
pub struct PipelineCache {
    gpu: Gpu,
    /// `None` if the adapter has no cache or the user no folder for it.
    path: Option<PathBuf>,
    /// Checksum of the file's contents.
    saved: Cell<u64>,
}

/// Length in bytes of the checksum at the start of a file.
const HEADER: usize = 8;

impl PipelineCache {
    /// Passes the device what an earlier command saved, if the file is intact.
    #[allow(unsafe_code)]
    pub fn open(gpu: &Gpu) -> PipelineCache {
        let path = cache_folder().zip(wgpu::util::pipeline_cache_key(gpu.info())).map(|(folder, key)| folder.join(key));
        let found = path.as_ref().and_then(|path| files::read(path).ok());
        let whole = found.as_deref().and_then(content);
        if path.is_some() {
            // SAFETY: the file is written by `save` alone, from the same function of the same library, and its checksum is right.
            unsafe { gpu.keep_pipelines(whole) };
        }
        PipelineCache { gpu: gpu.clone(), path, saved: Cell::new(whole.map_or(0, checksum)) }
    }

    /// Writes what the device has compiled since, replacing the whole file.
    pub fn save(&self) {
        let Some((path, data)) = self.path.as_ref().zip(self.gpu.pipeline_cache_data()) else { return };
        let sum = checksum(&data);
        if sum == self.saved.get() {
            return;
        }
        let write = || -> Result<()> {
            let folder = path.parent().unwrap_or(path);
            files::disk::make_folders(folder).map_err(|e| Error::file(folder, e))?;
            files::write(path, |out| {
                out.write_all(&sum.to_le_bytes())?;
                out.write_all(&data)
            })
        };
        // A full or read-only disk is no reason to fail: the next command compiles again.
        if write().is_ok() {
            self.saved.set(sum);
        }
    }
}

/// The data behind the checksum, if the checksum is correct.
fn content(file: &[u8]) -> Option<&[u8]> {
    let (header, data) = file.split_at_checked(HEADER)?;
    (header == checksum(data).to_le_bytes() && !data.is_empty()).then_some(data)
}

/// FNV-1a.
fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_are_read() {
        let mut file = checksum(b"pipelines").to_le_bytes().to_vec();
        file.extend(b"pipelines");
        assert_eq!(content(&file), Some(&b"pipelines"[..]));
        assert_eq!(content(&file[..file.len() - 1]), None, "cut short");
        file[12] ^= 1;
        assert_eq!(content(&file), None, "one bit changed");
        for short in [&[][..], &[1, 2, 3][..], &checksum(b"").to_le_bytes()[..]] {
            assert_eq!(content(short), None);
        }
    }
}
