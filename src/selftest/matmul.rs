//! matmul.forward, .forward_bias, .forward_activate, .forward_residual, .backward_input, .backward_input_add, .backward_input_activate,
//! .backward_weight, .backward_weight_bias, .backward_weight_range, .backward_weight_bias_range

use crate::gpu::tensor::Dtype;
use crate::ops::STORAGES;
use crate::ops::matmul::{Activation, Block, Drop, Matmul};
use crate::ops::step::Step;
use crate::reference::{dropout, matmul as twin};

use super::trial::{Checked, Checker, Trial, noise, plus, relative, stored};

/// Ranges of rows that a weight's gradient is summed in, where there are more rows than 64.
const RANGES: usize = 3;

/// The rounding error of a sum of n products with random signs grows with √n.
fn tolerance(n: usize) -> f64 {
    2e-6 * (n as f64).sqrt() + 1e-6
}

/// Rows of `cols` columns, padded to whole quads with `fill`(row).
fn padded(data: &[f64], cols: usize, fill: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let pad = |row: &[f64]| [row, &vec![fill(row); cols.next_multiple_of(4) - cols]].concat();
    data.chunks(cols).flat_map(pad).collect()
}

/// y (rows, cols) from an inner size that is a multiple of 4; cols may be any number, as a vocabulary may.
pub fn linear(rows: usize, inner: usize, cols: usize, dtype: Dtype) -> Trial {
    let matmul = Matmul::new(dtype);
    let mut t = Trial::new(format!("matmul {rows}x{inner}x{cols} {dtype:?}"));
    let wide = cols.next_multiple_of(4);
    let (x, weight, dy) = (noise(rows * inner, 1), noise(cols * inner, 2), noise(rows * cols, 4));
    let (dx_start, dweight_start) = (noise(rows * inner, 5), noise(cols * inner, 6));
    let [x, weight, dy, dx_start] = [x, weight, dy, dx_start].map(|data| stored(&data, dtype));
    let rel = relative(dtype, 1e-5);
    let tx = t.activation("x", &[rows, inner], dtype, &x);
    let tweight = t.activation("weight", &[cols, inner], dtype, &weight);
    // The contents of dy's padding must not matter.
    let tdy = t.activation("dy", &[rows, wide], dtype, &padded(&dy, cols, |_| f64::NAN));
    let ty = t.activation_output("y", &[rows, wide], dtype);
    let tdx = t.activation_output("dx", &[rows, inner], dtype);
    let tdx_added = t.activation("dx_added", &[rows, inner], dtype, &dx_start);
    let [tdweight, tdweight_too] = ["dweight", "dweight by ranges"].map(|name| t.input(name, &[cols, inner], &dweight_start));
    let whole = Block::whole;
    let columns = |tensor| Block::whole(tensor).columns(0, cols);
    matmul.forward(&mut t.plan, whole(&tx), whole(&tweight), None, columns(&ty));
    matmul.backward_input(&mut t.plan, columns(&tdy), whole(&tweight), whole(&tdx), false);
    matmul.backward_input(&mut t.plan, columns(&tdy), whole(&tweight), whole(&tdx_added), true);
    matmul.backward_weight(&mut t.plan, columns(&tdy), whole(&tx), &tdweight, None, 1);
    matmul.backward_weight(&mut t.plan, columns(&tdy), whole(&tx), &tdweight_too, None, RANGES);

    let dx = twin::backward_input(&dy, &weight, rows, inner, cols);
    let y = twin::forward(&x, &weight, None, rows, inner, cols);
    // The padding of y repeats the row's last column.
    t.expect(&ty, &padded(&y, cols, |row| row[cols - 1]), tolerance(inner), rel);
    t.expect(&tdx, &dx, tolerance(cols), rel);
    t.expect(&tdx_added, &plus(&dx_start, &dx), tolerance(cols), rel);
    let dweight = plus(&dweight_start, &twin::backward_weight(&dy, &x, rows, inner, cols));
    t.expect(&tdweight, &dweight, tolerance(rows), 1e-5);
    t.expect(&tdweight_too, &dweight, tolerance(rows), 1e-5);
    t
}

