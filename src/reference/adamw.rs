//! AdamW (Loshchilov and Hutter 2019), as in PyTorch step for step. Weight decay applies to elements before `decay_end` only.
//!
//! ```text
//! g = clip · grads
//! p ← p · (1 − lr · weight_decay)
//! m ← β₁ m + (1 − β₁) g                    v ← β₂ v + (1 − β₂) g²
//! p ← p − lr · m / (1 − β₁ᵗ) / (√v / √(1 − β₂ᵗ) + ε)
//! ```

/// One step on flat arrays: `params`, `m` and `v` are updated, all of the length of `grads`; `t` counts from 1; `clip` is the factor on
/// `grads` (see [`super::gradient_norm::clip_factor`]).
pub fn step(
    params: &mut [f64],
    grads: &[f64],
    m: &mut [f64],
    v: &mut [f64],
    t: u32,
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    decay_end: usize,
    clip: f64,
) {
    let correction1 = 1.0 - beta1.powf(f64::from(t));
    let correction2 = 1.0 - beta2.powf(f64::from(t));
    for i in 0..params.len() {
        let g = clip * grads[i];
        if i < decay_end {
            params[i] *= 1.0 - lr * weight_decay;
        }
        m[i] = beta1 * m[i] + (1.0 - beta1) * g;
        v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
        params[i] -= lr * (m[i] / correction1) / (v[i].sqrt() / correction2.sqrt() + eps);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{assert_close, noise};
    use super::*;

    #[test]
    fn the_first_step_is_lr_in_the_direction_of_the_sign_whatever_the_size() {
        let (mut params, grads) = (vec![0.0; 4], [1e-3, -1e-3, 1e3, -1e3]);
        let (mut m, mut v) = (vec![0.0; 4], vec![0.0; 4]);
        step(&mut params, &grads, &mut m, &mut v, 1, 0.1, 0.9, 0.999, 0.0, 0.5, 0, 1.0);
        assert_close("adamw.step params", &params, &[-0.1, 0.1, -0.1, 0.1], 0.0, 1e-12);
    }

    #[test]
    fn without_a_gradient_only_elements_before_decay_end_shrink() {
        let mut params = vec![1.0; 5];
        let (mut m, mut v) = (vec![0.0; 5], vec![0.0; 5]);
        for t in 1..=3 {
            step(&mut params, &[0.0; 5], &mut m, &mut v, t, 0.1, 0.9, 0.999, 1e-8, 0.5, 2, 1.0);
        }
        let kept = 0.95f64.powi(3);
        assert_close("adamw.step params", &params, &[kept, kept, 1.0, 1.0, 1.0], 0.0, 1e-14);
    }

    #[test]
    fn clip_scales_the_gradient_before_the_moments() {
        let grads = noise(7, 1);
        let halves: Vec<f64> = grads.iter().map(|g| 0.5 * g).collect();
        let (mut a, mut a_m, mut a_v) = (noise(7, 2), vec![0.0; 7], vec![0.0; 7]);
        let (mut b, mut b_m, mut b_v) = (a.clone(), a_m.clone(), a_v.clone());
        for t in 1..=3 {
            step(&mut a, &grads, &mut a_m, &mut a_v, t, 0.1, 0.9, 0.99, 1e-8, 0.1, 3, 0.5);
            step(&mut b, &halves, &mut b_m, &mut b_v, t, 0.1, 0.9, 0.99, 1e-8, 0.1, 3, 1.0);
        }
        assert_eq!((a, a_m, a_v), (b, b_m, b_v));
    }

    #[test]
    fn bias_correction_makes_the_moments_the_weighted_means_of_the_gradients() {
        // Unrolled: m / (1 − β₁ᵗ) = Σ_k β₁^(t−k) g_k / Σ_k β₁^(t−k), and the same for v with g².
        let (beta1, beta2, eps, lr) = (0.8, 0.95, 1e-3, 0.1);
        let grads = noise(5, 3);
        let (mut params, mut m, mut v) = (vec![0.25], vec![0.0], vec![0.0]);
        let mut want = 0.25;
        for t in 1..=grads.len() {
            step(&mut params, &grads[t - 1..t], &mut m, &mut v, t as u32, lr, beta1, beta2, eps, 0.0, 1, 1.0);
            let weighted_mean = |beta: f64, power: i32| {
                let weight = |k: usize| beta.powi((t - k) as i32);
                (1..=t).map(|k| weight(k) * grads[k - 1].powi(power)).sum::<f64>() / (1..=t).map(weight).sum::<f64>()
            };
            want -= lr * weighted_mean(beta1, 1) / (weighted_mean(beta2, 2).sqrt() + eps);
            assert_close(&format!("adamw.step params at t = {t}"), &params, &[want], 0.0, 1e-12);
        }
    }
}
