//! The twin proves the kernel: every entry point of every WGSL file against its f64 twin at odd sizes, as shipped between poisoned guard
//! zones, once more with wgpu's checks, in every variant, and in any slicing (see `harness`).

mod harness;
mod layer_norm;
mod matmul;