/// The two layouts of operands that a tile reads, along rows and along columns.
fn tiles(rows: usize, inner: usize, cols: usize, dtype: Dtype) -> Trial {
    let matmul = Matmul::new(dtype);
    let mut t = Trial::new(format!("matmul tiles {rows}x{inner}x{cols} {dtype:?}"));
    let [x, weight, dy] = [(rows * inner, 1), (cols * inner, 2), (rows * cols, 4)].map(|(len, seed)| stored(&noise(len, seed), dtype));
    let start = noise(cols * inner, 6);
    let wide = cols.next_multiple_of(4);
    let tx = t.activation("x", &[rows, inner], dtype, &x);
    let tweight = t.activation("weight", &[cols, inner], dtype, &weight);
    let tdy = t.activation("dy", &[rows, wide], dtype, &padded(&dy, cols, |_| f64::NAN));
    let ty = t.activation_output("y", &[rows, wide], dtype);
    let [tdweight, tdweight_too] = ["dweight", "dweight by ranges"].map(|name| t.input(name, &[cols, inner], &start));
    let columns = |tensor| Block::whole(tensor).columns(0, cols);
    matmul.forward(&mut t.plan, Block::whole(&tx), Block::whole(&tweight), None, columns(&ty));
    matmul.backward_weight(&mut t.plan, columns(&tdy), Block::whole(&tx), &tdweight, None, 1);
    matmul.backward_weight(&mut t.plan, columns(&tdy), Block::whole(&tx), &tdweight_too, None, RANGES);
    let y = twin::forward(&x, &weight, None, rows, inner, cols);
    t.expect(&ty, &padded(&y, cols, |row| row[cols - 1]), tolerance(inner), relative(dtype, 1e-5));
    let dweight = plus(&start, &twin::backward_weight(&dy, &x, rows, inner, cols));
    t.expect(&tdweight, &dweight, tolerance(rows), 1e-5);
    t.expect(&tdweight_too, &dweight, tolerance(rows), 1e-5);
    t
}

