//! Tests every entry point of every WGSL file against its twin, the f64 reference implementation (`cases`), checks the files (`every_kernel`,
//! `names`) and tests tuning.

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod draws;
mod every_kernel;
mod names;
mod random_shapes;
mod tune;
