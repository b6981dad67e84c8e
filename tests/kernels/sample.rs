//! sample.draw

use wgpt::low_level::ops::cursor::Cursor;
use wgpt::low_level::ops::sample::{RING, Sample, allowed};
use wgpt::low_level::reference::sample::{Draw, draw, uniform};

use crate::harness::{POISON, Trial, noise};

/// Draws once from `logits` without the ids in `never`; the twin's choice must not depend on rounding.
fn trial(logits: &[f64], never: &[u32], cursor: Cursor) {
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
    t.run();
}

const PLAIN: Cursor = Cursor { position: 5, rows: 3, drawn: 0, failed: 0, seed: 11, top_k: 0, top_p: 1.0, sharpness: 1.0, seed_high: 0 };

fn logits(vocab: usize, seed: u32) -> Vec<f64> {
    noise(vocab, seed).iter().map(|x| 5.0 * x).collect()
}

#[test]
fn the_likeliest() {
    for vocab in [1, 7, 33, 255, 1003] {
        trial(&logits(vocab, 1), &[], Cursor { sharpness: 0.0, ..PLAIN });
    }
    // Of equal logits the lowest allowed id is first.
    let equal = [1.0, 3.0, -2.0, 3.0, 3.0, 0.0];
    trial(&equal, &[], Cursor { sharpness: 0.0, drawn: 200, ..PLAIN });
    trial(&equal, &[0, 1], Cursor { sharpness: 0.0, ..PLAIN });
    trial(&[-1e30, -3e38, -2.5e-30], &[2], Cursor { sharpness: 0.0, ..PLAIN });
}

#[test]
fn among_all() {
    for (vocab, drawn) in [(1, 0), (7, 1), (33, 2), (255, 70), (1003, 4)] {
        trial(&logits(vocab, 2), &[], Cursor { drawn, ..PLAIN });
        trial(&logits(vocab, 2), &[], Cursor { drawn, sharpness: 0.1, ..PLAIN });
        trial(&logits(vocab, 2), &[], Cursor { drawn, sharpness: 1e30, ..PLAIN });
        trial(&logits(vocab, 2), &[], Cursor { drawn, seed_high: 1 + drawn, ..PLAIN });
    }
    trial(&logits(40, 3), &(1..38).collect::<Vec<u32>>(), PLAIN);
}

#[test]
fn among_the_k_likeliest() {
    for (vocab, top_k) in [(7, 1), (7, 6), (7, 7), (33, 40), (255, 13), (1003, 500)] {
        for drawn in 0..2 {
            trial(&logits(vocab, 4), &[3], Cursor { drawn, top_k, ..PLAIN });
        }
    }
}

#[test]
fn among_those_that_reach_p() {
    for (vocab, top_p) in [(7, 0.3), (33, 0.9), (255, 0.01), (1003, 0.997)] {
        for drawn in 0..2 {
            trial(&logits(vocab, 5), &[3], Cursor { drawn, top_p, ..PLAIN });
            trial(&logits(vocab, 5), &[3], Cursor { drawn, top_p, top_k: 5, sharpness: 0.7, ..PLAIN });
        }
    }
}

/// Cuts within equal logits: the lowest ids are kept.
#[test]
fn cuts_among_equals() {
    let steps: Vec<f64> = logits(301, 6).iter().map(|x| x.round() / 4.0).collect();
    for drawn in 0..2 {
        for top_k in [1, 60, 299] {
            trial(&steps, &[7], Cursor { drawn, top_k, ..PLAIN });
        }
        for top_p in [0.011, 0.457, 0.891] {
            trial(&steps, &[7], Cursor { drawn, top_p, ..PLAIN });
        }
        trial(&[0.25; 77], &[0, 9], Cursor { drawn, top_k: 10, top_p: 0.507, ..PLAIN });
    }
}

#[test]
fn more_ids_than_65_536() {
    let mut many = logits(65_543, 7);
    many[65_541] = 9.0;
    trial(&many, &[], Cursor { sharpness: 0.0, ..PLAIN });
    trial(&many, &[65_541], Cursor { top_k: 40, sharpness: 300.0, ..PLAIN });
    trial(&many, &[], Cursor { top_k: 70, sharpness: 40.0, ..PLAIN });
}

/// Tokens are drawn in proportion to their weights, and only those that are kept: 2,000 draws from one plan.
#[test]
fn shares_of_many_draws() {
    use crate::common::gpu;
    use wgpt::low_level::gpu::plan::{Phase, Plan};
    use wgpt::low_level::gpu::run::Runner;
    use wgpt::low_level::gpu::tensor::Dtype;
    use wgpt::{Options, block_on};

    const DRAWS: usize = 2000;
    let logits: Vec<f32> = [0.3, 2.0, -1.0, 1.2, 0.0, 1.9, -4.0].to_vec();
    let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    let mut plan = Plan::new();
    plan.begin(Phase("trial"));
    let vocab = logits.len();
    let tlogits = plan.kept("logits", &[1, vocab], Dtype::F32, "trial");
    let tallowed = plan.kept("allowed", &[1], Dtype::U32, "trial");
    let tcursor = plan.kept("cursor", &[Cursor::WORDS], Dtype::U32, "trial");
    let (tids, tring) = (plan.kept("ids", &[1], Dtype::U32, "trial"), plan.kept("ring", &[RING], Dtype::U32, "trial"));
    for _ in 0..RING {
        Sample::new().draw(&mut plan, vocab, &tlogits, &tallowed, &tcursor, &tids, &tring);
    }
    let compiled = block_on(gpu(), plan.compile(gpu(), &Options::default())).unwrap();
    block_on(gpu(), compiled.write(&tlogits, &logits)).unwrap();
    block_on(gpu(), compiled.write(&tallowed, &allowed(vocab, &[5]))).unwrap();
    for cursor in [PLAIN, Cursor { sharpness: 0.5, ..PLAIN }, Cursor { top_k: 3, ..PLAIN }, Cursor { top_p: 0.8, seed: 5, ..PLAIN }] {
        block_on(gpu(), compiled.write(&tcursor, bytemuck::cast_slice::<Cursor, u32>(&[cursor]))).unwrap();
        let mut counts = vec![0usize; vocab];
        for _ in 0..DRAWS.div_ceil(RING) {
            let mut runner = Runner::new(gpu());
            runner.run(&compiled, std::iter::once(0..compiled.len())).unwrap();
            runner.wait_for_all().unwrap();
            let ring = block_on(gpu(), compiled.read::<u32>(&tring)).unwrap();
            ring.iter().for_each(|&id| counts[id as usize] += 1);
        }
        let (sharpness, top_k, top_p) = (f64::from(cursor.sharpness), cursor.top_k as usize, f64::from(cursor.top_p));
        let kept = draw(&wide, &|id| id != 5, Draw { sharpness, top_k, top_p, u: 0.0 }).kept;
        let weight = |id: usize| if kept.contains(&id) { (wide[id] * sharpness).exp() } else { 0.0 };
        let whole: f64 = (0..vocab).map(weight).sum();
        let draws: usize = counts.iter().sum();
        for (id, &count) in counts.iter().enumerate() {
            let (share, want) = (count as f64 / draws as f64, weight(id) / whole);
            // Five standard errors.
            let error = 5.0 * (want * (1.0 - want) / draws as f64).sqrt();
            assert!((share - want).abs() <= error, "{cursor:?}: id {id} came {share}, want {want}");
        }
    }
}

/// A logit that is not finite sets `failed` once, and nothing is drawn after that.
#[test]
fn logits_that_are_not_finite() {
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
            t.run();
        }
    }
}
