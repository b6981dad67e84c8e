//! Two characters that speak within a frame budget, with one set of weights: how a game uses a run's folder.
//!
//!     cargo run --release -- train --preset toy
//!     cargo run --release --example npc -- runs/toy "hello" "how are"

use std::io::Write;
use std::time::{Duration, Instant};

use wgpt::{Budget, Decoder, Generator, Gpu, Options, Sampling, Trained, block_on};

/// Device time that each character may take of a frame.
const BUDGET: Duration = Duration::from_millis(1);
/// Tokens of an answer.
const TOKENS: usize = 12;

struct Character {
    decoder: Decoder,
    generator: Generator,
    /// Tokens still to be generated.
    missing: usize,
    said: String,
}

impl Character {
    /// One frame: collects the tokens that are finished, and encodes the next part of the work.
    fn frame(&mut self, encoder: &mut wgpu::CommandEncoder) -> wgpt::Result<wgpt::Ticket> {
        for id in self.generator.poll()? {
            self.said += &self.decoder.push(id)?;
            self.missing -= 1;
        }
        self.generator.encode(encoder, Budget::time(BUDGET))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let run = words.next().ok_or("usage: npc RUN PROMPT...")?;
    // The game's own device; `Limits::default()` and no feature are enough.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle().with_env());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let gpu = Gpu::from_wgpu(device, queue);

    // A loading screen: the first character uploads the weights and compiles, each further one allocates its key/value cache only.
    let trained = Trained::open(&run)?;
    let options = Options { fine: true, ..Options::default() };
    let first = block_on(&gpu, trained.generator(&gpu, &options))?;
    let weights = first.shared_weights();
    println!(
        "weights and one character on the device; each further one takes {} bytes",
        Generator::memory_sharing(&gpu, &weights, &options)?
    );
    let mut generators = vec![first];
    let prompts: Vec<String> = words.collect();
    for _ in 1..prompts.len() {
        let mut generator = block_on(&gpu, Generator::sharing(&gpu, &weights, &options))?;
        block_on(&gpu, generator.forbid(&trained.wordless()))?;
        generators.push(generator);
    }

    let mut characters = vec![];
    for (mut generator, prompt) in generators.into_iter().zip(&prompts) {
        generator.begin(&trained.tokenizer.encode(prompt)?, &Sampling { temperature: 0.8, ..Sampling::default() }, TOKENS)?;
        characters.push(Character { decoder: trained.tokenizer.decoder(), generator, missing: TOKENS, said: prompt.clone() });
    }
    let (begun, mut frames) = (Instant::now(), 0u32);
    while characters.iter().any(|character| character.missing > 0) {
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let tickets = characters.iter_mut().map(|character| character.frame(&mut encoder)).collect::<wgpt::Result<Vec<_>>>()?;
        // ... the game's own passes, into the same encoder ...
        gpu.queue().submit([encoder.finish()]);
        tickets.into_iter().for_each(|ticket| ticket.submitted());
        frames += 1;
        std::thread::sleep(Duration::from_millis(4));
    }
    for character in characters {
        writeln!(std::io::stdout(), "{}{}", character.said, character.decoder.finish())?;
    }
    println!("{frames} frames in {:.1?}", begun.elapsed());
    Ok(())
}
