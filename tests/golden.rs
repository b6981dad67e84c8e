//! PyTorch's golden numbers prove the whole step: assets/golden/tiny-gpt2 has a GPT-2 checkpoint in the Hugging Face layout with logits,
//! gradients and ten AdamW steps computed in float64 (by the scripts in the same folder).

mod common;

use std::collections::HashMap;
use std::path::PathBuf;

use common::gpu;
use safetensors::SafeTensors;
use wgpt::low_level::model::config::PositionEncoding;
use wgpt::low_level::model::params::Param;
use wgpt::low_level::reference;
use wgpt::{DataConfig, Generator, ModelConfig, Options, RunConfig, Sampling, TokenizerConfig, TrainConfig, Trainer, block_on};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/golden/tiny-gpt2")
}

fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// The checkpoint's shape: dropout 0, tied head, tanh-GELU, learned positions.
fn model() -> ModelConfig {
    ModelConfig {
        n_layer: 2,
        n_head: 4,
        d_model: 32,
        seq_len: 64,
        vocab_size: 512,
        position: PositionEncoding::Learned,
        ..ModelConfig::default()
    }
}

/// A Hugging Face GPT-2 file converted to our names and layout: its Conv1D weights are stored (in, out).
fn tensors(file: &str) -> HashMap<String, Vec<f32>> {
    let bytes = std::fs::read(folder().join(file)).unwrap();
    let names = [
        ("attn.c_attn", "attn.qkv"),
        ("attn.c_proj", "attn.proj"),
        ("mlp.c_fc", "mlp.fc"),
        ("mlp.c_proj", "mlp.proj"),
        ("wte.weight", "wte"),
        ("wpe.weight", "wpe"),
    ];
    let mut tensors = HashMap::new();
    for (theirs, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let mut name = theirs.trim_start_matches("transformer.").to_owned();
        for (from, to) in names {
            name = name.replace(from, to);
        }
        let mut values: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
        if theirs.contains(".c_") && view.shape().len() == 2 {
            let (rows, cols) = (view.shape()[0], view.shape()[1]);
            values = (0..rows * cols).map(|i| values[i % rows * cols + i / rows]).collect();
        }
        tensors.insert(name, values);
    }
    tensors
}

fn weights(table: &[Param], file: &str) -> Vec<Vec<f32>> {
    let tensors = tensors(file);
    let values =
        |param: &Param| tensors.get(&param.name).unwrap_or_else(|| panic!("{file} has no `{}`, a parameter of the model", param.name));
    table.iter().map(|param| values(param).clone()).collect()
}

/// A trainer and the batch of make_train_golden.py, four sequences of 17 tokens.
fn trainer(golden: &serde_json::Value, learning_rate: f64) -> (Trainer, Vec<u32>, Vec<u32>) {
    let adamw = &golden["adamw"];
    let config = RunConfig {
        model: ModelConfig { seq_len: 16, ..model() },
        train: TrainConfig {
            batch_size: 4,
            learning_rate,
            min_learning_rate: 0.0,
            schedule: wgpt::low_level::train::config::Schedule::Constant,
            warmup_steps: 0,
            beta1: adamw["betas"][0].as_f64().unwrap(),
            beta2: adamw["betas"][1].as_f64().unwrap(),
            eps: adamw["eps"].as_f64().unwrap(),
            weight_decay: adamw["weight_decay_2d"].as_f64().unwrap(),
            grad_clip: adamw["clip_grad_norm"].as_f64().unwrap(),
            ..TrainConfig::default()
        },
        tokenizer: TokenizerConfig::default(),
        data: DataConfig::default(),
    };
    let trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    let mut values = weights(&trainer.session.model.pools.table, "model.safetensors");
    // The golden batch is shorter than the checkpoint's context: only the first positions are used.
    let wpe = trainer.session.model.pools.table.iter().position(|p| p.name == "wpe").unwrap();
    values[wpe].truncate(16 * 32);
    block_on(gpu(), trainer.session.write_weights(|index, _| Ok(values[index].clone()))).unwrap();
    let rows: Vec<Vec<u32>> = golden["batch"].as_array().unwrap().iter().map(|r| numbers(r).iter().map(|&x| x as u32).collect()).collect();
    let ids = rows.iter().flat_map(|r| r[..16].to_vec()).collect();
    let targets = rows.iter().flat_map(|r| r[1..].to_vec()).collect();
    (trainer, ids, targets)
}

