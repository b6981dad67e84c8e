//! cached_attention.append, .forward, .token

use crate::ops::cached_attention::{Cache, CachedAttention};
use crate::ops::cursor::Cursor;
use crate::reference::cached_attention as twin;

use super::trial::{Checked, Checker, POISON, Trial, bits, noise};

/// A pass of `rows` rows, `real` of them tokens, at `position` of a context.
struct CachedPass {
    rows: usize,
    real: usize,
    position: usize,
    context: usize,
    heads: usize,
}

fn trial(head_size: usize, pass: CachedPass) -> Trial {
    let CachedPass { rows, real, position, context, heads } = pass;
    let width = heads * head_size;
    let mut t = Trial::new(format!("cached_attention {real} of {rows} rows at {position} of {context}, H {heads} D {head_size}"));
    let qkv: Vec<f64> = noise(rows * 3 * width, 1).iter().map(|x| 2.0 * x).collect();
    let (mut keys, mut values) = (noise(context * width, 2), noise(context * width, 3));
    let tcursor = t.cursor("cursor", Cursor { position: position as u32, rows: real as u32, ..Cursor::default() });
    let tqkv = t.input("qkv", &[rows, 3 * width], &qkv);
    let cache = Cache { keys: t.input("keys", &[context, width], &keys), values: t.input("values", &[context, width], &values) };
    let ty = t.output("y", &[rows, width]);
    CachedAttention::new(head_size).forward(&mut t.plan, &tcursor, &tqkv, &cache, &ty);
    let y = twin::forward(&qkv[..real * 3 * width], &mut keys, &mut values, position, heads, head_size);
    t.expect_part(&ty, 0, &y, 1e-5, 1e-5);
    t.expect_words(&ty, real * width, &vec![POISON; (rows - real) * width]);
    t.expect_words(&cache.keys, 0, &bits(&keys));
    t.expect_words(&cache.values, 0, &bits(&values));
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(20, CachedPass { rows: 7, real: 5, position: 60, context: 65, heads: 3 }))?;
    c.check_defaults(trial(64, CachedPass { rows: 1, real: 1, position: 199, context: 203, heads: 3 }))
}

pub fn one_token_at_odd_places(c: &mut Checker) -> Checked {
    for (head_size, heads, position) in [(4, 1, 0), (4, 3, 62), (20, 3, 63), (20, 1, 64), (64, 3, 199)] {
        c.check(trial(head_size, CachedPass { rows: 1, real: 1, position, context: position + 1 + heads, heads }))?;
    }
    c.check(trial(132, CachedPass { rows: 1, real: 1, position: 70, context: 71, heads: 2 }))
}

pub fn chunks_of_a_prompt_with_padding(c: &mut Checker) -> Checked {
    for (head_size, heads, rows, real, position) in [(4, 3, 2, 1, 0), (4, 1, 65, 65, 0), (20, 3, 7, 5, 60), (64, 2, 33, 31, 129)] {
        c.check(trial(head_size, CachedPass { rows, real, position, context: position + real, heads }))?;
    }
    Ok(())
}

/// A pass without tokens reads and writes nothing, even if its rows do not fit the context.
pub fn no_rows_and_no_room(c: &mut Checker) -> Checked {
    c.check(trial(4, CachedPass { rows: 1, real: 0, position: 5, context: 6, heads: 3 }))?;
    c.check(trial(4, CachedPass { rows: 3, real: 0, position: 5, context: 6, heads: 3 }))
}

pub fn a_context_of_65_536(c: &mut Checker) -> Checked {
    c.check(trial(4, CachedPass { rows: 1, real: 1, position: 65_535, context: 65_536, heads: 1 }))
}
