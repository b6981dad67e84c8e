//! Tests every entry point of every WGSL file against its twin, the f64 reference implementation, at odd sizes: as shipped between poisoned
//! guard zones, with wgpu's checks, in every variant, and in slices (see `harness`).

#[path = "../common/mod.rs"]
mod common;
mod harness;

mod adamw;
mod attention;
mod attention_map;
mod cached_attention;
mod cast;
mod cross_entropy;
mod dropout;
mod embedding;
mod every_kernel;
mod gradient_norm;
mod layer_norm;
mod loss;
mod matmul;
mod names;
mod position;
mod probe;
mod random_shapes;
mod sample;
mod sgd;
mod token_embedding;
mod tune;
