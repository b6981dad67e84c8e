//! The host's view of the block that says where decoding stands.

/// Where decoding stands and how tokens are drawn; mirrors `Cursor` of shaders/shared/cursor.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Cursor {
    /// Place in the context of the next pass's first row: the number of tokens that the caches hold.
    pub position: u32,
    /// Rows of the pass that are tokens.
    pub rows: u32,
    /// Tokens drawn so far in this sequence.
    pub drawn: u32,
    /// 0, or 1 + the first id whose logit was not finite.
    pub failed: u32,
    /// The seed's lower half.
    pub seed: u32,
    /// Only the k likeliest; 0 for all.
    pub top_k: u32,
    /// Only the likeliest that together reach this probability; 1 for all.
    pub top_p: f32,
    /// 1 / temperature; 0 takes the likeliest.
    pub sharpness: f32,
    /// The seed's upper half, the stream of random numbers.
    pub seed_high: u32,
}

impl Cursor {
    /// Words of the block.
    pub const WORDS: usize = size_of::<Cursor>() / 4;
}
