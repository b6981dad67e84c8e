//! The shortest training: a preset, its text, its loss.
//!
//!     cargo run --release --example minimal

use wgpt::{Corpus, Gpu, Options, Request, Trainer, block_on, presets};

fn main() -> wgpt::Result<()> {
    let mut config = presets::preset("toy")?;
    let (tokenizer, corpus) = Corpus::build(&config.data, &[presets::TOY_TEXT], &config.tokenizer, None)?;
    config.model = config.model.with_vocab(tokenizer.vocab_size())?;
    let gpu = pollster::block_on(Gpu::request(&Request::default()))?;
    let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default()))?;
    for _ in 0..config.train.steps {
        trainer.step(&corpus.train, false, &|| false)?;
    }
    trainer.finish()?.iter().step_by(50).for_each(|report| println!("step {:3}  loss {:.4}", report.step, report.loss));
    Ok(())
}
