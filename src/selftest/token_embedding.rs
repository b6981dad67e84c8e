//! token_embedding.learned, .sinusoidal

use crate::ops::cursor::Cursor;
use crate::ops::position::{MAX_POSITIONS, frequencies};
use crate::ops::token_embedding::{Positions, TokenEmbedding};
use crate::reference::token_embedding as twin;

use super::trial::{Checked, Checker, Trial, dyadic};

/// Exact in f32, like all products and sums of a trial with learned positions.
const SCALE: f64 = 1.5;

/// Rows from `position` of a context, with a table split in parts; the second id is out of range.
fn trial(learned: bool, rows: usize, parts: &[usize], cols: usize, position: usize, context: usize) -> Trial {
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
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(true, 65, &[13, 1, 5], 12, 61, 200))?;
    c.check(trial(false, 65, &[13, 1, 5], 12, 61, 200))
}

pub fn odd_sizes_and_places(c: &mut Checker) -> Checked {
    for learned in [true, false] {
        c.check(trial(learned, 1, &[1], 4, 0, 1))?;
        c.check(trial(learned, 5, &[7], 68, 3, 8))?;
        c.check(trial(learned, 65, &[13, 1, 5], 12, 61, 200))?;
    }
    c.check(trial(false, 3, &[5], 8, MAX_POSITIONS - 3, MAX_POSITIONS))
}

pub fn more_rows_than_65_535(c: &mut Checker) -> Checked {
    c.check(trial(true, 65_540, &[100, 57], 4, 1, 65_541))
}
