//! Looks up a row of a table for every id.
//!
//! ```text
//! y[row]        = scale · table[ids[row]]
//! dtable[entry] = scale · Σ over rows with ids[row] = entry of dy[row]
//! ```
//!
//! Ids are data and not trusted: an id out of range reads zeros and adds nothing, in the twin as in the shader.

/// `ids` (rows), `table` (table_rows, cols) -> `y` (rows, cols).
pub fn forward(ids: &[u32], table: &[f64], cols: usize, scale: f64) -> Vec<f64> {
    let table_rows = table.len() / cols;
    let mut y = vec![0.0; ids.len() * cols];
    for row in 0..ids.len() {
        let id = ids[row] as usize;
        if id < table_rows {
            for col in 0..cols {
                y[row * cols + col] = scale * table[id * cols + col];
            }
        }
    }
    y
}

/// `ids` (rows), `dy` (rows, cols) -> `dtable` (table_rows, cols).
pub fn backward(ids: &[u32], dy: &[f64], table_rows: usize, cols: usize, scale: f64) -> Vec<f64> {
    let mut dtable = vec![0.0; table_rows * cols];
    for row in 0..ids.len() {
        let id = ids[row] as usize;
        if id < table_rows {
            for col in 0..cols {
                dtable[id * cols + col] += scale * dy[row * cols + col];
            }
        }
    }
    dtable
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    #[test]
    fn finite_differences_prove_the_twins_backward() {
        // Entry 3 is read three times, entry 1 never, and two ids are out of range.
        let (table_rows, cols, ids) = (5, 3, [3, 0, 3, 4, 5, 2, 3, u32::MAX]);
        let (table, dy) = (noise(table_rows * cols, 1), noise(ids.len() * cols, 2));
        let want = gradient(|table| weighted_sum(&dy, &forward(&ids, table, cols, 1.7)), &table);
        assert_close("embedding.backward dtable", &backward(&ids, &dy, table_rows, cols, 1.7), &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn an_id_beyond_the_table_reads_zeros() {
        assert_eq!(forward(&[1, 2], &[1.0, 2.0, 3.0, 4.0], 2, 1.0), [3.0, 4.0, 0.0, 0.0]);
    }
}
