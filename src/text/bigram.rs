//! A smoothed bigram model, which predicts from the previous token alone. A trained GPT must have a smaller loss.

use std::collections::HashMap;

use super::batch::EvalWindow;
use super::store::TokenStore;
use crate::error::{Error, Result};

/// Interpolated Kneser-Ney with one discount (Kneser, Ney 1995; Chen, Goodman: An Empirical Study of Smoothing Techniques, 1998).
///
/// ```text
///   p(w | v) = max(c(v w) − D, 0) / c(v)  +  D · N(v ·) / c(v) · p(w)
///   p(w)     = max(N(· w) − D, 0) / N(· ·)  +  D · W / N(· ·) · 1 / V
/// ```
///
/// c counts pairs, N counts *distinct* pairs, W is the number of tokens with any predecessor. After a v that never occurred, p(w | v) =
/// p(w).
#[derive(Debug, Clone)]
pub struct Bigram {
    vocab_size: usize,
    /// c(v w) by (v, w).
    pairs: HashMap<(u32, u32), u32>,
    /// c(v) and N(v ·) by v; (V).
    contexts: Vec<(u64, u32)>,
    /// p(w) by w; (V).
    unigram: Vec<f64>,
}

const DISCOUNT: f64 = 0.75;

impl Bigram {
    /// Counts the training part. `Err`: an empty vocabulary, or an id outside of it.
    pub fn count(train: &TokenStore, vocab_size: usize) -> Result<Bigram> {
        if vocab_size == 0 {
            return Err(Error::usage("vocab_size is 0, a bigram model needs at least 1"));
        }
        let mut pairs: HashMap<(u32, u32), u32> = HashMap::new();
        for_each_pair(train, vocab_size, |v, w| {
            let count = pairs.entry((v, w)).or_default();
            *count = count.saturating_add(1);
        })?;
        let mut contexts = vec![(0u64, 0u32); vocab_size];
        let mut predecessors = vec![0u32; vocab_size];
        for (&(v, w), &count) in &pairs {
            let (total, distinct) = &mut contexts[v as usize];
            *total += u64::from(count);
            *distinct += 1;
            predecessors[w as usize] += 1;
        }
        let (distinct, uniform) = (pairs.len() as f64, 1.0 / vocab_size as f64);
        let followers = predecessors.iter().filter(|n| **n > 0).count() as f64;
        let p = |n: &u32| {
            if distinct == 0.0 {
                return uniform;
            }
            (f64::from(*n) - DISCOUNT).max(0.0) / distinct + DISCOUNT * followers / distinct * uniform
        };
        Ok(Bigram { vocab_size, unigram: predecessors.iter().map(p).collect(), pairs, contexts })
    }

    /// p(next | previous), or `None` for an id outside the vocabulary. For each `previous` they sum to one.
    pub fn probability(&self, previous: u32, next: u32) -> Option<f64> {
        let (total, distinct) = *self.contexts.get(previous as usize)?;
        let p = *self.unigram.get(next as usize)?;
        if total == 0 {
            return Some(p);
        }
        let count = self.pairs.get(&(previous, next)).copied().unwrap_or(0);
        Some(((f64::from(count) - DISCOUNT).max(0.0) + DISCOUNT * f64::from(distinct) * p) / total as f64)
    }

    /// Mean loss over the pairs of consecutive tokens in `store`, in nats per token. `Err`: fewer than two tokens, or an id out of range.
    pub fn loss(&self, store: &TokenStore) -> Result<f64> {
        let mut mean = Mean::default();
        for_each_pair(store, self.vocab_size, |v, w| mean.add(self.pair_loss(v, w)))?;
        mean.get(store)
    }

    /// The same over the targets of `windows`, such as those that a GPT is evaluated on. `Err` as for [`loss`](Bigram::loss).
    pub fn loss_on(&self, store: &TokenStore, windows: impl IntoIterator<Item = EvalWindow>) -> Result<f64> {
        let mut mean = Mean::default();
        for window in windows {
            let part = store.slice(window.start..window.start + window.real + 1)?;
            for_each_pair(&part, self.vocab_size, |v, w| mean.add(self.pair_loss(v, w)))?;
        }
        mean.get(store)
    }

    /// −ln p(next | previous). Both ids are in range, so there is a probability, and it is above zero.
    fn pair_loss(&self, previous: u32, next: u32) -> f64 {
        -self.probability(previous, next).map_or(0.0, f64::ln)
    }
}

/// A running mean.
#[derive(Default)]
struct Mean {
    sum: f64,
    n: u64,
}

impl Mean {
    fn add(&mut self, loss: f64) {
        self.sum += loss;
        self.n += 1;
    }

