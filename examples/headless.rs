//! Trains without a window: the host opens a device, the model learns a text of two lines and continues one of them.
//!
//!     cargo run --release --example headless

use wgpt::{Corpus, Generator, Gpu, Options, Sampling, StepReport, Trainer, block_on, presets};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Any device works, with `Limits::default()` and no features; an application would pass the device it renders with.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle().with_env());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let gpu = Gpu::from_wgpu(device, queue);
    println!("{}: {}", gpu.info().name, gpu.info().driver_info);

    // Tokenizes the text and sizes the model for its vocabulary.
    let mut config = presets::preset("toy")?;
    let (tokenizer, corpus) = Corpus::build(&config.data, &[presets::TOY_TEXT], &config.tokenizer, None)?;
    config.model = config.model.with_vocab(tokenizer.vocab_size())?;

    // Steps are submitted without blocking; their reports arrive later.
    let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default()))?;
    let print = |report: &StepReport| {
        if report.step == 1 || report.step.is_multiple_of(50) {
            println!("step {:4}  loss {:.4}", report.step, report.loss);
        }
    };
    for _ in 0..config.train.steps {
        trainer.step(&corpus.train, true, &|| false)?;
        trainer.reports()?.iter().for_each(print);
    }
    trainer.finish()?.iter().for_each(print);

    // The generator borrows the trainer's weight buffers: it always uses the current weights.
    let weights = trainer.shared_weights();
    let mut generator = block_on(&gpu, Generator::sharing(&gpu, &weights, &Options::default()))?;
    let mut ids = tokenizer.encode("hello")?;
    generator.prompt(&ids, &Sampling::greedy())?;
    ids.extend(generator.next_tokens(6 - ids.len())?);
    println!("{}", tokenizer.decode(&ids)?);
    Ok(())
}
