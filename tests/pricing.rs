//! The memory of a model is computed without allocating it: the plan of a large model itself takes little host memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wgpt::Result;
use wgpt::low_level::gpu::Traits;
use wgpt::low_level::gpu::memory::layout;
use wgpt::low_level::model::config::{MAX_LAYERS, PositionEncoding};
use wgpt::low_level::model::session::Memory;
use wgpt::low_level::train::trainer::record;
use wgpt::{Gpu, ModelConfig, Options, RunConfig, TrainConfig, Trainer, presets};

/// The system's allocator, counting the bytes allocated by the calling thread.
struct Counting;

thread_local! {
    static HELD: Cell<[usize; 2]> = const { Cell::new([0, 0]) };
}

fn count(taken: usize, given: usize) {
    // A thread also frees memory after its thread-locals are destroyed.
    let _ = HELD.try_with(|held| {
        let [now, most] = held.get();
        let now = (now + taken).saturating_sub(given);
        held.set([now, most.max(now)]);
    });
}

// SAFETY: every call is forwarded to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The peak of bytes that this thread allocates during `work`, beyond those allocated before.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let [before, _] = HELD.get();
    HELD.set([before, before]);
    let result = work();
    (HELD.get()[1] - before, result)
}

/// A device that executes nothing, with the default limits.
fn noop() -> Gpu {
    let mut descriptor =
        wgpu::InstanceDescriptor { backends: wgpu::Backends::NOOP, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    descriptor.backend_options.noop.enable = true;
    let adapters = pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::NOOP));
    let opened = pollster::block_on(adapters[0].request_device(&wgpu::DeviceDescriptor::default()));
    let (device, queue) = opened.expect("the noop device");
    Gpu::from_wgpu(device, queue)
}

/// The memory that training would take on a device, and the peak of host memory for computing it.
fn priced(gpu: &Gpu, model: ModelConfig, batch_size: usize) -> (usize, Result<Memory>) {
    let config = config(model, batch_size);
    peak(|| Trainer::memory(gpu, &config, &Options::default()))
}

fn config(model: ModelConfig, batch_size: usize) -> RunConfig {
    RunConfig { model, train: TrainConfig { batch_size, ..TrainConfig::default() }, ..presets::preset("toy").unwrap() }
}

const ENOUGH: usize = 100_000_000;

/// GPT-3's 175 billion parameters (Brown et al. 2020, table 2.1).
fn gpt3() -> ModelConfig {
    ModelConfig {
        n_layer: 96,
        n_head: 96,
        d_model: 12_288,
        d_ff: 0,
        seq_len: 2048,
        vocab_size: 50_257,
        position: PositionEncoding::Learned,
        dropout: 0.1,
        ..ModelConfig::default()
    }
}

#[test]
fn gpt3_is_priced_within_100_megabytes() {
    // Its largest matrices take 2.25 GiB.
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 1 << 32, max_buffer_size: 1 << 32, ..wgpu::Limits::default() };
    let traits = Traits { limits, ..Traits::default() };
    let config = config(gpt3(), 1);
    let price = || layout(&record(&config, &traits)?.plan, &traits.limits, &[]);
    let (held, priced) = peak(price);
    let total = priced.unwrap().total();
    assert!(total > gpt3().parameters() * 16, "{total} bytes on the device");
    assert!(held < ENOUGH, "{held} bytes");
}

#[test]
fn the_deepest_model_is_priced_too_and_a_deeper_one_refused() {
    let deep = |n_layer| ModelConfig { n_layer, n_head: 1, d_model: 4, d_ff: 4, seq_len: 16, ..ModelConfig::default() };
    let of = |n_layer| priced(&noop(), ModelConfig { vocab_size: 50, ..deep(n_layer) }, 1);
    let (held, memory) = of(MAX_LAYERS);
    let (memory, parameters) = (memory.unwrap(), ModelConfig { vocab_size: 50, ..deep(MAX_LAYERS) }.parameters());
    assert!(memory.total > parameters * 16, "{memory:?}");
    assert!(held < 4 * ENOUGH, "{held} bytes");
    let (held, refused) = of(1 << 24);
    assert_eq!(refused.unwrap_err().to_string(), format!("model.n_layer = 16777216: needs 1 to {MAX_LAYERS}"));
    assert!(held < 10_000, "{held} bytes");
}

/// Here the logits of one token fill two chunks, and the table is split over 127 bindings.
#[test]
fn a_vocabulary_too_large_for_a_batch_is_refused_before_it_is_recorded() {
    let model = |d_model| ModelConfig { n_layer: 1, n_head: d_model / 4, d_model, seq_len: 1024, vocab_size: 1 << 24, ..gpt3() };
    let (held, refused) = priced(&noop(), model(252), 4);
    let refused = refused.unwrap_err().to_string();
    let start =
        "the logits of 4 x 1024 tokens over model.vocab_size = 16777216, whose table lies in 127 bindings, take 780288 matrix products";
    assert!(refused.starts_with(start), "{refused}");
    assert!(held < ENOUGH, "{held} bytes");
    let (held, memory) = priced(&noop(), model(4), 4);
    assert!(memory.unwrap().total > model(4).parameters() * 16);
    assert!(held < ENOUGH, "{held} bytes");
}
