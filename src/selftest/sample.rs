//! sample.draw

use crate::ops::cursor::Cursor;
use crate::ops::sample::{RING, Sample, allowed};
use crate::reference::sample::{Draw, draw, uniform};

use super::trial::{Checked, Checker, POISON, Trial, noise};

/// Draws once from `logits` without the ids in `never`; the twin's choice must not depend on rounding.
fn trial(logits: &[f64], never: &[u32], cursor: Cursor) -> Trial {
    let vocab = logits.len();
    let mut t = Trial::new(format!("sample.draw {vocab} ids, {never:?} never, {cursor:?}"));
    let how = Draw {
        sharpness: f64::from(cursor.sharpness),
        top_k: cursor.top_k as usize,
        top_p: f64::from(cursor.top_p),
        u: uniform(cursor.drawn, cursor.seed_high, cursor.seed),
    };
    let want = draw(logits, &|id| !never.contains(&(id as u32)), how);
    assert!(want.border > 1e-6 && want.cut > 1e-6, "{cursor:?} hangs on rounding: {want:?}");
    let tlogits = t.input("logits", &[1, vocab], logits);
    let tallowed = t.words("allowed", &[vocab.div_ceil(32)], &allowed(vocab, never));
    let tcursor = t.cursor("cursor", cursor);
    let (tids, tring) = (t.words("ids", &[3], &[9, 8, 7]), t.words("ring", &[RING], &[POISON; RING]));
    Sample::new().draw(&mut t.plan, vocab, &tlogits, &tallowed, &tcursor, &tids, &tring);
    let after = Cursor { position: cursor.position + cursor.rows, rows: 1, drawn: cursor.drawn + 1, ..cursor };
    t.expect_words(&tcursor, 0, bytemuck::cast_slice(&[after]));
    t.expect_words(&tids, 0, &[want.id as u32, 8, 7]);
    let mut ring = [POISON; RING];
    ring[cursor.drawn as usize % RING] = want.id as u32;
    t.expect_words(&tring, 0, &ring);
    t
}

pub const PLAIN: Cursor =
    Cursor { position: 5, rows: 3, drawn: 0, failed: 0, seed: 11, top_k: 0, top_p: 1.0, sharpness: 1.0, seed_high: 0 };

fn logits(vocab: usize, seed: u32) -> Vec<f64> {
    noise(vocab, seed).iter().map(|x| 5.0 * x).collect()
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(&logits(255, 1), &[], Cursor { sharpness: 0.0, ..PLAIN }))?;
    c.check(trial(&logits(255, 2), &[], Cursor { drawn: 70, ..PLAIN }))?;
    c.check(trial(&logits(255, 4), &[3], Cursor { top_k: 13, ..PLAIN }))?;
    c.check(trial(&logits(255, 5), &[3], Cursor { top_p: 0.7, top_k: 40, sharpness: 0.7, ..PLAIN }))
}

pub fn the_likeliest(c: &mut Checker) -> Checked {
    for vocab in [1, 7, 33, 255, 1003] {
        c.check(trial(&logits(vocab, 1), &[], Cursor { sharpness: 0.0, ..PLAIN }))?;
    }
    // Of equal logits the lowest allowed id is first.
    let equal = [1.0, 3.0, -2.0, 3.0, 3.0, 0.0];
    c.check(trial(&equal, &[], Cursor { sharpness: 0.0, drawn: 200, ..PLAIN }))?;
    c.check(trial(&equal, &[0, 1], Cursor { sharpness: 0.0, ..PLAIN }))?;
    c.check(trial(&[-1e30, -3e38, -2.5e-30], &[2], Cursor { sharpness: 0.0, ..PLAIN }))
}

