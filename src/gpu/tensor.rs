//! Virtual tensors: named, shaped, typed views of storages that a plan will lay out.

use std::fmt;
use std::sync::Arc;

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// IEEE 754 single precision, one element in a word.
    F32,
    /// Unsigned 32-bit integers: ids, counters, or a block of words that the host writes.
    U32,
    /// bfloat16, the upper half of an f32; two elements in a word.
    Bf16,
    /// IEEE 754 half precision; two elements in a word.
    F16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            Dtype::F32 | Dtype::U32 => 4,
            Dtype::Bf16 | Dtype::F16 => 2,
        }
    }

    /// Its name in configs, tables and shape classes.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::U32 => "u32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        }
    }

    /// Whether two elements share a word.
    pub fn is_packed(self) -> bool {
        self.size() < 4
    }
}

/// A view of one storage of a [`super::plan::Plan`]: name, shape, element type and offset.
#[derive(Clone)]
pub struct Tensor {
    /// The name that it was recorded under; messages quote it.
    pub name: Arc<str>,
    /// Elements along each axis, the last of which is contiguous.
    pub shape: Vec<usize>,
    /// How an element is stored; the kernels that bind it must declare the same.
    pub dtype: Dtype,
    /// Index of its storage.
    pub(crate) storage: usize,
    /// Byte offset in the storage, a multiple of 256.
    pub(crate) offset: u64,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether an axis has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes, padded to the 16 that a `vec4<f32>` load may touch.
    pub fn bytes(&self) -> u64 {
        padded(self.len(), self.dtype)
    }

    /// Byte offset of its end in the storage.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes()
    }

    /// Rows of a matrix: all axes but the last.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len() - 1].iter().product()
    }

    /// Columns of a matrix: the last axis.
    pub fn cols(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.name, self.dtype, self.shape)
    }
}

/// Bytes of this many elements, padded to a multiple of 16.
pub fn padded(elements: usize, dtype: Dtype) -> u64 {
    (elements as u64 * dtype.size()).next_multiple_of(16)
}
