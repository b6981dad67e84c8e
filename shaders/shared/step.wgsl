// The host's parameters of one micro-batch of one training step. Mirrored by `ops::step::Step`.

struct Step {
    learning_rate: f32,
    target_scale: f32, // 1 / number of real targets in the whole step
    seed: u32, //         of the dropout of this step
    drop_below: u32, //   an element whose random number is below is dropped: p · 2³²; 0 for none
    keep_scale: f32, //   1 / (1 − p)
    first_sample: u32, // index in the step of this micro-batch's first sample
    record: u32, //       row of the records that this step's results go to
    fresh: u32, //        1 in the first micro-batch of a step, which overwrites that row
}
