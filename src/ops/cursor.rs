//! The host's mirror of the block with the state of decoding.

/// The position in the context and the sampling settings; mirrors `Cursor` of shaders/shared/cursor.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Cursor {
    /// Position in the context of the next pass's first row: the number of tokens in the caches.
    pub position: u32,
    /// Rows of the pass that hold tokens.
    pub rows: u32,
    /// Tokens drawn so far in this sequence.
    pub drawn: u32,
    /// 0, or 1 + the first id whose logit was not finite.
    pub failed: u32,
    /// The seed's lower half.
    pub seed: u32,
    /// Sample from the k likeliest only; 0 for all.
    pub top_k: u32,
    /// Sample from the fewest likeliest that together reach this probability; 1 for all.
    pub top_p: f32,
    /// 1 / temperature; 0 selects the likeliest.
    pub sharpness: f32,
    /// The seed's upper half, used as the random stream.
    pub seed_high: u32,
}

impl Cursor {
    /// Words of the block.
    pub const WORDS: usize = size_of::<Cursor>() / 4;
}
