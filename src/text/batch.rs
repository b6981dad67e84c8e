//! Selects the tokens of each training sample, as a pure function of (seed, sample), and cuts a validation part into windows.

use super::store::TokenStore;
use crate::error::{Error, Result};
use crate::random::mix;

/// The target of a position that the loss ignores.
pub const IGNORED: u32 = u32::MAX;

/// Selects training windows. Stateless: sample s does not depend on earlier calls.
///
/// One epoch visits every window of the training part once, in an order shuffled by (seed, epoch). Windows are adjacent, and each epoch
/// shifts all of them by its own random offset, so that their borders move and every token can be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    seed: u64,
    seq_len: u64,
    windows: u64,
    slack: u64,
    tokens: u64,
}

impl Sampler {
    /// `tokens` is the length of the training part; `Err` if it is shorter than one window of `seq_len` + 1 tokens.
    pub fn new(seed: u64, seq_len: usize, tokens: usize) -> Result<Sampler> {
        check_seq_len(seq_len)?;
        if tokens <= seq_len {
            return Err(Error::usage(format!("the training part has {tokens} tokens, seq_len {seq_len} needs at least {}", seq_len + 1)));
        }
        let (seq_len, tokens) = (seq_len as u64, tokens as u64);
        // Leaving out one window makes room to shift the others; a single window shifts within the tokens that are left over.
        let windows = ((tokens - 1) / seq_len - 1).max(1);
        Ok(Sampler { seed, seq_len, windows, slack: tokens - 1 - windows * seq_len, tokens })
    }

    /// Windows, and so samples, per epoch.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// The first token of the window of `sample`: 0 ..= tokens - seq_len - 1. Callers number samples `step * samples_per_step + i`.
    pub fn start(&self, sample: u64) -> usize {
        let (epoch, index) = (sample / self.windows, sample % self.windows);
        let key = mix(mix(self.seed) ^ epoch);
        let shift = mix(key ^ SHIFT) % (self.slack + 1);
        (permute(index, self.windows, key) * self.seq_len + shift) as usize
    }

    /// Writes the window of `sample`: `inputs` and `targets` are (seq_len), `targets` is `inputs` shifted by one.
    pub fn fill(&self, store: &TokenStore, sample: u64, inputs: &mut [u32], targets: &mut [u32]) -> Result<()> {
        if store.len() as u64 != self.tokens {
            return Err(Error::usage(format!("the training part has {} tokens, this sampler was made for {}", store.len(), self.tokens)));
        }
        check_lengths(self.seq_len as usize, inputs, targets)?;
        let start = self.start(sample);
        store.read(start, inputs)?;
        store.read(start + 1, targets)
    }
}

/// Separates the random offset of an epoch from the order of its windows, which use the same seed.
const SHIFT: u64 = 0x5348_4946_5453_4849;

/// A keyed permutation of 0 .. `n`: a Feistel network on the next even number of bits, applied until the value is below `n` (cycle walking;
/// Black, Rogaway: Ciphers with Arbitrary Finite Domains, 2002). Fewer than four applications on average.
fn permute(index: u64, n: u64, key: u64) -> u64 {
    let half = (64 - (n - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1 << half) - 1;
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..6 {
            (left, right) = (right, left ^ (mix(key ^ (round << 56) ^ right) & mask));
        }
        value = left << half | right;
        if value < n {
            return value;
        }
    }
}

/// One evaluation window: it begins at token `start`, and its first `real` positions have a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalWindow {
    /// Index in the store of its first token.
    pub start: usize,
    /// Positions with a target, from 1 to `seq_len`.
    pub real: usize,
}

/// Adjacent windows that predict every token of `store` except the first exactly once; only the last may be partial.
///
/// If there are more than `most` windows, returns `most` of them, evenly spread and the same on every call. 0 returns all.
pub fn eval_windows(store: &TokenStore, seq_len: usize, most: usize) -> Result<impl ExactSizeIterator<Item = EvalWindow> + use<>> {
    check_seq_len(seq_len)?;
    let targets = store.len().saturating_sub(1);
    let all = targets.div_ceil(seq_len);
    let taken = if most == 0 { all } else { all.min(most) };
    Ok((0..taken).map(move |index| {
        // In 128 bits the product cannot overflow; index < taken, so that the quotient is below `all`.
        let start = (index as u128 * all as u128 / taken as u128) as usize * seq_len;
        EvalWindow { start, real: seq_len.min(targets - start) }
    }))
}

