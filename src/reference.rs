//! The twins: reference implementations, one naive f64 function for every kernel in `shaders/`, with the same file name, entry point and
//! argument names.
//!
//! A kernel is tested against its twin, so a twin is written to be verified by reading: plain slices, loops named by axis, no
//! optimization. [`finite_diff`] proves each backward here; the kernel tests then compare the GPU with the twin.
//!
//! Shapes: **B** batch, **T** time, **C** d_model, **H** heads, **D** head size, **F** d_ff, **V** vocabulary; row-major; weights are
//! (out, in). A slice too short for the given sizes panics.
#![allow(clippy::needless_range_loop, reason = "loops are named by axis and index by it, like the math above them")]
#![allow(clippy::too_many_arguments, reason = "a twin takes what its kernel binds, by the same names")]

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod attention_map;
pub mod cached_attention;
pub mod cast;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod finite_diff;
pub mod gradient_norm;
pub mod layer_norm;
pub mod matmul;
pub mod model;
pub mod partial_sums;
pub mod position;
pub mod probe;
pub mod residual;
pub mod sample;
pub mod sgd;
pub mod token_embedding;
