// One or two subgroups of a GPU.
const LANES: u32 = 64u;
