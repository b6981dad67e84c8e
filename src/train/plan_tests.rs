//! Properties of the plans of every preset and every option, on any device.

use super::config::{RunConfig, StorageDtype, TrainConfig};
use super::presets::{PRESETS, preset};
use super::trainer::record;
use crate::gpu::Traits;
use crate::gpu::kernel::{Access, Binding};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};
use crate::model::config::{ModelConfig, Norm, PositionEncoding};
use crate::model::decode::DecodeModel;
use crate::model::{BACKWARD, Model};

/// A graphics card that allows buffers of any size.
fn large() -> Traits {
    let limits = wgpu::Limits { max_storage_buffer_binding_size: u64::MAX, max_buffer_size: u64::MAX, ..wgpu::Limits::default() };
    Traits { limits, ..Traits::default() }
}

fn small() -> RunConfig {
    let model = ModelConfig { n_head: 2, d_model: 24, d_ff: 28, seq_len: 5, vocab_size: 11, ..ModelConfig::default() };
    RunConfig { model, train: TrainConfig { batch_size: 3, ..TrainConfig::default() }, ..preset("toy").unwrap() }
}

/// Every preset with and without biases, and a small model in every combination of the options that change the set of dispatches.
fn configs() -> Vec<(String, RunConfig)> {
    let mut configs = vec![];
    for (name, _) in PRESETS {
        for bias in [true, false] {
            let mut config = preset(name).unwrap();
            config.model.bias = bias;
            config.model.vocab_size = config.model.vocab_size.max(77);
            configs.push((format!("{name}, bias {bias}"), config));
        }
    }
    for combination in 0..16 {
        let on = |bit: u32| combination >> bit & 1 == 1;
        let mut config = small();
        config.model.bias = on(0);
        config.model.tied_head = on(1);
        config.model.dropout = if on(2) { 0.1 } else { 0.0 };
        config.train.storage = match (on(3), on(0)) {
            (false, _) => StorageDtype::F32,
            (true, false) => StorageDtype::Bf16,
            (true, true) => StorageDtype::F16,
        };
        // Positions and norms change no binding and no storage: each of their values is used in half of the combinations.
        config.model.position = if on(0) != on(3) { PositionEncoding::Learned } else { PositionEncoding::Sinusoidal };
        config.model.norm = if on(1) != on(3) { Norm::Pre } else { Norm::Post };
        configs.push((format!("{:?} in {:?}", config.model, config.train.storage), config));
    }
    configs
}

/// WebGPU refuses two kinds of bindings, and a browser then drops the whole command buffer: a buffer bound both for reading and for
/// writing, and a range bound twice for writing.
fn check_bindings(name: &str, plan: &Plan) {
    for dispatch in plan.dispatches() {
        let bound: Vec<(&Binding, &Tensor)> = dispatch.kernel.interfaces()[0].bindings.iter().zip(&dispatch.tensors).collect();
        for (index, (a, x)) in bound.iter().enumerate() {
            assert_eq!(a.dtype, x.dtype, "{name}: {} {}", dispatch.kernel.name(), a.name);
            for (b, y) in bound[index + 1..].iter().filter(|(_, y)| y.storage == x.storage) {
                let writes = [a, b].map(|binding| matches!(binding.access, Access::Write | Access::ReadWrite));
                let meet = x.offset < y.offset + y.bytes() && y.offset < x.offset + x.bytes();
                let fine = writes == [false, false] || writes == [true, true] && !meet;
                assert!(fine, "{name}: {} binds `{}` and `{}` to {x:?}, {y:?}", dispatch.kernel.name(), a.name, b.name);
            }
        }
    }
}

#[test]
fn no_dispatch_of_any_plan_binds_what_a_browser_refuses() {
    for (name, config) in configs() {
        let training = record(&config, &large()).unwrap();
        check_bindings(&name, &training.plan);
        let written = training.plan.dispatches().filter(|dispatch| dispatch.kernel.name().starts_with("layer_norm.finish")).count();
        assert!(written > 0, "{name}: no norm is trained");
        // Plans without gradients do not depend on `train.storage`.
        if config.train.storage == StorageDtype::F32 {
            check_bindings(&name, &DecodeModel::new(&config.model, &large()).unwrap().plan);
        }
    }
    check_bindings("evaluation", &Model::evaluation(&small().model, 3, &large()).unwrap().plan);
    check_bindings("inference", &Model::inference(&small().model, 2, &large()).unwrap().plan);
}

/// Sums are f32 whatever the element type of activations; activations, which are multiplied, have that type.
#[test]
fn types_follow_from_roles() {
    for storage in [StorageDtype::Bf16, StorageDtype::F16] {
        types_follow(storage);
    }
}

fn types_follow(storage: StorageDtype) {
    let mut config = small();
    config.train.storage = storage;
    let model = record(&config, &large()).unwrap();
    let mut packed = 0;
    for tensor in model.plan.tensors() {
        let class = model.plan.storages()[tensor.storage].class;
        match class {
            "activations" => assert_eq!(tensor.dtype, storage.into(), "{tensor:?}"),
            "statistics" | "gradients" | "optimizer" => assert_eq!(tensor.dtype, Dtype::F32, "{tensor:?}"),
            _ => {}
        }
        packed += usize::from(tensor.dtype.is_packed());
    }
    assert!(packed > 0 && model.plan.tensors().any(|tensor| &*tensor.name == "norm_partials"));
}

/// The weights of a model have the same offsets for every element type: a generator, whose plan is f32, shares those of a bf16 trainer.
#[test]
fn every_storage_has_the_same_pools() {
    // With 40 columns, f32 slices begin at any multiple of 256 bytes, and slices of half the size between two of them.
    let mut config = small();
    config.model = ModelConfig { d_model: 40, vocab_size: 13, position: PositionEncoding::Learned, ..config.model };
    for tied_head in [true, false] {
        config.model.tied_head = tied_head;
        let of = |storage| {
            let train = TrainConfig { storage, ..config.train.clone() };
            record(&RunConfig { train, ..config.clone() }, &large()).unwrap()
        };
        let (whole, packed, decoder) = (of(StorageDtype::F32), of(StorageDtype::Bf16), DecodeModel::new(&config.model, &large()).unwrap());
        assert_eq!(whole.pools.slices, packed.pools.slices);
        assert_eq!(whole.pools.slices, decoder.pools.slices);
        // The cast of the whole range must write each element to where the packed copy of its tensor expects it.
        let casts = packed.plan.dispatches().filter(|dispatch| dispatch.kernel.name() == "cast.forward");
        let stretches: Vec<(Tensor, Tensor)> = casts.map(|cast| (cast.tensors[0].clone(), cast.tensors[1].clone())).collect();
        for param in packed.pools.table.iter().filter(|param| param.multiplies()) {
            let (master, copy) = (&packed.pools.weights(&param.name)[0], &packed.pools.operands(&param.name)[0]);
            let holds = |whole: &Tensor, part: &Tensor| whole.offset <= part.offset && part.end() <= whole.end();
            let found: Vec<_> = stretches.iter().filter(|(from, to)| holds(from, master) && holds(to, copy)).collect();
            let [(from, to)] = found[..] else { panic!("{} is cast {} times", param.name, found.len()) };
            assert_eq!((master.offset - from.offset) / 4, (copy.offset - to.offset) / 2, "{}", param.name);
        }
        assert!(stretches.len() > 1, "the sizes of this test need more than one stretch");
        assert!(packed.plan.flops(BACKWARD) > 0);
    }
}
