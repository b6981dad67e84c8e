//! The embedding table in the plane: its two main directions, followed from one read-back to the next.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wgpt::Result;
use wgpt::gpu::Gpu;
use wgpt::model::FORWARD;
use wgpt::model::view::View;
use wgpt::text::Tokenizer;
use wgpt::train::Trainer;

/// Tokens that are shown with their names: more would hide each other.
const SHOWN: usize = 64;
/// How often the table is read back.
const EVERY: Duration = Duration::from_millis(400);

pub struct Table {
    view: View,
    staging: wgpu::Buffer,
    arrived: Arc<Mutex<Option<bool>>>,
    /// When the table was last asked for, and whether it is on its way.
    asked: Instant,
    coming: bool,
    /// The two directions, of unit length.
    axes: [Vec<f32>; 2],
    pub names: Vec<String>,
    ids: Vec<usize>,
    /// Places in [-1, 1]², as they are, and as they are drawn on their way there.
    target: Vec<[f32; 2]>,
    pub places: Vec<[f32; 2]>,
}

impl Table {
    pub async fn new(gpu: &Gpu, trainer: &mut Trainer, tokenizer: &Tokenizer) -> Result<Table> {
        let view = trainer.tap("wte", FORWARD).await?;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = gpu.create_buffer("table", view.bytes, usage);
        let letters = |token: &str| token.chars().any(char::is_alphabetic) && token.len() < 14;
        let named = |id: usize| Some((id, tokenizer.token(id as u32).ok()?)).filter(|(_, token)| letters(token));
        let (ids, names) = (0..view.shape[0]).filter_map(named).take(SHOWN).unzip();
        let width = view.shape[1];
        let axis = |seed: usize| (0..width).map(|i| if (i * 7 + seed) % 3 == 0 { 1.0 } else { -0.4 }).collect();
        let (arrived, axes) = (Arc::default(), [axis(0), axis(1)]);
        Ok(Table { view, staging, arrived, asked: Instant::now(), coming: false, axes, names, ids, target: vec![], places: vec![] })
    }

    /// Asks for the table now and then, and takes it when it has come.
    pub fn poll(&mut self, gpu: &Gpu) -> Result<()> {
        let arrived = self.arrived.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(whole) = arrived {
            self.coming = false;
            if whole && let Ok(bytes) = self.staging.get_mapped_range(..) {
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                drop(bytes);
                self.staging.unmap();
                self.project(&values);
            }
        }
        if !self.coming && self.asked.elapsed() > EVERY {
            (self.coming, self.asked) = (true, Instant::now());
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("table") });
            encoder.copy_buffer_to_buffer(&self.view.buffer, self.view.offset, &self.staging, 0, self.view.bytes);
            let arrived = self.arrived.clone();
            encoder.map_buffer_on_submit(&self.staging, wgpu::MapMode::Read, .., move |result| {
                *arrived.lock().unwrap_or_else(|e| e.into_inner()) = Some(result.is_ok());
            });
            gpu.queue().submit([encoder.finish()]);
        }
        for (place, target) in self.places.iter_mut().zip(&self.target) {
            (0..2).for_each(|i| place[i] += 0.15 * (target[i] - place[i]));
        }
        Ok(())
    }

    /// Principal components by power iteration, begun from the last ones so that the picture does not turn over.
    fn project(&mut self, values: &[f32]) {
        let width = self.view.shape[1];
        let rows: Vec<&[f32]> = self.ids.iter().map(|&id| &values[id * width..(id + 1) * width]).collect();
        let mean: Vec<f32> = (0..width).map(|c| rows.iter().map(|row| row[c]).sum::<f32>() / rows.len().max(1) as f32).collect();
        let centred: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
        for _ in 0..4 {
            for which in 0..2 {
                let mut next = vec![0.0; width];
                for row in &centred {
                    let along = dot(row, &self.axes[which]);
                    next.iter_mut().zip(row).for_each(|(sum, x)| *sum += along * x);
                }
                if which == 1 {
                    let along = dot(&next, &self.axes[0]);
                    let first = self.axes[0].clone();
                    next.iter_mut().zip(&first).for_each(|(x, f)| *x -= along * f);
                }
                let length = dot(&next, &next).sqrt();
                if length > 1e-20 {
                    self.axes[which] = next.iter().map(|x| x / length).collect();
                }
            }
        }
        let places: Vec<[f32; 2]> = centred.iter().map(|row| [dot(row, &self.axes[0]), dot(row, &self.axes[1])]).collect();
        // A few far ones may stand at the border rather than press the others together.
        let reach = |i: usize| {
            let mut lengths: Vec<f32> = places.iter().map(|place| place[i].abs()).collect();
            lengths.sort_by(f32::total_cmp);
            lengths.get(lengths.len() * 9 / 10).copied().unwrap_or(1.0).max(1e-9) * 1.15
        };
        let (x, y) = (reach(0), reach(1));
        self.target = places.iter().map(|place| [(place[0] / x).clamp(-1.0, 1.0), (place[1] / y).clamp(-1.0, 1.0)]).collect();
        if self.places.is_empty() {
            self.places.clone_from(&self.target);
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
