// The state of decoding and its sampling settings. Mirrored by `ops::cursor::Cursor`: the host writes it before a prefill, `sample.draw`
// advances it, so that many tokens can be encoded ahead.

struct Cursor {
    position: u32, //  place in the context of this pass's first row: the number of tokens that the caches hold
    rows: u32, //      rows of this pass that are tokens; the rest is padding
    drawn: u32, //     tokens drawn so far in this sequence: the counter of random numbers
    failed: u32, //    0, or 1 + the first id whose logit was not finite; then nothing is drawn any more
    seed: u32, //      the seed's lower half
    top_k: u32, //     0 for all
    top_p: f32, //     1 for all
    sharpness: f32, // 1 / temperature; 0 takes the likeliest
    seed_high: u32, // the seed's upper half
}
