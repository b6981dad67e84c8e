//! PyTorch's golden numbers prove the whole step: assets/golden/tiny-gpt2 has a GPT-2 checkpoint in the Hugging Face layout with logits,
//! gradients and ten AdamW steps computed in float64 (by the scripts in the same folder).

mod common;

use std::collections::HashMap;
use std::path::PathBuf;

use common::{gpu, root};
use safetensors::SafeTensors;
use wgpt::low_level::gpu::kernel::KernelSource;
use wgpt::low_level::gpu::variants::Choice;
use wgpt::low_level::model::config::PositionEncoding;
use wgpt::low_level::model::params::Param;
use wgpt::low_level::ops::SOURCES;
use wgpt::low_level::reference;
use wgpt::low_level::train::config::{Schedule, StorageDtype};
use wgpt::{DataConfig, Generator, ModelConfig, Options, RunConfig, Sampling, TokenizerConfig, TrainConfig, Trainer, block_on};

fn folder() -> PathBuf {
    root().join("assets/golden/tiny-gpt2")
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
    trainer_storing(StorageDtype::F32, &Options::default(), golden, learning_rate)
}

/// The same with activations of another type.
fn trainer_storing(
    storage: StorageDtype,
    options: &Options,
    golden: &serde_json::Value,
    learning_rate: f64,
) -> (Trainer, Vec<u32>, Vec<u32>) {
    let adamw = &golden["adamw"];
    let config = RunConfig {
        model: ModelConfig { seq_len: 16, ..model() },
        train: TrainConfig {
            batch_size: 4,
            storage,
            learning_rate,
            min_learning_rate: 0.0,
            schedule: Schedule::Constant,
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
    let trainer = block_on(gpu(), Trainer::new(gpu(), &config, options)).unwrap();
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
    assert_gradients(&trainer, 1.0, 1e-4);
}

/// Every gradient, divided by the loss scale, is within `may` of PyTorch's, relative to its norm.
fn assert_gradients(trainer: &Trainer, loss_scale: f64, may: f64) {
    let want = tensors("golden_grads.safetensors");
    for param in &trainer.session.model.pools.table {
        let got = block_on(gpu(), trainer.session.read(&trainer.session.model.pools.grads(&param.name))).unwrap();
        let want = &want[&param.name][..got.len()];
        let square = |x: f64| x * x;
        let apart = got.iter().zip(want).map(|(&a, &b)| square(f64::from(a) / loss_scale - f64::from(b))).sum::<f64>().sqrt();
        let norm = want.iter().map(|&b| square(f64::from(b))).sum::<f64>().sqrt();
        assert!(apart <= may * norm, "{}: relative distance {}", param.name, apart / norm);
    }
}

/// With activations in f16, in the default variants, and in those with cooperative matrices where the adapter can run them. f16 has 11 bits,
/// so a rounding has an error of up to 2⁻¹¹, 0.05 %, and a gradient passes some twenty of them.
#[test]
fn every_gradient_in_f16() {
    let golden = json("golden_train.json");
    let cooperative = cooperative_variants();
    for variants in [Some(vec![]), Some(cooperative).filter(|list| !list.is_empty())].into_iter().flatten() {
        let options = Options { variants: variants.clone(), ..Options::default() };
        let (mut trainer, ids, targets) = trainer_storing(StorageDtype::F16, &options, &golden, 1e-3);
        for wanted in variants {
            let used = |found: &Choice| found.file() == wanted.kernel && found.variant == wanted.variant;
            assert!(trainer.session.compiled.variants.iter().any(used), "no dispatch of {} uses {}", wanted.kernel, wanted.variant);
            println!("checked {}[{}]", wanted.kernel, wanted.variant);
        }
        trainer.step_on(&ids, &targets).unwrap();
        let report = trainer.finish().unwrap()[0];
        let want = golden["losses"][0].as_f64().unwrap();
        assert!((f64::from(report.loss) - want).abs() < 6e-4, "PyTorch has {want}: {report:?}");
        assert_gradients(&trainer, f64::from(report.loss_scale), 6e-3);
    }
}

/// The variants with cooperative matrices that the adapter can run.
fn cooperative_variants() -> Vec<Choice> {
    let able = |source: &'static KernelSource| {
        let variants = source.variants.iter().filter(|v| v.name.contains("cooperative") && (v.runs)(gpu().traits()));
        variants.map(|v| Choice { kernel: source.file.to_owned(), class: None, variant: v.name.to_owned() })
    };
    SOURCES.iter().copied().flat_map(able).collect()
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