#[test]
fn logits_loss_and_greedy_tokens() {
    let golden = json("golden.json");
    let ids: Vec<u32> = numbers(&golden["ids"]).iter().map(|&x| x as u32).collect();
    let table = wgpt::low_level::model::params::table(&model());
    let weights = weights(&table, "model.safetensors");
    let mut generator = block_on(gpu(), Generator::new(gpu(), &model(), &weights, &Options::default())).unwrap();
    let got: Vec<f64> = generator.logits(&ids).unwrap().iter().map(|&x| f64::from(x)).collect();
    reference::finite_diff::assert_close("the last row of logits", &got, &numbers(&golden["logits_last"]), 1e-4, 0.0);
    let first: Vec<f64> = generator.logits(&ids[..1]).unwrap()[..8].iter().map(|&x| f64::from(x)).collect();
    reference::finite_diff::assert_close("the first row of logits", &first, &numbers(&golden["logits_row0_first8"]), 1e-4, 0.0);

    generator.prompt(&ids, &Sampling::greedy()).unwrap();
    let mut next = vec![];
    while next.len() < 12 {
        next.extend(generator.next_tokens(12 - next.len()).unwrap());
    }
    let want: Vec<u32> = numbers(&golden["greedy_next12"]).iter().map(|&x| x as u32).collect();
    assert_eq!(next, want);

    // The twin of the whole model, its f64 reference implementation, agrees with the same numbers.
    let shape = reference::model::ModelShape {
        layers: 2,
        heads: 4,
        d_model: 32,
        d_ff: 128,
        vocab: 512,
        activation_gelu: true,
        post_norm: false,
        sinusoidal: false,
        bias: true,
        tied: true,
        eps: 1e-5,
    };
    let index: HashMap<&str, usize> = table.iter().enumerate().map(|(i, p)| (p.name.as_str(), i)).collect();
    let find = |name: &str| weights[index[name]].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let loss = reference::model::loss(&shape, &find, &ids[..15], &ids[1..], 1, 15);
    assert!((loss - golden["loss"].as_f64().unwrap()).abs() < 1e-9, "{loss}");
}

#[test]
fn every_gradient() {
    let golden = json("golden_train.json");
    let (mut trainer, ids, targets) = trainer(&golden, 1e-3);
    trainer.step_on(&ids, &targets).unwrap();
    let reports = trainer.finish().unwrap();
    assert!((f64::from(reports[0].grad_norm) - golden["grad_norm"].as_f64().unwrap()).abs() < 1e-4, "{:?}", reports[0]);
    let want = tensors("golden_grads.safetensors");
    for param in &trainer.session.model.pools.table {
        let got = block_on(gpu(), trainer.session.read(&trainer.session.model.pools.grads(&param.name))).unwrap();
        let want = &want[&param.name][..got.len()];
        let square = |x: f32| f64::from(x) * f64::from(x);
        let distance = got.iter().zip(want).map(|(a, b)| square(a - b)).sum::<f64>().sqrt();
        let norm = want.iter().map(|&b| square(b)).sum::<f64>().sqrt();
        assert!(distance <= 1e-4 * norm, "{}: relative distance {}", param.name, distance / norm);
    }
}

#[test]
fn ten_steps_of_adamw() {
    let golden = json("golden_train.json");
    let (mut trainer, ids, targets) = trainer(&golden, golden["adamw"]["lr"].as_f64().unwrap());
    for _ in 0..10 {
        trainer.step_on(&ids, &targets).unwrap();
    }
    let reports = trainer.finish().unwrap();
    let losses: Vec<f64> = reports.iter().map(|r| f64::from(r.loss)).collect();
    let norms: Vec<f64> = reports.iter().map(|r| f64::from(r.grad_norm)).collect();
    reference::finite_diff::assert_close("losses", &losses, &numbers(&golden["losses"]), 1e-4, 0.0);
    reference::finite_diff::assert_close("gradient norms", &norms, &numbers(&golden["grad_norms"]), 1e-3, 0.0);
    let want = tensors("golden_after10.safetensors");
    for param in &trainer.session.model.pools.table {
        let got = block_on(gpu(), trainer.session.read(&trainer.session.model.pools.weights(&param.name))).unwrap();
        let got: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
        let want: Vec<f64> = want[&param.name][..got.len()].iter().map(|&x| f64::from(x)).collect();
        // The bias of a key adds the same number to all scores of a query, which softmax ignores: its gradient is 0 except for rounding,
        // which AdamW divides by its own size. Every other parameter must agree.
        let keys = if param.name.ends_with("attn.qkv.bias") { 32..64 } else { 0..0 };
        let compared = |values: &[f64]| values.iter().enumerate().filter(|(i, _)| !keys.contains(i)).map(|(_, &x)| x).collect::<Vec<_>>();
        reference::finite_diff::assert_close(&param.name, &compared(&got), &compared(&want), 2e-4, 1e-4);
    }
}