/// Writes one evaluation window: past its `real` positions `inputs` are 0 and `targets` are [`IGNORED`]. Both are (seq_len).
pub fn fill_eval(store: &TokenStore, window: EvalWindow, inputs: &mut [u32], targets: &mut [u32]) -> Result<()> {
    check_lengths(window.real.max(inputs.len()), inputs, targets)?;
    let (real_inputs, past_inputs) = inputs.split_at_mut(window.real);
    let (real_targets, past_targets) = targets.split_at_mut(window.real);
    store.read(window.start, real_inputs)?;
    store.read(window.start + 1, real_targets)?;
    past_inputs.fill(0);
    past_targets.fill(IGNORED);
    Ok(())
}

/// Positions of `ids` sorted by (id, position), so that the gradient of one embedding row can be summed in a fixed order.
pub fn sorted_order(ids: &[u32]) -> Vec<u32> {
    let mut order = vec![0; ids.len()];
    // The lengths are equal; the only other error is 2^32 ids or more.
    sort_order_into(ids, &mut order).expect("text.sorted_order: more than 2^32 ids in one batch");
    order
}

/// [`sorted_order`] into a slice of the same length, without allocating.
pub fn sort_order_into(ids: &[u32], order: &mut [u32]) -> Result<()> {
    if ids.len() != order.len() || u32::try_from(ids.len()).is_err() {
        return Err(Error::usage(format!("{} ids to sort into {} places, both must be equal and below 2^32", ids.len(), order.len())));
    }
    for (position, place) in order.iter_mut().enumerate() {
        *place = position as u32;
    }
    order.sort_unstable_by_key(|&position| (ids[position as usize], position));
    Ok(())
}

fn check_seq_len(seq_len: usize) -> Result<()> {
    if seq_len == 0 { Err(Error::usage("seq_len is 0, it must be at least 1")) } else { Ok(()) }
}

