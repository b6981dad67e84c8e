//! Draws the next token from logits: ranks, truncates, and selects by one random number.
//!
//! ```text
//! ranking   allowed tokens, highest logit first (−0 below +0), equals by lowest id
//! w         = exp((logit − highest) · sharpness)         W = Σ w over the ranking
//! kept      = the first n of the ranking, n the least of: top_k, if not 0; the shortest prefix of weight top_p · W, if top_p < 1; all
//! token     = the first kept id, in the order of ids, up to which the kept weigh more than u · Σ kept; without sharpness the first rank
//! ```

/// How a token is drawn; `u` in [0, 1) is the random number.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// 1 / temperature; 0 takes the first of the ranking.
    pub sharpness: f64,
    /// The most tokens that are kept; 0 keeps all.
    pub top_k: usize,
    /// The fraction of the total weight that the kept tokens must reach; 1 keeps all.
    pub top_p: f64,
    /// The random number in [0, 1), from [`uniform`].
    pub u: f64,
}

/// A drawn token, with the margins of the decision: rounding errors below these cannot change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The token, an index into the logits.
    pub id: usize,
    /// Ids that could have been drawn, in the order of the ranking.
    pub kept: Vec<usize>,
    /// The smallest distance of u from a boundary between tokens, as a fraction of the kept weight.
    pub border: f64,
    /// The smallest distance of top_p from the weight of a prefix, as a fraction of the total weight.
    pub cut: f64,
}

/// u, the counter-based random number of the token `drawn`.
pub fn uniform(drawn: u32, seed_high: u32, seed: u32) -> f64 {
    f64::from(super::dropout::random_u32(u64::from(drawn), seed_high, seed) >> 8) / f64::from(1 << 24)
}

/// `logits` (V) -> a token among those that `allowed` admits.
pub fn draw(logits: &[f64], allowed: &dyn Fn(usize) -> bool, how: Draw) -> Drawn {
    let mut ranking: Vec<usize> = (0..logits.len()).filter(|&id| allowed(id)).collect();
    ranking.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if how.sharpness == 0.0 {
        return Drawn { id: ranking[0], kept: vec![ranking[0]], border: 1.0, cut: 1.0 };
    }
    let highest = logits[ranking[0]];
    let weight = |id: usize| ((logits[id] - highest) * how.sharpness).exp();
    let whole: f64 = ranking.iter().map(|&id| weight(id)).sum();
    let (mut kept, mut reached, mut cut) = (vec![], 0.0, 1.0f64);
    for &id in &ranking {
        if how.top_p < 1.0 {
            cut = cut.min((reached / whole - how.top_p).abs());
            if reached >= how.top_p * whole {
                break;
            }
        }
        if how.top_k > 0 && kept.len() == how.top_k {
            break;
        }
        kept.push(id);
        reached += weight(id);
    }
    let mut by_id = kept.clone();
    by_id.sort_unstable();
    let total: f64 = by_id.iter().map(|&id| weight(id)).sum();
    let (mut sum, mut border, mut drawn) = (0.0, 1.0f64, None);
    for &id in &by_id {
        sum += weight(id) / total;
        border = border.min((sum - how.u).abs());
        if drawn.is_none() && sum > how.u {
            drawn = Some(id);
        }
    }
    Drawn { id: drawn.unwrap_or(by_id[by_id.len() - 1]), kept, border, cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Draw = Draw { sharpness: 1.0, top_k: 0, top_p: 1.0, u: 0.0 };

    #[test]
    fn the_ranking_is_cut_by_count_and_by_weight() {
        // Weights 1, 4, 2, 1 of 8.
        let logits = [0.0, 4f64.ln(), 2f64.ln(), 0.0];
        let kept = |how: Draw| draw(&logits, &|_| true, how).kept;
        assert_eq!(kept(ALL), [1, 2, 0, 3]);
        assert_eq!(kept(Draw { top_k: 3, ..ALL }), [1, 2, 0]);
        assert_eq!(kept(Draw { top_p: 0.49, ..ALL }), [1]);
        assert_eq!(kept(Draw { top_p: 0.51, ..ALL }), [1, 2]);
        assert_eq!(kept(Draw { top_p: 0.9, top_k: 2, ..ALL }), [1, 2]);
        assert_eq!(draw(&logits, &|id| id != 1, Draw { top_k: 1, ..ALL }).kept, [2]);
        assert_eq!(kept(Draw { sharpness: 0.0, ..ALL }), [1]);
        assert_eq!(draw(&[1.0, 2.0, 2.0], &|_| true, Draw { sharpness: 0.0, ..ALL }).id, 1);
    }

    #[test]
    fn tokens_come_as_often_as_they_weigh() {
        let logits = [0.0, 4f64.ln(), 2f64.ln(), 0.0];
        let mut counts = [0usize; 4];
        for drawn in 0..8000 {
            counts[draw(&logits, &|_| true, Draw { u: uniform(drawn, 0, 7), ..ALL }).id] += 1;
        }
        // Five standard errors of a fraction of one half, the largest there are.
        for (count, weight) in counts.iter().zip([1.0, 4.0, 2.0, 1.0]) {
            assert!((*count as f64 / 8000.0 - weight / 8.0).abs() < 5.0 * 0.5 / 8000f64.sqrt(), "{counts:?}");
        }
    }
}