/// The fused kernels of a block's layers: all sizes but `rows` are multiples of 4.
#[allow(clippy::too_many_arguments, reason = "the sizes and options of five kernels")]
pub fn fused(rows: usize, inner: usize, cols: usize, kind: Activation, with_bias: bool, p: f64, dtype: Dtype) -> Trial {
    let matmul = Matmul::new(dtype);
    let relu = kind == Activation::Relu;
    let mut t = Trial::new(format!("matmul {rows}x{inner}x{cols} {kind:?}, bias {with_bias}, dropout {p} {dtype:?}"));
    // Dropout's counter crosses 2³² after the first rows.
    let first_sample = u32::MAX / cols as u32 - 1;
    let step = Step { seed: 77, first_sample, ..Step::default() }.with_dropout(p);
    let (x, weight, bias, dy) = (noise(rows * inner, 1), noise(cols * inner, 2), noise(cols, 3), noise(rows * cols, 4));
    let (residual, before) = (noise(rows * cols, 5), noise(rows * inner, 6));
    let (dweight_start, dbias_start) = (noise(cols * inner, 7), noise(cols, 8));
    let [x, weight, dy, residual, before] = [x, weight, dy, residual, before].map(|data| stored(&data, dtype));
    let rel = relative(dtype, 1e-5);
    let given = with_bias.then_some(bias.as_slice());

    let tstep = t.step("step", step);
    let tx = t.activation("x", &[rows, inner], dtype, &x);
    let tweight = t.activation("weight", &[cols, inner], dtype, &weight);
    let tbias = t.input("bias", &[cols], &bias);
    let tdy = t.activation("dy", &[rows, cols], dtype, &dy);
    let tresidual = t.activation("residual", &[rows, cols], dtype, &residual);
    let tbefore = t.activation("before", &[rows, inner], dtype, &before);
    let [ty, ty_active, tactivated, tsum] =
        ["y", "y of activate", "activated", "sum"].map(|name| t.activation_output(name, &[rows, cols], dtype));
    let [tdbefore, tagain] = ["dbefore", "activated again"].map(|name| t.activation_output(name, &[rows, inner], dtype));
    let [tdweight, tdweight_too] = ["dweight", "dweight by ranges"].map(|name| t.input(name, &[cols, inner], &dweight_start));
    let [tdbias, tdbias_too] = ["dbias", "dbias by ranges"].map(|name| t.input(name, &[cols], &dbias_start));
    let tgiven = with_bias.then_some(&tbias);
    let whole = Block::whole;
    let drop = Drop { stream: 11, samples: rows, step: &tstep, on: p > 0.0 };
    matmul.forward(&mut t.plan, whole(&tx), whole(&tweight), tgiven, whole(&ty));
    matmul.forward_activate(&mut t.plan, kind, &tx, &tweight, tgiven, &ty_active, &tactivated);
    matmul.forward_residual(&mut t.plan, drop, &tx, &tweight, tgiven, &tresidual, &tsum);
    matmul.backward_input_activate(&mut t.plan, kind, &tdy, &tweight, &tbefore, &tagain, &tdbefore);
    matmul.backward_weight(&mut t.plan, whole(&tdy), whole(&tx), &tdweight, Some(&tdbias), 1);
    matmul.backward_weight(&mut t.plan, whole(&tdy), whole(&tx), &tdweight_too, Some(&tdbias_too), RANGES);

    let (y, activated) = twin::forward_activate(&x, &weight, given, rows, inner, cols, relu);
    let index = |i: usize| u64::from(first_sample) * cols as u64 + i as u64;
    let factor =
        |i: usize| if p == 0.0 { 1.0 } else { dropout::keep_factor(index(i), 11, 77, step.drop_below, f64::from(step.keep_scale)) };
    let (_, again) = twin::forward_activate(&before, &identity(inner), None, rows, inner, inner, relu);
    let forward = tolerance(inner) + 1e-5;
    // The kernel activates the stored (rounded) y: GELU's slope is at most 1.13.
    let largest = y.iter().fold(0.0f64, |top, y| top.max(y.abs()));
    let moved = 1.13 * relative(dtype, 0.0) * largest;
    t.expect(&ty, &y, forward, rel);
    t.expect(&ty_active, &y, forward, rel);
    t.expect(&tactivated, &activated, 2.0 * forward + moved, rel);
    t.expect(&tsum, &twin::forward_residual(&x, &weight, given, &residual, &factor, rows, inner, cols), 2.0 * forward, rel);
    t.expect(&tagain, &again, 5e-6, rel);
    let dbefore = twin::backward_input_activate(&dy, &weight, &before, rows, inner, cols, relu);
    t.expect(&tdbefore, &dbefore, 2.0 * tolerance(cols), rel);
    let dweight = plus(&dweight_start, &twin::backward_weight(&dy, &x, rows, inner, cols));
    let dbias = plus(&dbias_start, &twin::backward_bias(&dy, rows, cols));
    for (tdweight, tdbias) in [(&tdweight, &tdbias), (&tdweight_too, &tdbias_too)] {
        t.expect(tdweight, &dweight, tolerance(rows), 1e-5);
        t.expect(tdbias, &dbias, tolerance(rows), 1e-5);
    }
    t
}

/// The identity matrix as weight.
fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect()
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(tiles(65, 36, 70, Dtype::F32))?;
    c.check_defaults(linear(65, 36, 70, Dtype::F32))?;
    c.check_defaults(linear(1, 32, 200, Dtype::F32))?;
    c.check_defaults(fused(65, 36, 68, Activation::Gelu, true, 0.3, Dtype::F32))?;
    for dtype in STORAGES.into_iter().filter(|dtype| *dtype != Dtype::F32) {
        c.check_defaults(linear(65, 36, 70, dtype))?;
    }
    if c.gpu.traits().cooperative.is_some() {
        c.check(tiles(130, 76, 200, Dtype::F16))?;
        c.check(fused(65, 36, 68, Activation::Gelu, true, 0.3, Dtype::F16))?;
        return sums_beyond_f16_are_infinite(c);
    }
    Ok(())
}

