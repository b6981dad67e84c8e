// Lines of attention_blocks.wgsl for attention_lanes_paired.wgsl, where 16 neighbouring invocations are of two teams.

const OWN_LINE: u32 = 4u * CHUNK + 1u;
const WEIGHT_LINE: u32 = TEAMS + 2u;
