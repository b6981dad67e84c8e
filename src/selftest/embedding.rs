//! embedding.forward, .backward

use crate::gpu::tensor::Dtype;
use crate::ops::STORAGES;
use crate::ops::embedding::Embedding;
use crate::reference::dropout::random_u32;
use crate::reference::embedding as twin;

use super::trial::{Checked, Checker, Trial, dyadic, plus, stored};

/// Exact in f32, like all products and sums of a trial.
const SCALE: f64 = 1.5;

pub fn trial(c: &mut Checker, name: &str, ids: &[u32], parts: &[usize], cols: usize) -> Checked {
    for dtype in STORAGES {
        c.check(stored_trial(name, ids, parts, cols, dtype))?;
    }
    Ok(())
}

/// A table split in parts with these numbers of rows. All sums are exact in f32.
fn stored_trial(name: &str, ids: &[u32], parts: &[usize], cols: usize, dtype: Dtype) -> Trial {
    let embedding = Embedding::new(dtype);
    let (rows, table_rows) = (ids.len(), parts.iter().sum::<usize>());
    let mut t = Trial::new(format!("embedding {name}: {rows} rows of {table_rows}x{cols} in {} parts {dtype:?}", parts.len()));
    let (table, dy, start) = (dyadic(table_rows * cols, 1, 256.0), dyadic(rows * cols, 2, 256.0), dyadic(table_rows * cols, 3, 256.0));
    let mut order: Vec<u32> = (0..rows as u32).collect();
    order.sort_by_key(|&row| ids[row as usize]);
    let tids = t.words("ids", &[rows], ids);
    let torder = t.words("order", &[rows], &order);
    let tdy = t.activation("dy", &[rows, cols], dtype, &dy);
    let ty = t.activation_output("y", &[rows, cols], dtype);
    let (mut ttable, mut tdtable, mut first) = (vec![], vec![], 0);
    let dtable = plus(&start, &twin::backward(ids, &dy, table_rows, cols, SCALE));
    for (p, &part_rows) in parts.iter().enumerate() {
        let part = first * cols..(first + part_rows) * cols;
        ttable.push(t.input(&format!("table {p}"), &[part_rows, cols], &table[part.clone()]));
        let tpart = t.input(&format!("dtable {p}"), &[part_rows, cols], &start[part.clone()]);
        t.expect(&tpart, &dtable[part], 0.0, 0.0);
        tdtable.push(tpart);
        first += part_rows;
    }
    embedding.forward(&mut t.plan, &tids, &ttable, SCALE as f32, &ty);
    embedding.backward(&mut t.plan, &tids, &torder, &tdy, SCALE as f32, &tdtable);
    t.expect(&ty, &stored(&twin::forward(ids, &table, cols, SCALE), dtype), 0.0, 0.0);
    t
}

/// Valid ids and, every ninth, one out of range.
pub fn ids(rows: usize, table_rows: u32) -> Vec<u32> {
    let id = |r: u32| match r % 27 {
        8 => table_rows,
        17 => u32::MAX,
        26 => 0x8000_0000,
        _ => random_u32(r.into(), 1, 2) % table_rows,
    };
    (0..rows as u32).map(id).collect()
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    tables_in_parts(c)
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for (rows, table_rows, cols) in [(1, 1, 4), (63, 7, 68), (65, 200, 60), (199, 13, 132)] {
        trial(c, "odd sizes", &ids(rows, table_rows as u32), &[table_rows], cols)?;
    }
    Ok(())
}

pub fn tables_in_parts(c: &mut Checker) -> Checked {
    trial(c, "parts", &ids(199, 41), &[17, 1, 23], 68)?;
    trial(c, "parts", &ids(65, 3), &[1, 1, 1], 4)
}

pub fn only_foreign_ids(c: &mut Checker) -> Checked {
    trial(c, "foreign", &[9, 10, u32::MAX], &[4, 5], 4)
}

pub fn more_rows_than_65_535(c: &mut Checker) -> Checked {
    trial(c, "many rows", &ids(65_543, 1000), &[600, 400], 4)
}

pub fn a_run_of_more_than_65_536(c: &mut Checker) -> Checked {
    let mut long = vec![2; 65_600];
    long[7] = 1;
    long[40_000] = 4;
    long[65_599] = 0;
    trial(c, "one id", &long, &[3, 2], 4)?;
    trial(c, "one id to the end", &vec![0; 131_101], &[1], 4)
}