/// A sum that f16 cannot hold must not become its largest number: training would not notice.
pub fn sums_beyond_f16_are_infinite(c: &mut Checker) -> Checked {
    let matmul = Matmul::new(Dtype::F16);
    let mut t = Trial::new("matmul of sums beyond f16");
    let (tx, tweight) =
        (t.activation("x", &[3, 64], Dtype::F16, &[40.0; 192]), t.activation("weight", &[8, 64], Dtype::F16, &[-40.0; 512]));
    let ty = t.activation_output("y", &[3, 8], Dtype::F16);
    matmul.forward(&mut t.plan, Block::whole(&tx), Block::whole(&tweight), None, Block::whole(&ty));
    t.expect_words(&ty, 0, &[0xfc00_fc00; 12]);
    c.check(t)
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for (rows, inner, cols) in [(1, 4, 1), (63, 16, 65), (1, 32, 200), (129, 64, 7), (65, 12, 130), (5, 200, 2)] {
        for dtype in STORAGES {
            c.check(linear(rows, inner, cols, dtype))?;
        }
    }
    // More than one tile of cooperative matrices, and a remainder of k.
    c.check(linear(200, 76, 136, Dtype::F16))
}

pub fn fused_odd_sizes(c: &mut Checker) -> Checked {
    for (rows, inner, cols) in [(1, 4, 4), (63, 16, 68), (129, 36, 8), (65, 12, 132)] {
        c.check(fused(rows, inner, cols, Activation::Gelu, true, 0.0, Dtype::F32))?;
        c.check(fused(rows, inner, cols, Activation::Relu, false, 0.3, Dtype::F32))?;
    }
    c.check(fused(35, 8, 12, Activation::Gelu, true, 0.5, Dtype::Bf16))?;
    c.check(fused(65, 36, 68, Activation::Relu, false, 0.0, Dtype::Bf16))?;
    // Software drivers compile for seconds what differs from bf16 in two functions only.
    if c.gpu.traits().cooperative.is_none() {
        return Ok(());
    }
    c.check(fused(35, 8, 12, Activation::Relu, false, 0.0, Dtype::F16))?;
    c.check(fused(130, 76, 68, Activation::Gelu, true, 0.3, Dtype::F16))
}

pub fn sums_of_more_than_65_536(c: &mut Checker) -> Checked {
    c.check(linear(2, 65_544, 3, Dtype::F32))?;
    c.check(linear(3, 4, 65_543, Dtype::F32))?;
    c.check(linear(65_543, 4, 2, Dtype::F32))
}

pub fn a_bias_of_more_than_65_536_rows(c: &mut Checker) -> Checked {
    c.check(fused(65_543, 4, 4, Activation::Gelu, true, 0.1, Dtype::F32))
}

/// Blocks of larger matrices: the rows and columns of a chunk of logits.
pub fn blocks(c: &mut Checker) -> Checked {
    let matmul = Matmul::new(Dtype::F32);
    let mut t = Trial::new("matmul blocks");
    let (x, weight) = (noise(9 * 12, 1), noise(6 * 12, 2));
    let mut y = noise(5 * 16, 3);
    let tx = t.input("x", &[9, 12], &x);
    let tweight = t.input("weight", &[6, 12], &weight);
    let ty = t.input("y", &[5, 16], &y);
    matmul.forward(&mut t.plan, Block::rows(&tx, 4, 5), Block::whole(&tweight), None, Block::whole(&ty).columns(4, 6));
    let part = padded(&twin::forward(&x[4 * 12..], &weight, None, 5, 12, 6), 6, |row| row[5]);
    for r in 0..5 {
        y[r * 16 + 4..r * 16 + 12].copy_from_slice(&part[r * 8..r * 8 + 8]);
    }
    t.expect(&ty, &y, 1e-5, 1e-5);
    c.check(t)
}
