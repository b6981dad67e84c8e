//! A model without a window: a device that the host opens, a text of two lines, and a line from the model when it has learned them.
//!
//!     cargo run --release --example headless

use wgpt::generate::{Generator, Sampling};
use wgpt::gpu::{Gpu, options::Options, wait::block_on};
use wgpt::text::Corpus;
use wgpt::train::{StepReport, Trainer, presets};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Any device will do, with `Limits::default()` and no feature; this one could have been opened for something else.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle().with_env());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let gpu = Gpu::from_wgpu(device, queue);
    println!("{}: {}", gpu.info().name, gpu.info().driver_info);

    // The text becomes tokens, and the model gets as many rows as there are tokens.
    let mut config = presets::preset("toy")?;
    let (tokenizer, corpus) = Corpus::build(&config.data, &[presets::TOY_TEXT], &config.tokenizer, None)?;
    config.model = config.model.with_vocab(tokenizer.vocab_size())?;

    // Steps are submitted without waiting; the reports come when they come.
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

    // The generator reads the trainer's own weights: what it writes is what the model would write now.
    let weights = trainer.shared_weights();
    let mut generator = block_on(&gpu, Generator::sharing(&gpu, &weights, &Options::default()))?;
    let mut ids = tokenizer.encode("hello")?;
    generator.prompt(&ids, &Sampling::greedy())?;
    ids.extend(generator.next_tokens(6 - ids.len())?);
    println!("{}", tokenizer.decode(&ids)?);
    Ok(())
}
