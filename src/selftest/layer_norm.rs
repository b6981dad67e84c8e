//! layer_norm.forward, .backward, .backward_add, .backward_weight, .finish, .finish_bias

use crate::gpu::tensor::Dtype;
use crate::ops::STORAGES;
use crate::ops::layer_norm::LayerNorm;
use crate::reference::layer_norm as twin;

use super::trial::{Checked, Checker, Trial, noise, plus, relative, stored};

const EPS: f64 = 1e-5;

pub fn trial(rows: usize, cols: usize, with_bias: bool, dtype: Dtype) -> Trial {
    let layer_norm = LayerNorm::new(dtype);
    let mut t = Trial::new(format!("layer_norm {rows}x{cols} bias {with_bias} {dtype:?}"));
    let (x, weight, bias, dy) = (noise(rows * cols, 1), noise(cols, 2), noise(cols, 3), noise(rows * cols, 4));
    let (start, dweight_start, dbias_start) = (noise(rows * cols, 5), noise(cols, 6), noise(cols, 7));
    let [x, dy, start] = [x, dy, start].map(|data| stored(&data, dtype));
    let given_bias = with_bias.then_some(bias.as_slice());
    let (y, mean, rstd) = twin::forward(&x, &weight, given_bias, rows, cols, EPS);
    let (dx, dweight, dbias) = twin::backward(&dy, &x, &weight, &mean, &rstd, rows, cols);

    let tx = t.activation("x", &[rows, cols], dtype, &x);
    let tweight = t.input("weight", &[cols], &weight);
    let tbias = t.input("bias", &[cols], &bias);
    let tdy = t.activation("dy", &[rows, cols], dtype, &dy);
    let ty = t.activation_output("y", &[rows, cols], dtype);
    let tmoments = t.output("moments", &[rows, 2]);
    let tdx = t.activation_output("dx", &[rows, cols], dtype);
    let tdx_added = t.activation("dx_added", &[rows, cols], dtype, &start);
    let tdweight = t.input("dweight", &[cols], &dweight_start);
    let tdbias = t.input("dbias", &[cols], &dbias_start);
    layer_norm.forward(&mut t.plan, &tx, &tweight, with_bias.then_some(&tbias), &ty, &tmoments);
    layer_norm.backward(&mut t.plan, &tdy, &tx, &tweight, &tmoments, &tdx, false);
    layer_norm.backward(&mut t.plan, &tdy, &tx, &tweight, &tmoments, &tdx_added, true);
    layer_norm.backward_weight(&mut t.plan, &tdy, &tx, &tmoments, &tdweight, with_bias.then_some(&tdbias));

    let wide = (rows as f64).sqrt();
    t.expect(&ty, &y, 2e-5, relative(dtype, 2e-5));
    t.expect(&tdx, &dx, 2e-4, relative(dtype, 2e-4));
    t.expect(&tdx_added, &plus(&start, &dx), 2e-4, relative(dtype, 2e-4));
    t.expect(&tdweight, &plus(&dweight_start, &dweight), 2e-5 * wide, 2e-5);
    let want_dbias = if with_bias { plus(&dbias_start, &dbias) } else { dbias_start };
    t.expect(&tdbias, &want_dbias, 2e-5 * wide, 2e-5);
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(65, 68, true, Dtype::F32))?;
    c.check(trial(130, 260, false, Dtype::F32))?;
    for dtype in STORAGES.into_iter().filter(|dtype| *dtype != Dtype::F32) {
        c.check_defaults(trial(65, 68, true, dtype))?;
    }
    Ok(())
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for (rows, cols) in [(1, 4), (1, 60), (63, 68), (65, 8), (199, 64), (130, 260)] {
        for dtype in STORAGES {
            c.check(trial(rows, cols, true, dtype))?;
            c.check(trial(rows, cols, false, dtype))?;
        }
    }
    Ok(())
}

pub fn more_rows_than_one_grid_has(c: &mut Checker) -> Checked {
    c.check(trial(65_537, 4, true, Dtype::F32))
}

pub fn a_sum_of_more_than_65_536(c: &mut Checker) -> Checked {
    c.check(trial(2, 65_544, true, Dtype::F32))
}
