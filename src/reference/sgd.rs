//! Stochastic gradient descent with momentum, as PyTorch's SGD (no dampening, no Nesterov), except that decay is decoupled as in AdamW.
//! Weight decay applies to elements before `decay_end` only.
//!
//! ```text
//! g = clip · grads
//! p ← p · (1 − lr · weight_decay)
//! buf ← momentum · buf + g                 from buf = 0, so the first step moves by lr · g
//! p ← p − lr · buf
//! ```

/// One step on flat arrays: `params` and `buf` are updated, both of the length of `grads`; `clip` is the factor on `grads`.
pub fn step(params: &mut [f64], grads: &[f64], buf: &mut [f64], lr: f64, momentum: f64, weight_decay: f64, decay_end: usize, clip: f64) {
    for i in 0..params.len() {
        let g = clip * grads[i];
        if i < decay_end {
            params[i] *= 1.0 - lr * weight_decay;
        }
        buf[i] = momentum * buf[i] + g;
        params[i] -= lr * buf[i];
    }
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::assert_close;
    use super::*;

    #[test]
    fn momentum_adds_up_and_the_first_step_is_plain_descent() {
        let (mut params, mut buf) = (vec![1.0], vec![0.0]);
        step(&mut params, &[2.0], &mut buf, 0.1, 0.9, 0.0, 0, 1.0);
        assert_close("sgd.step params, first", &params, &[1.0 - 0.1 * 2.0], 0.0, 1e-15);
        step(&mut params, &[3.0], &mut buf, 0.1, 0.9, 0.0, 0, 1.0);
        assert_close("sgd.step buf", &buf, &[0.9 * 2.0 + 3.0], 0.0, 1e-15);
        assert_close("sgd.step params, second", &params, &[1.0 - 0.1 * 2.0 - 0.1 * 4.8], 0.0, 1e-14);
    }

    #[test]
    fn decay_stays_out_of_the_momentum_and_ends_at_decay_end() {
        let (mut params, mut buf) = (vec![1.0; 3], vec![0.0; 3]);
        for _ in 0..2 {
            step(&mut params, &[0.0; 3], &mut buf, 0.1, 0.9, 0.5, 1, 1.0);
        }
        assert_close("sgd.step params", &params, &[0.95 * 0.95, 1.0, 1.0], 0.0, 1e-15);
        assert_eq!(buf, [0.0; 3]);
    }

    #[test]
    fn clip_scales_the_gradient() {
        let (mut params, mut buf) = (vec![0.0], vec![0.0]);
        step(&mut params, &[8.0], &mut buf, 0.5, 0.9, 0.0, 0, 0.25);
        assert_eq!((params, buf), (vec![-1.0], vec![2.0]));
    }
}
