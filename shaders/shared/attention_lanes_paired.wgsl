// Lanes and teams of attention_blocks.wgsl in pairs: invocations that differ in bit 0 share a team, those that differ in bit 1 share a lane.
// NVIDIA says of compute capability 7.x that a read of 16 bytes takes 2 clocks, not 4, where all pairs that differ in one of these bits read
// the same address: 16 invocations are then served at a time, not 8.

fn lane_of(local: u32) -> u32 {
    return (local & 1u) | ((local >> 1u) & 6u);
}

fn team_of(local: u32) -> u32 {
    return ((local >> 1u) & 1u) | ((local >> 3u) & 14u);
}