    fn get(&self, store: &TokenStore) -> Result<f64> {
        if self.n == 0 {
            return Err(Error::usage(format!("the corpus part has {} tokens, a bigram loss needs at least 2", store.len())));
        }
        Ok(self.sum / self.n as f64)
    }
}

/// Calls `each` with every pair of consecutive tokens. `Err` on an id that the vocabulary lacks.
fn for_each_pair(store: &TokenStore, vocab_size: usize, mut each: impl FnMut(u32, u32)) -> Result<()> {
    let mut previous = None;
    store.for_each_block(|ids| {
        for &id in ids {
            if id as usize >= vocab_size {
                return Err(Error::usage(format!("token id {id} found in the corpus, the vocabulary has {vocab_size}")));
            }
            if let Some(previous) = previous.replace(id) {
                each(previous, id);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: usize, vocab: u64, seed: u64) -> Vec<u32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                // The square makes small ids frequent, as in text.
                let r = (state >> 40) % (vocab * vocab);
                r.isqrt() as u32
            })
            .collect()
    }

    #[test]
    fn probabilities_sum_to_one() {
        for (n, used, vocab) in [(0, 1, 3), (1, 2, 3), (2, 2, 3), (50, 5, 11), (2000, 12, 12)] {
            let model = Bigram::count(&TokenStore::from_ids(ids(n, used, 1)), vocab).unwrap();
            for v in 0..vocab as u32 {
                let all: Vec<f64> = (0..vocab as u32).map(|w| model.probability(v, w).unwrap()).collect();
                assert!(all.iter().all(|p| *p > 0.0), "{n} tokens: {all:?}");
                assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{n} tokens, after {v}: {all:?}");
            }
            assert_eq!(model.probability(0, vocab as u32), None);
        }
    }

    #[test]
    fn by_hand() {
        // Pairs of 0 1 0 2 0 1: (0,1) twice, (1,0), (0,2), (2,0) once: four distinct. Token 0 has two predecessors, 1 and 2 have one each.
        let model = Bigram::count(&TokenStore::from_ids(vec![0, 1, 0, 2, 0, 1]), 4).unwrap();
        let back = 0.75 * 3.0 / 4.0 / 4.0;
        let (p1, p3) = (0.25 / 4.0 + back, back);
        assert!((model.probability(0, 1).unwrap() - (1.25 / 3.0 + 0.75 * 2.0 / 3.0 * p1)).abs() < 1e-15);
        assert!((model.probability(3, 3).unwrap() - p3).abs() < 1e-15);
        let loss = model.loss(&TokenStore::from_ids(vec![0, 1])).unwrap();
        assert!((loss + model.probability(0, 1).unwrap().ln()).abs() < 1e-15);
        assert!(model.loss(&TokenStore::from_ids(vec![0])).is_err());
        assert!(model.loss(&TokenStore::from_ids(vec![0, 4])).unwrap_err().to_string().contains("token id 4 found"));
        assert!(Bigram::count(&TokenStore::default(), 0).is_err());
    }

    #[test]
    fn windows_count_each_of_their_targets_once() {
        use crate::text::eval_windows;
        let (train, val) = (TokenStore::from_ids(ids(5000, 16, 1)), TokenStore::from_ids(ids(1003, 16, 2)));
        let model = Bigram::count(&train, 16).unwrap();
        for seq_len in [1, 7, 32, 2000] {
            let all = model.loss_on(&val, eval_windows(&val, seq_len, 0).unwrap()).unwrap();
            assert_eq!(all, model.loss(&val).unwrap(), "seq_len {seq_len}");
        }
        let some = model.loss_on(&val, eval_windows(&val, 10, 4).unwrap()).unwrap();
        let one = |start: usize| 10.0 * model.loss(&val.slice(start..start + 11).unwrap()).unwrap();
        assert!((some - [0, 250, 500, 750].map(one).iter().sum::<f64>() / 40.0).abs() < 1e-12);
        assert!(model.loss_on(&val, []).is_err());
    }

    #[test]
    fn a_predictable_sequence_costs_little_and_noise_costs_its_entropy() {
        let cycle: Vec<u32> = (0..100_000).map(|i| i % 7).collect();
        let loss = Bigram::count(&TokenStore::from_ids(cycle.clone()), 7).unwrap().loss(&TokenStore::from_ids(cycle)).unwrap();
        assert!(loss < 1e-3, "{loss}");
        let (train, val) = (ids(200_000, 16, 1), ids(50_000, 16, 2));
        let entropy: f64 = (0..16).map(|i| (2.0 * f64::from(i) + 1.0) / 256.0).map(|p: f64| -p * p.ln()).sum();
        let loss = Bigram::count(&TokenStore::from_ids(train), 16).unwrap().loss(&TokenStore::from_ids(val)).unwrap();
        assert!((loss - entropy).abs() < 0.02, "{loss} nats, the source has {entropy}");
    }
}
