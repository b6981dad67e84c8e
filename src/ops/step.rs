//! The host's mirrors of the blocks of every step: [`Step`], which the host writes, and [`State`], which the device updates.

/// The parameters of one micro-batch; mirrors `Step` of shaders/shared/step.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// Factor on the update of the weights; the trainer takes it from the schedule.
    pub learning_rate: f32,
    /// 1 / number of real targets in the whole step.
    pub target_scale: f32,
    /// Seed of the dropout masks of this step.
    pub seed: u32,
    /// Elements whose random number is below this are dropped: p · 2³².
    pub drop_below: u32,
    /// 1 / (1 − p).
    pub keep_scale: f32,
    /// Index in the step of this micro-batch's first sample.
    pub first_sample: u32,
    /// Index of the record that receives the results.
    pub record: u32,
    /// 1 in the first micro-batch of a step.
    pub fresh: u32,
}

impl Step {
    /// Words of the block.
    pub const WORDS: usize = size_of::<Step>() / 4;

    /// Sets dropout with probability `p` in [0, 1).
    pub fn with_dropout(self, p: f64) -> Step {
        Step { drop_below: (p * 4_294_967_296.0) as u32, keep_scale: (1.0 / (1.0 - p)) as f32, ..self }
    }
}

/// State that the device alone updates between steps; mirrors `State` of shaders/shared/state.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable, serde::Serialize, serde::Deserialize)]
pub struct State {
    /// Optimizer steps applied.
    pub updates: u32,
    /// Steps whose loss or gradient was not finite.
    pub skipped: u32,
    /// 1 if the last step's gradients were applied.
    pub apply: u32,
    /// Factor on the gradients of the last step.
    pub clip: f32,
    /// Factor on the loss, and so on all gradients, of the next step: a power of two. Checkpoints from before it have 1.
    #[serde(default = "unscaled")]
    pub loss_scale: f32,
    /// Updates since the loss scale last changed or was last too large.
    #[serde(default)]
    pub good: u32,
}

fn unscaled() -> f32 {
    State::default().loss_scale
}

impl Default for State {
    /// Before the first step, with a loss that is not scaled.
    fn default() -> State {
        State { updates: 0, skipped: 0, apply: 0, clip: 0.0, loss_scale: 1.0, good: 0 }
    }
}

impl State {
    /// Words of the block.
    pub const WORDS: usize = size_of::<State>() / 4;
}
