//! cached_attention.append, .forward, .token

use wgpt::low_level::ops::cached_attention::{Cache, CachedAttention};
use wgpt::low_level::ops::cursor::Cursor;
use wgpt::low_level::reference::cached_attention as twin;

use crate::harness::{POISON, Trial, bits, noise};

/// A pass of `rows` rows, `real` of them tokens, at `position` of a context.
struct Pass {
    rows: usize,
    real: usize,
    position: usize,
    context: usize,
    heads: usize,
}

fn trial(head_size: usize, pass: Pass) {
    let Pass { rows, real, position, context, heads } = pass;
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
    t.run();
}

#[test]
fn one_token_at_odd_places() {
    for (head_size, heads, position) in [(4, 1, 0), (4, 3, 62), (20, 3, 63), (20, 1, 64), (64, 3, 199)] {
        trial(head_size, Pass { rows: 1, real: 1, position, context: position + 1 + heads, heads });
    }
    trial(132, Pass { rows: 1, real: 1, position: 70, context: 71, heads: 2 });
}

#[test]
fn chunks_of_a_prompt_with_padding() {
    for (head_size, heads, rows, real, position) in [(4, 3, 2, 1, 0), (4, 1, 65, 65, 0), (20, 3, 7, 5, 60), (64, 2, 33, 31, 129)] {
        trial(head_size, Pass { rows, real, position, context: position + real, heads });
    }
}

/// A pass without tokens reads and writes nothing, even if its rows do not fit the context.
#[test]
fn no_rows_and_no_room() {
    trial(4, Pass { rows: 1, real: 0, position: 5, context: 6, heads: 3 });
    trial(4, Pass { rows: 3, real: 0, position: 5, context: 6, heads: 3 });
}

#[test]
fn a_context_of_65_536() {
    trial(4, Pass { rows: 1, real: 1, position: 65_535, context: 65_536, heads: 1 });
}
