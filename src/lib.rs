#![deny(unsafe_code)]
#[cfg(feature = "cli")]
pub mod cli;
pub mod error;
pub mod generate;
pub mod gpu;
pub mod model;
pub mod ops;
pub mod reference;
pub mod text;
pub mod train;
