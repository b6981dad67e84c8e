//! token_embedding.learned, .sinusoidal

use wgpt::low_level::ops::cursor::Cursor;
use wgpt::low_level::ops::position::{MAX_POSITIONS, frequencies};
use wgpt::low_level::ops::token_embedding::{Positions, TokenEmbedding};
use wgpt::low_level::reference::token_embedding as twin;

use crate::harness::{Trial, dyadic};

/// Exact in f32, like all products and sums of a trial with learned positions.
const SCALE: f64 = 1.5;

/// Rows from `position` of a context, with a table split in parts; the second id is out of range.
fn trial(learned: bool, rows: usize, parts: &[usize], cols: usize, position: usize, context: usize) {
    let mut t = Trial::new(format!("token_embedding {learned} {rows} rows of {parts:?}x{cols} at {position}"));
    let vocab: usize = parts.iter().sum();
    let ids: Vec<u32> = (0..rows as u32).map(|r| if r == 1 { u32::MAX } else { r.wrapping_mul(2_654_435_761) % vocab as u32 }).collect();
    let (table, positions) = (dyadic(vocab * cols, 1, 256.0), dyadic(if learned { context * cols } else { 0 }, 2, 256.0));
    let tcursor = t.cursor("cursor", Cursor { position: position as u32, rows: rows as u32, ..Cursor::default() });
    let tids = t.words("ids", &[rows], &ids);
    let mut first = 0;
    let mut ttable = vec![];
    for (p, &part) in parts.iter().enumerate() {
        ttable.push(t.input(&format!("table {p}"), &[part, cols], &table[first * cols..(first + part) * cols]));
        first += part;
    }
    let ty = t.output("y", &[rows, cols]);
    let embedding = TokenEmbedding::new();
    if learned {
        let tpositions = t.input("positions", &[context, cols], &positions);
        embedding.forward(&mut t.plan, &tcursor, &tids, &ttable, SCALE as f32, Positions::Learned(&tpositions), &ty);
        t.expect(&ty, &twin::learned(&ids, &table, &positions, position, cols, SCALE), 0.0, 0.0);
    } else {
        let tfrequencies = t.words("frequencies", &[cols], &frequencies(cols));
        embedding.forward(&mut t.plan, &tcursor, &tids, &ttable, SCALE as f32, Positions::Sinusoidal(&tfrequencies, context), &ty);
        t.expect(&ty, &twin::sinusoidal(&ids, &table, position, cols, SCALE), 2e-6, 0.0);
    }
    t.run();
}

#[test]
fn odd_sizes_and_places() {
    for learned in [true, false] {
        trial(learned, 1, &[1], 4, 0, 1);
        trial(learned, 5, &[7], 68, 3, 8);
        trial(learned, 65, &[13, 1, 5], 12, 61, 200);
    }
    trial(false, 3, &[5], 8, MAX_POSITIONS - 3, MAX_POSITIONS);
}

#[test]
fn more_rows_than_65_535() {
    trial(true, 65_540, &[100, 57], 4, 1, 65_541);
}
