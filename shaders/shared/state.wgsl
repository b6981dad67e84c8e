// State that only the device updates between steps; part of every checkpoint. Mirrored by `ops::step::State`.

struct State {
    updates: u32, //   optimizer steps applied, for AdamW's bias correction
    skipped: u32, //   steps whose loss or gradient was not finite
    apply: u32, //     1 if this step's gradients may be applied
    clip: f32, //      factor on the gradients of this step
    loss_scale: f32, // factor on the loss and so on all gradients of the next step; a power of two; 1 unless activations are f16
    good: u32, //      updates since the loss scale last changed or was last too large
}
