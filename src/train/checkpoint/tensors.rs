//! Reads and writes safetensors files one tensor at a time: a state that fits into memory once can be saved and loaded.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::{Error, Result, brief};
use crate::files::{self, NewFolder};
use crate::model::params::Param;
use crate::train::trainer::Snapshot;

/// Source of a checkpoint's tensors, read in pieces.
pub trait Tensors {
    /// Number of moments of each parameter.
    fn moments(&self) -> usize;

    /// Calls `each` with the values of a parameter, or of one of its moments (from 0), in order and in pieces of any size. `param` is its
    /// index in the table.
    ///
    /// # Errors
    /// Errors of `each`, and of the source of the values.
    fn read(&self, param: usize, moment: Option<usize>, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>;
}

impl Tensors for Snapshot {
    fn moments(&self) -> usize {
        self.moments.len()
    }

    fn read(&self, param: usize, moment: Option<usize>, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        each(moment.map_or(&self.weights[param], |moment| &self.moments[moment][param]))
    }
}

/// The files of the weights and of the moments.
pub const FILES: [&str; 2] = ["model.safetensors", "optimizer.safetensors"];

/// Name prefix of the weights, or of one moment (from 0).
fn prefix(moment: Option<usize>) -> String {
    moment.map_or(String::new(), |moment| format!("moment_{}.", moment + 1))
}

/// Writes weights and moments into the folder of a checkpoint of `step`.
///
/// # Errors
/// [`Error::Diverged`] naming the tensor with a value that is not finite; [`Error::File`]; errors of `tensors`.
pub fn write(folder: &mut NewFolder, table: &[Param], tensors: &dyn Tensors, step: u64) -> Result<()> {
    let weights = (0..table.len()).map(|param| (param, None));
    write_file(folder, FILES[0], table, tensors, step, weights.collect())?;
    let moments = (0..tensors.moments()).flat_map(|moment| (0..table.len()).map(move |param| (param, Some(moment))));
    write_file(folder, FILES[1], table, tensors, step, moments.collect())
}

/// Writes a safetensors file exactly as its library does, which accepts only whole files in memory.
fn write_file(
    folder: &mut NewFolder,
    file: &str,
    table: &[Param],
    tensors: &dyn Tensors,
    step: u64,
    list: Vec<(usize, Option<usize>)>,
) -> Result<()> {
    let path = folder.path(file);
    let failed = |e: io::Error| Error::file(&path, format!("cannot be written: {e}"));
    let mut list: Vec<(String, usize, Option<usize>)> =
        list.into_iter().map(|(param, moment)| (prefix(moment) + &table[param].name, param, moment)).collect();
    list.sort();
    let (mut infos, mut end) = (vec![], 0);
    for (name, param, _) in &list {
        let (begin, shape) = (end, table[*param].shape.clone());
        end += 4 * shape.iter().product::<usize>();
        infos.push((name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets: (begin, end) }));
    }
    let header = Metadata::new(None, infos).map_err(|e| Error::file(&path, e))?;
    let mut header = serde_json::to_vec(&header).map_err(|e| Error::file(&path, e))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    folder.write(file, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        out.write_all(&header).map_err(failed)?;
        for (name, param, moment) in &list {
            let mut done = 0;
            tensors.read(*param, *moment, &mut |piece| {
                check_finite(name, step, done, piece)?;
                done += piece.len();
                out.write_all(bytemuck::cast_slice(piece)).map_err(failed)
            })?;
            assert_eq!(done, table[*param].shape.iter().product::<usize>(), "checkpoint: `{name}` came with another number of values");
        }
        Ok(())
    })
}

/// Refuses values that a run cannot continue from. A finite loss proves nothing: it was computed before the update.
fn check_finite(name: &str, step: u64, first: usize, values: &[f32]) -> Result<()> {
    let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let (value, at) = (values[at], first + at);
    Err(Error::Diverged(format!(
        "step {step}: `{name}` has the value {value} at element {at}, which is not a finite number: this step is not saved, the checkpoints \
         before it stay; try a smaller train.learning_rate or a longer train.warmup_steps"
    )))
}

/// A safetensors file that is read one tensor at a time.
pub struct Reader<R> {
    path: PathBuf,
    file: R,
    metadata: Metadata,
    /// Where the values begin.
    begin: u64,
}

impl Reader<BufReader<File>> {
    /// # Errors
    /// As [`Reader::new`].
    pub fn open(path: &Path) -> Result<Reader<BufReader<File>>> {
        let file = files::open(path).map_err(|e| Error::file(path, e))?;
        let size = file.metadata().map_err(|e| Error::file(path, e))?.len();
        Reader::new(path, BufReader::new(file), size)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the header of `file`, which holds `size` bytes; errors name it `path`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, or is not a complete safetensors file.
    pub fn new(path: &Path, mut file: R, size: u64) -> Result<Reader<R>> {
        let cut = |e: String| Error::file(path, format!("is truncated or not a safetensors file: {e}"));
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|e| cut(brief(e)))?;
        let length = u64::from_le_bytes(length);
        if length > size.saturating_sub(8) {
            return Err(cut(format!("its header of {length} bytes is longer than the file")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(|e| cut(e.to_string()))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| cut(e.to_string()))?;
        let (begin, found) = (8 + length, size - 8 - length);
        if metadata.data_len() as u64 != found {
            return Err(cut(format!("it has {found} bytes of values, its header says {}", metadata.data_len())));
        }
        Ok(Reader { path: path.to_path_buf(), file, metadata, begin })
    }

    /// Refuses tensors that no parameter of `table` reads: the weights are of another model, and would mean nothing without these.
    ///
    /// # Errors
    /// [`Error::File`] naming one of them.
    pub fn holds_only(&self, table: &[Param]) -> Result<()> {
        let names = self.metadata.offset_keys();
        let unknown = names.iter().find(|name| table.iter().all(|param| param.name != **name));
        unknown.map_or(Ok(()), |name| Err(Error::file(&self.path, format!("has the tensor `{name}`, which this model does not have"))))
    }

    /// The values of a parameter, or of one of its moments (from 0).
    ///
    /// # Errors
    /// [`Error::File`] naming the tensor that is missing, has another shape, or has a value that is not finite.
    pub fn read(&mut self, param: &Param, moment: Option<usize>) -> Result<Vec<f32>> {
        let (name, path) = (prefix(moment) + &param.name, &self.path);
        let info = self.metadata.info(&name);
        let info = info.ok_or_else(|| Error::file(path, format!("has no tensor `{name}` of shape {:?}", param.shape)))?;
        if info.dtype != Dtype::F32 || info.shape != param.shape {
            let found = format!("{:?} {:?}", info.dtype, info.shape);
            return Err(Error::file(path, format!("`{name}` is {found}, this model needs F32 {:?}", param.shape)));
        }
        let mut values = vec![0f32; info.shape.iter().product()];
        let place = SeekFrom::Start(self.begin + info.data_offsets.0 as u64);
        let read = self.file.seek(place).and_then(|_| self.file.read_exact(bytemuck::cast_slice_mut(&mut values)));
        read.map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::file(path, format!("`{name}` has the value {} at element {index}, not a finite number", values[index])));
        }
        Ok(values)
    }
}