fn check_lengths(seq_len: usize, inputs: &[u32], targets: &[u32]) -> Result<()> {
    if inputs.len() == seq_len && targets.len() == seq_len {
        return Ok(());
    }
    Err(Error::usage(format!("inputs have {} places and targets {}, a window needs {seq_len} of each", inputs.len(), targets.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permute_is_a_permutation_that_the_key_changes() {
        for n in [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097] {
            let mut seen = vec![false; n as usize];
            (0..n).for_each(|i| assert!(!std::mem::replace(&mut seen[permute(i, n, 42) as usize], true), "{n}"));
        }
        let moved = (0..1000).filter(|i| permute(*i, 1000, 1) != permute(*i, 1000, 2)).count();
        assert!(moved > 980, "{moved}");
        assert!(permute(u64::MAX / 3, u64::MAX / 2, 1) < u64::MAX / 2);
    }

    #[test]
    fn every_window_once_per_epoch_and_every_token_in_the_end() {
        for (seq_len, tokens) in [(1, 2), (1, 3), (4, 5), (4, 8), (4, 9), (4, 12), (4, 13), (7, 100), (64, 10_007)] {
            let sampler = Sampler::new(5, seq_len, tokens).unwrap();
            let mut reached = vec![false; tokens];
            let mut shifts = std::collections::HashSet::new();
            for epoch in 0..300 {
                let first = epoch * sampler.windows();
                let mut starts: Vec<usize> = (first..first + sampler.windows()).map(|sample| sampler.start(sample)).collect();
                starts.sort_unstable();
                shifts.insert(starts[0]);
                for (k, start) in starts.iter().enumerate() {
                    assert_eq!(*start, starts[0] + k * seq_len);
                    assert!(start + seq_len < tokens);
                    reached[*start..=start + seq_len].fill(true);
                }
            }
            assert!(reached.iter().all(|r| *r), "seq_len {seq_len}, {tokens} tokens");
            assert!(tokens == seq_len + 1 || shifts.len() > 1);
        }
    }

    #[test]
    fn a_sample_is_a_pure_function_of_seed_and_number() {
        let a = Sampler::new(1, 16, 5000).unwrap();
        let forward: Vec<usize> = (0..2000).map(|s| a.start(s)).collect();
        let again = Sampler::new(1, 16, 5000).unwrap();
        (0..2000).rev().for_each(|s| assert_eq!(again.start(s), forward[s as usize]));
        let other = Sampler::new(2, 16, 5000).unwrap();
        assert!((0..2000).filter(|s| other.start(*s) == forward[*s as usize]).count() < 40);
        // Recorded values: a change here breaks the exact resume of every existing run.
        assert_eq!([0, 1, 2, 3, 311, 1000].map(|s: usize| forward[s]), [404, 3012, 1604, 3908, 3633, 3111]);
        assert!(a.start(u64::MAX) < 5000);
    }

    #[test]
    fn targets_are_inputs_shifted_by_one() {
        let store = TokenStore::from_ids((0..100).map(|i| i * 3).collect());
        let sampler = Sampler::new(9, 8, 100).unwrap();
        let (mut inputs, mut targets) = ([0; 8], [0; 8]);
        for sample in 0..50 {
            sampler.fill(&store, sample, &mut inputs, &mut targets).unwrap();
            assert_eq!(inputs[0], 3 * sampler.start(sample) as u32);
            assert!((0..8).all(|i| targets[i] == inputs[i] + 3));
        }
        assert!(sampler.fill(&store, 0, &mut inputs[..7], &mut targets).is_err());
        assert!(sampler.fill(&TokenStore::default(), 0, &mut inputs, &mut targets).is_err());
        assert!(Sampler::new(9, 0, 100).is_err());
        let e = Sampler::new(9, 100, 100).unwrap_err().to_string();
        assert_eq!(e, "the training part has 100 tokens, seq_len 100 needs at least 101");
    }

    #[test]
    fn evaluation_predicts_every_token_once() {
        for tokens in 0..40 {
            let store = TokenStore::from_ids((0..tokens).collect());
            for seq_len in [1, 2, 7, 39, 64] {
                let mut predicted: Vec<u32> = Vec::new();
                let (mut inputs, mut targets) = (vec![9; seq_len], vec![9; seq_len]);
                for window in eval_windows(&store, seq_len, 0).unwrap() {
                    fill_eval(&store, window, &mut inputs, &mut targets).unwrap();
                    predicted.extend(targets.iter().filter(|t| **t != IGNORED));
                    for i in 0..seq_len {
                        let wanted = if i < window.real { (targets[i] - 1, true) } else { (0, targets[i] != IGNORED) };
                        assert_eq!((inputs[i], i < window.real), wanted);
                    }
                }
                assert_eq!(predicted, (1..tokens).collect::<Vec<u32>>());
            }
        }
        assert!(eval_windows(&TokenStore::default(), 0, 0).is_err());
    }

    #[test]
    fn fewer_windows_are_spread_over_the_whole_store() {
        let store = TokenStore::from_ids((0..1003).collect());
        let starts = |most| eval_windows(&store, 10, most).unwrap().map(|window| window.start).collect::<Vec<_>>();
        assert_eq!(starts(4), [0, 250, 500, 750]);
        assert_eq!((starts(101), starts(1000)), (starts(0), starts(0)));
        for most in 1..101 {
            let found = starts(most);
            assert_eq!(found.len(), most);
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{most}: {found:?}");
            assert!(found.last().unwrap() + 1010 / most + 10 >= 1003, "{most}: the end of the store is left out: {found:?}");
        }
    }

    #[test]
    fn order_is_by_id_then_position() {
        assert_eq!(sorted_order(&[3, 1, 3, 0, 1]), [3, 1, 4, 0, 2]);
        assert!(sorted_order(&[]).is_empty());
        assert!(sort_order_into(&[1, 2], &mut [0]).is_err());
        let ids: Vec<u32> = (0..5000).map(|i| (mix(i) % 50) as u32).collect();
        let order = sorted_order(&ids);
        assert!(order.windows(2).all(|w| (ids[w[0] as usize], w[0]) < (ids[w[1] as usize], w[1])));
    }
}
