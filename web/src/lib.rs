//! Trains a model and generates text in a browser, on the page's WebGPU device.
//!
//! Nothing here blocks: the page calls [`Run::frame`] once per frame, and promises resolve between frames.

use std::time::Duration;

use serde_json::json;
use wasm_bindgen::prelude::*;
use wgpt::{Budget, Corpus, Generator, Gpu, Options, Sampling, Tokenizer, Trainer, presets};
use wgpt::low_level::gpu::adapter;
use wgpt::low_level::text::text_from_bytes;

/// A training run of a preset on the page's text.
#[wasm_bindgen]
pub struct Run {
    gpu: Gpu,
    tokenizer: Tokenizer,
    corpus: Corpus,
    trainer: Trainer,
    generator: Option<Generator>,
}

/// Converts an error for the page.
fn told(error: impl std::fmt::Display) -> JsError {
    JsError::new(&error.to_string())
}

#[wasm_bindgen]
impl Run {
    /// Requests a device from the browser and creates a model for a UTF-8 text; `steps` is the length of the schedule.
    ///
    /// # Errors
    /// Without WebGPU, for an unknown preset, or for bytes that are not text.
    pub async fn open(preset: String, text: Vec<u8>, steps: u32) -> Result<Run, JsError> {
        std::panic::set_hook(Box::new(|panic| wasm_bindgen::throw_str(&panic.to_string())));
        let opened = Gpu::request(&adapter::Request::default()).await.map_err(told)?;
        // Borrows the device, as from a page that also renders with it: the device's errors are reported to the page's handler.
        let gpu = Gpu::from_wgpu(opened.device().clone(), opened.queue().clone());
        let mut config = presets::preset(&preset).map_err(told)?;
        let text = text_from_bytes(text, "the text").map_err(told)?;
        let (tokenizer, corpus) = Corpus::build(&config.data, &[text], &config.tokenizer, None).map_err(told)?;
        config.model = config.model.with_vocab(tokenizer.vocab_size()).map_err(told)?;
        config.train.steps = steps.into();
        let trainer = Trainer::new(&gpu, &config, &options()).await.map_err(told)?;
        Ok(Run { gpu, tokenizer, corpus, trainer, generator: None })
    }

    /// The kernel variants in use, as arguments of `wgpt train --variant`.
    pub fn variants(&self) -> Vec<String> {
        self.trainer.session.compiled.variants.iter().map(ToString::to_string).collect()
    }

    /// Submits up to `milliseconds` of training, until `steps` steps are submitted; returns the reports that have arrived, as JSON.
    ///
    /// # Errors
    /// For a lost device, a rejected slice, or a loss that is not finite.
    pub fn frame(&mut self, steps: u32, milliseconds: f64) -> Result<String, JsError> {
        let left = u64::from(steps).saturating_sub(self.trainer.step_count());
        if left > 0 {
            let budget = Budget::time(Duration::from_secs_f64(milliseconds / 1e3)).steps(left);
            self.trainer.advance(&self.corpus.train, budget).map_err(told)?;
        }
        let mut reports = vec![];
        while let Some(report) = self.trainer.poll().map_err(told)? {
            reports.push(json!({ "step": report.step, "loss": report.loss }));
        }
        Ok(json!(reports).to_string())
    }

    /// Starts generating `tokens` tokens after a prompt, at temperature 1, with the current weights.
    ///
    /// # Errors
    /// For a prompt without tokens.
    pub async fn begin(&mut self, prompt: String, tokens: usize, seed: u32) -> Result<(), JsError> {
        let ids = self.tokenizer.encode(&prompt).map_err(told)?;
        let generator = Generator::sharing(&self.gpu, &self.trainer.shared_weights(), &options()).await;
        let mut generator = generator.map_err(told)?;
        generator.forbid(self.tokenizer.unknown().as_slice()).await.map_err(told)?;
        generator.begin(&ids, &Sampling { seed: seed.into(), ..Sampling::default() }, tokens).map_err(told)?;
        self.generator = Some(generator);
        Ok(())
    }

    /// Submits up to `milliseconds` of generation; returns the text drawn since the last call.
    ///
    /// # Errors
    /// For a lost device, for weights that are not finite, or before [`Run::begin`].
    pub fn write(&mut self, milliseconds: f64) -> Result<String, JsError> {
        let generator = self.generator.as_mut().ok_or_else(|| told("nothing was begun"))?;
        generator.advance(Budget::time(Duration::from_secs_f64(milliseconds / 1e3))).map_err(told)?;
        let ids = generator.poll().map_err(told)?;
        self.tokenizer.decode(&ids).map_err(told)
    }

    /// Submits a slice of training in one encoder with an invalid command, so that the browser rejects both.
    ///
    /// # Errors
    /// As [`Run::frame`].
    pub fn spoil(&mut self) -> Result<(), JsError> {
        let (device, usage) = (self.gpu.device(), wgpu::BufferUsages::COPY_DST);
        let small = device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 4, usage, mapped_at_creation: false });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("spoilt") });
        let ticket = self.trainer.encode(&mut encoder, &self.corpus.train, Budget::dispatches(1)).map_err(told)?;
        encoder.clear_buffer(&small, 0, Some(8));
        self.gpu.queue().submit([encoder.finish()]);
        ticket.submitted();
        Ok(())
    }
}

/// Fine slices, which fit between two frames.
fn options() -> Options {
    Options { fine: true, ..Options::default() }
}
