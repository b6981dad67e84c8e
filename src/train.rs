//! Training: configuration and presets, the trainer, schedules, evaluation, checkpoints, metrics and the loss curve.

#[cfg(feature = "files")]
pub mod checkpoint;
pub mod config;
pub mod evaluate;
#[cfg(feature = "files")]
pub mod folder;
#[cfg(feature = "files")]
mod found;
pub mod inspect;
mod keeper;
pub mod metrics;
#[cfg(test)]
mod plan_tests;
#[cfg(feature = "plot")]
pub mod plot;
pub mod presets;
mod recover;
mod reports;
#[cfg(feature = "files")]
pub mod run;
#[cfg(feature = "files")]
pub mod saved;
pub mod schedule;
pub mod slices;
pub mod step_clock;
mod steps;
mod taps;
pub mod trainer;

pub use config::{RunConfig, TrainConfig};
pub use evaluate::{Evaluation, evaluate};
pub use keeper::KeptState;
pub use reports::StepReport;
#[cfg(feature = "files")]
pub use saved::{RunFiles, Trained, save_run};
pub use steps::Batch;
pub use taps::AttentionAt;
pub use trainer::{Snapshot, Trainer};
