//! The file that tuning writes and runs read: the adapter, driver and shaders that it applies to, and the choices.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, brief};
use crate::files;
use crate::gpu::Gpu;
use crate::gpu::variants::{Choice, layered};

/// What timings depend on, apart from the shape class, which is part of each choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneKey {
    /// The adapter's name, as wgpu reports it.
    pub adapter: String,
    /// The driver's name and version, separated by a blank.
    pub driver: String,
    /// wgpu's name of the device type: `DiscreteGpu`, `IntegratedGpu`, `Cpu`.
    pub device_type: String,
    /// wgpu's name of the graphics interface: `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// The fixed subgroup size in use; 0 without subgroups, as with `--limits baseline`.
    pub subgroup: u32,
    /// A hash of all WGSL text.
    pub shaders: String,
}

/// A file of choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// The version of this layout.
    pub version: u32,
    /// Where the timings were taken; the choices apply only to an equal key.
    pub key: TuneKey,
    /// One variant for each kernel and shape class that was timed.
    #[serde(default)]
    pub choices: Vec<Choice>,
}

/// The layout that this version writes and reads.
pub const VERSION: u32 = 1;

impl TuneKey {
    /// The key of this device; `shaders` is a hash of the WGSL text of all kernels.
    pub fn of(gpu: &Gpu, shaders: u64) -> TuneKey {
        let info = gpu.info();
        TuneKey {
            adapter: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            device_type: format!("{:?}", info.device_type),
            backend: info.backend.to_string(),
            subgroup: gpu.traits().subgroup.unwrap_or(0),
            shaders: format!("{shaders:016x}"),
        }
    }

    /// A file name for this adapter and backend: `nvidia-geforce-rtx-4090-vulkan.toml`. Other drivers or shaders overwrite the file.
    pub fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = format!("{}-{}", self.adapter, self.backend).chars().map(plain).collect();
        let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
        format!("{}.toml", parts.join("-"))
    }

    /// Why choices for `self` do not apply to `here`: the first field that differs.
    pub fn difference(&self, here: &TuneKey) -> Option<String> {
        let subgroups = [self, here].map(|key| key.subgroup.to_string());
        let rows = [
            ("adapter", &self.adapter, &here.adapter),
            ("driver", &self.driver, &here.driver),
            ("device type", &self.device_type, &here.device_type),
            ("backend", &self.backend, &here.backend),
            ("subgroup size", &subgroups[0], &subgroups[1]),
            ("shader hash", &self.shaders, &here.shaders),
        ];
        let (what, theirs, ours) = rows.into_iter().find(|(_, theirs, ours)| theirs != ours)?;
        Some(format!("its {what} is {theirs}, here it is {ours}"))
    }
}

impl Tuning {
    /// The choices of one tuning run, in the layout of [`VERSION`].
    pub fn new(key: TuneKey, choices: Vec<Choice>) -> Tuning {
        Tuning { version: VERSION, key, choices }
    }

    /// # Errors
    /// [`Error::File`] when the file cannot be read or was not written by `wgpt tune`.
    pub fn read(path: &Path) -> Result<Tuning> {
        let text = files::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::file(path, "no such file: `wgpt tune` makes one"),
            std::io::ErrorKind::InvalidData => Error::file(path, "is no file of `wgpt tune`: it is not UTF-8"),
            _ => Error::file(path, e),
        })?;
        let problem = |e: toml::de::Error| Error::file(path, format!("is no file of `wgpt tune`: {}", brief(e.message())));
        let tuning: Tuning = toml::from_str(&text).map_err(problem)?;
        if tuning.version != VERSION {
            return Err(Error::file(path, format!("has version {}, this program reads version {VERSION}", tuning.version)));
        }
        Ok(tuning)
    }

    /// Writes the file whole or not at all. Choices in an existing file with the same key stay, unless these replace them.
    ///
    /// # Errors
    /// [`Error::File`]; an existing file is then unchanged.
    pub fn write(&self, path: &Path) -> Result<()> {
        let before = Tuning::read(path).ok().filter(|before| before.key == self.key);
        let choices = layered(before.as_ref().map_or(&[], |before| &before.choices), &self.choices);
        let merged = Tuning { choices, ..self.clone() };
        let text = toml::to_string(&merged).map_err(|e| Error::file(path, e))?;
        files::write(path, |out| out.write_all(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn key() -> TuneKey {
        let [adapter, driver] = ["Card (TM) 7 / LLVM", "maker 1.2"].map(str::to_owned);
        TuneKey { adapter, driver, device_type: "DiscreteGpu".into(), backend: "vulkan".into(), subgroup: 0, shaders: "00ff".into() }
    }

    fn choices(texts: &[&str]) -> Vec<Choice> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_key_says_what_differs() {
        assert_eq!(key().file_name(), "card-tm-7-llvm-vulkan.toml");
        assert_eq!(key().difference(&key()), None);
        let other = TuneKey { driver: "maker 1.3".into(), ..key() };
        assert_eq!(key().difference(&other).unwrap(), "its driver is maker 1.2, here it is maker 1.3");
        let other = TuneKey { subgroup: 8, ..key() };
        assert_eq!(key().difference(&other).unwrap(), "its subgroup size is 0, here it is 8");
    }

    #[test]
    fn files_merge_by_class_and_are_replaced_by_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let first = Tuning::new(key(), choices(&["a.x@1x1x1=p", "a.x@2x1x1=p"]));
        first.write(&path).unwrap();
        assert_eq!(Tuning::read(&path).unwrap(), first);
        Tuning::new(key(), choices(&["a.x@2x1x1=q"])).write(&path).unwrap();
        assert_eq!(Tuning::read(&path).unwrap().choices, choices(&["a.x@1x1x1=p", "a.x@2x1x1=q"]));
        let other = Tuning::new(TuneKey { driver: "maker 1.3".into(), ..key() }, choices(&["a.x@4x1x1=r"]));
        other.write(&path).unwrap();
        assert_eq!(Tuning::read(&path).unwrap(), other);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn damaged_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let refused = |text: &str| {
            fs::write(&path, text).unwrap();
            Tuning::read(&path).unwrap_err().to_string()
        };
        assert!(refused("version = ").contains("is no file of `wgpt tune`"));
        assert!(refused("version = 1\n").contains("key"));
        let whole = toml::to_string(&Tuning::new(key(), choices(&["a.x@1x1x1=p"]))).unwrap();
        assert!(refused(&whole.replace("version = 1", "version = 2")).contains("has version 2"));
        assert!(refused(&whole.replace("1x1x1", "3x1x1")).contains("a.toml"));
        assert!(Tuning::read(&folder.path().join("none.toml")).unwrap_err().to_string().contains("wgpt tune"));
    }
}
