// Lanes and teams of attention_blocks.wgsl in pairs: invocations that differ in bit 0 share a team, those that
// differ in bit 1 share a lane. NVIDIA's cards serve a read of 16 bytes for 8 invocations at a time, but for 16 where all pairs that differ
// in one of these bits read the same address; then a read takes 2 clocks, not 4.

fn lane_of(local: u32) -> u32 {
    return (local & 1u) | ((local >> 1u) & 6u);
}

fn team_of(local: u32) -> u32 {
    return ((local >> 1u) & 1u) | ((local >> 3u) & 14u);
}
