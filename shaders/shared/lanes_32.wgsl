// One subgroup of most GPUs.
const LANES: u32 = 32u;
