// Lanes and teams of attention_blocks.wgsl in the order of the invocations.

const OWN_LINE: u32 = 4u * CHUNK;
const WEIGHT_LINE: u32 = TEAMS + 1u;

fn lane_of(local: u32) -> u32 {
    return local % LANES;
}

fn team_of(local: u32) -> u32 {
    return local / LANES;
}