pub fn among_all(c: &mut Checker) -> Checked {
    for (vocab, drawn) in [(1, 0), (7, 1), (33, 2), (255, 70), (1003, 4)] {
        c.check(trial(&logits(vocab, 2), &[], Cursor { drawn, ..PLAIN }))?;
        c.check(trial(&logits(vocab, 2), &[], Cursor { drawn, sharpness: 0.1, ..PLAIN }))?;
        c.check(trial(&logits(vocab, 2), &[], Cursor { drawn, sharpness: 1e30, ..PLAIN }))?;
        c.check(trial(&logits(vocab, 2), &[], Cursor { drawn, seed_high: 1 + drawn, ..PLAIN }))?;
    }
    c.check(trial(&logits(40, 3), &(1..38).collect::<Vec<u32>>(), PLAIN))
}

pub fn among_the_k_likeliest(c: &mut Checker) -> Checked {
    for (vocab, top_k) in [(7, 1), (7, 6), (7, 7), (33, 40), (255, 13), (1003, 500)] {
        for drawn in 0..2 {
            c.check(trial(&logits(vocab, 4), &[3], Cursor { drawn, top_k, ..PLAIN }))?;
        }
    }
    Ok(())
}

pub fn among_those_that_reach_p(c: &mut Checker) -> Checked {
    for (vocab, top_p) in [(7, 0.3), (33, 0.9), (255, 0.01), (1003, 0.997)] {
        for drawn in 0..2 {
            c.check(trial(&logits(vocab, 5), &[3], Cursor { drawn, top_p, ..PLAIN }))?;
            c.check(trial(&logits(vocab, 5), &[3], Cursor { drawn, top_p, top_k: 5, sharpness: 0.7, ..PLAIN }))?;
        }
    }
    Ok(())
}

/// Cuts within equal logits: the lowest ids are kept.
pub fn cuts_among_equals(c: &mut Checker) -> Checked {
    let steps: Vec<f64> = logits(301, 6).iter().map(|x| x.round() / 4.0).collect();
    for drawn in 0..2 {
        for top_k in [1, 60, 299] {
            c.check(trial(&steps, &[7], Cursor { drawn, top_k, ..PLAIN }))?;
        }
        for top_p in [0.011, 0.457, 0.891] {
            c.check(trial(&steps, &[7], Cursor { drawn, top_p, ..PLAIN }))?;
        }
        c.check(trial(&[0.25; 77], &[0, 9], Cursor { drawn, top_k: 10, top_p: 0.507, ..PLAIN }))?;
    }
    Ok(())
}

pub fn more_ids_than_65_536(c: &mut Checker) -> Checked {
    let mut many = logits(65_543, 7);
    many[65_541] = 9.0;
    c.check(trial(&many, &[], Cursor { sharpness: 0.0, ..PLAIN }))?;
    c.check(trial(&many, &[65_541], Cursor { top_k: 40, sharpness: 300.0, ..PLAIN }))?;
    c.check(trial(&many, &[], Cursor { top_k: 70, sharpness: 40.0, ..PLAIN }))
}

/// A logit that is not finite sets `failed` once, and nothing is drawn after that.
pub fn logits_that_are_not_finite(c: &mut Checker) -> Checked {
    for (bad, id) in [(f64::NAN, 0), (f64::INFINITY, 13), (f64::NEG_INFINITY, 32)] {
        for sharpness in [0.0, 1.0] {
            let mut t = Trial::new(format!("sample.draw with {bad} at {id}"));
            let mut broken = logits(33, 8);
            broken[id] = bad;
            broken[32] = bad;
            let cursor = Cursor { sharpness, ..PLAIN };
            let tlogits = t.input("logits", &[1, 33], &broken);
            let tallowed = t.words("allowed", &[2], &allowed(33, &[]));
            let tcursor = t.cursor("cursor", cursor);
            let (tids, tring) = (t.words("ids", &[1], &[9]), t.words("ring", &[RING], &[POISON; RING]));
            for _ in 0..2 {
                Sample::new().draw(&mut t.plan, 33, &tlogits, &tallowed, &tcursor, &tids, &tring);
            }
            t.expect_words(&tcursor, 0, bytemuck::cast_slice(&[Cursor { failed: id as u32 + 1, ..cursor }]));
            t.expect_words(&tids, 0, &[9]);
            t.expect_words(&tring, 0, &[POISON; RING]);
            c.check(t)?;
        }
    }
    Ok(())
}
