//! sample.draw: the shares of many draws.

use wgpt::low_level::gpu::plan::{Phase, Plan};
use wgpt::low_level::gpu::run::Runner;
use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops::cursor::Cursor;
use wgpt::low_level::ops::sample::{RING, Sample, allowed};
use wgpt::low_level::reference::sample::{Draw, draw};
use wgpt::low_level::selftest::sample::PLAIN;
use wgpt::{Options, block_on};

use crate::common::gpu;

/// Tokens are drawn in proportion to their weights, and only those that are kept: 2,000 draws from one plan.
#[test]
fn shares_of_many_draws() {
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
