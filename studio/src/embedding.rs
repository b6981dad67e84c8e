//! The embedding table in two dimensions: its first two principal components, tracked from one read-back to the next.

use std::sync::{Arc, Mutex};

use eframe::egui::{self, Align2, Pos2, Rect, Stroke, Vec2};
use wgpt::{Gpu, Result, View};

use crate::open::{Opened, shown};
use crate::style::{ACCENT, CARD, FAINT, LINE, QUIET, TEXT, font};

/// Number of tokens shown: the most frequent in the text.
const SHOWN: usize = 160;

pub struct Table {
    /// The parts of the table; and for each token shown, its part and the byte offset of its row.
    parts: Vec<View>,
    rows: Vec<(usize, u64)>,
    width: usize,
    staging: wgpu::Buffer,
    arrived: Arc<Mutex<Option<bool>>>,
    coming: bool,
    /// The two principal directions, of unit length.
    axes: [Vec<f32>; 2],
    names: Vec<String>,
    /// The rows that were read back last, minus their mean.
    vectors: Vec<Vec<f32>>,
    /// Positions in [-1, 1]²: where the words belong, and where they are drawn while they move there.
    target: Vec<[f32; 2]>,
    places: Vec<[f32; 2]>,
}

impl Table {
    pub fn new(gpu: &Gpu, opened: &Opened) -> Result<Table> {
        let parts = opened.trainer.view("wte")?;
        let width = parts[0].shape[1];
        let ids = frequent(opened)?;
        let mut rows = vec![];
        for &id in &ids {
            let mut row = id as usize;
            let mut part = 0;
            while part + 1 < parts.len() && row >= parts[part].shape[0] {
                row -= parts[part].shape[0];
                part += 1;
            }
            rows.push((part, parts[part].offset + (row * width * 4) as u64));
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = gpu.create_buffer("embedding", (rows.len().max(1) * width * 4) as u64, usage);
        let axis = |seed: usize| (0..width).map(|i| if (i * 7 + seed).is_multiple_of(3) { 1.0 } else { -0.4 }).collect();
        Ok(Table {
            parts,
            rows,
            width,
            staging,
            arrived: Arc::default(),
            coming: false,
            axes: [axis(0), axis(1)],
            names: ids.iter().map(|&id| shown(&opened.token(id))).collect(),
            vectors: vec![],
            target: vec![],
            places: vec![],
        })
    }

    /// Copies the shown rows, a few KB, after the commands in `encoder`, and maps the copy when they have run.
    pub fn copy(&mut self, encoder: &mut wgpu::CommandEncoder) {
        if self.coming || self.rows.is_empty() {
            return;
        }
        self.coming = true;
        let bytes = (self.width * 4) as u64;
        for (index, &(part, from)) in self.rows.iter().enumerate() {
            encoder.copy_buffer_to_buffer(&self.parts[part].buffer, from, &self.staging, index as u64 * bytes, bytes);
        }
        let arrived = self.arrived.clone();
        encoder.map_buffer_on_submit(&self.staging, wgpu::MapMode::Read, .., move |result| {
            *arrived.lock().unwrap_or_else(|e| e.into_inner()) = Some(result.is_ok());
        });
    }

    /// Reads the rows if they have arrived, and moves the words towards their positions.
    pub fn poll(&mut self) {
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
        for (place, target) in self.places.iter_mut().zip(&self.target) {
            (0..2).for_each(|i| place[i] += 0.12 * (target[i] - place[i]));
        }
    }

    /// Principal components by power iteration, started from the previous ones so that the picture does not flip.
    fn project(&mut self, values: &[f32]) {
        let rows: Vec<&[f32]> = values.chunks_exact(self.width).collect();
        let mean: Vec<f32> = (0..self.width).map(|c| rows.iter().map(|row| row[c]).sum::<f32>() / rows.len() as f32).collect();
        self.vectors = rows.iter().map(|row| row.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
        for which in [0, 1, 0, 1, 0, 1, 0, 1] {
            let mut next = vec![0.0; self.width];
            for row in &self.vectors {
                let along = dot(row, &self.axes[which]);
                next.iter_mut().zip(row).for_each(|(sum, x)| *sum += along * x);
            }
            if which == 1 {
                let along = dot(&next, &self.axes[0]);
                next.iter_mut().zip(&self.axes[0]).for_each(|(x, first)| *x -= along * first);
            }
            let length = dot(&next, &next).sqrt();
            if length > 1e-20 {
                self.axes[which] = next.iter().map(|x| x / length).collect();
            }
        }
        let places: Vec<[f32; 2]> = self.vectors.iter().map(|row| [dot(row, &self.axes[0]), dot(row, &self.axes[1])]).collect();
        // Clamps the farthest few to the border, so that the others are not squeezed together.
        let reach = |i: usize| {
            let mut lengths: Vec<f32> = places.iter().map(|place| place[i].abs()).collect();
            lengths.sort_by(f32::total_cmp);
            lengths.get(lengths.len() * 19 / 20).copied().unwrap_or(1.0).max(1e-9) * 1.1
        };
        let reaches = [reach(0), reach(1)];
        self.target = places.iter().map(|place| [0, 1].map(|i| (place[i] / reaches[i]).clamp(-1.0, 1.0))).collect();
        if self.places.is_empty() {
            self.places.clone_from(&self.target);
        }
    }

    /// The nearest tokens to one, by the angle between their rows.
    fn nearest(&self, index: usize) -> Vec<usize> {
        let length = |row: &[f32]| dot(row, row).sqrt().max(1e-12);
        let Some(one) = self.vectors.get(index) else { return vec![] };
        let closeness = |other: usize| dot(one, &self.vectors[other]) / length(&self.vectors[other]);
        let mut others: Vec<(usize, f32)> = (0..self.vectors.len()).filter(|&i| i != index).map(|i| (i, closeness(i))).collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1));
        others.into_iter().take(5).map(|(index, _)| index).collect()
    }

    /// Draws words at their positions, or a point if a more frequent word covers it. Highlights the word under the pointer and the nearest.
    pub fn show(&self, ui: &egui::Ui, rect: Rect) {
        let painter = ui.painter();
        let area = rect.shrink2(Vec2::new(26.0, 10.0));
        let at = |place: &[f32; 2]| area.center() + Vec2::new(place[0] * area.width() / 2.0, -place[1] * area.height() / 2.0);
        painter.hline(rect.x_range(), rect.center().y, Stroke::new(1.0, LINE));
        painter.vline(rect.center().x, rect.y_range(), Stroke::new(1.0, LINE));
        if self.places.is_empty() {
            painter.text(rect.center(), Align2::CENTER_CENTER, "after the first step", font(12.0), QUIET);
            return;
        }
        let points: Vec<Pos2> = self.places.iter().map(at).collect();
        let pointer = ui.input(|input| input.pointer.hover_pos()).filter(|pointer| rect.contains(*pointer));
        let chosen = pointer.and_then(|pointer| {
            let nearest = (0..points.len()).min_by(|&a, &b| points[a].distance_sq(pointer).total_cmp(&points[b].distance_sq(pointer)))?;
            (points[nearest].distance(pointer) < 30.0).then_some(nearest)
        });
        let friends = chosen.map(|index| self.nearest(index)).unwrap_or_default();
        if let Some(chosen) = chosen {
            friends.iter().for_each(|&friend| _ = painter.line_segment([points[chosen], points[friend]], Stroke::new(1.0, FAINT)));
        }
        let mut order: Vec<usize> = chosen.into_iter().chain(friends.iter().copied()).collect();
        order.extend((0..points.len()).filter(|index| Some(*index) != chosen && !friends.contains(index)));
        let mut taken: Vec<Rect> = vec![];
        for (rank, &index) in order.iter().enumerate() {
            let stands_out = rank <= friends.len() && chosen.is_some();
            let colour = if stands_out { ACCENT } else { TEXT.gamma_multiply(if chosen.is_some() { 0.35 } else { 0.9 }) };
            let galley = painter.layout_no_wrap(self.names[index].clone(), font(if stands_out { 13.0 } else { 11.5 }), colour);
            let label = Rect::from_center_size(points[index] + Vec2::new(0.0, -8.0), galley.size());
            let inside = rect.expand(4.0).contains_rect(label);
            if stands_out || (inside && taken.iter().all(|other| !other.expand(1.0).intersects(label))) {
                if stands_out {
                    painter.rect_filled(label.expand(2.0), 3.0, CARD);
                }
                painter.galley(label.min, galley, colour);
                painter.circle_filled(points[index], 1.8, ACCENT);
                taken.push(label);
            } else {
                painter.circle_filled(points[index], 1.3, ACCENT.gamma_multiply(0.45));
            }
        }
    }
}

/// The most frequent ids in the training text whose names contain letters, most frequent first.
fn frequent(opened: &Opened) -> Result<Vec<u32>> {
    let mut ids = vec![];
    opened.corpus.train.window(0, opened.corpus.train.len().min(300_000), &mut ids)?;
    let mut counts = vec![0u32; opened.config.model.vocab_size];
    for &id in &ids {
        counts[id as usize] += 1;
    }
    let named = |id: &u32| {
        let token = opened.token(*id);
        counts[*id as usize] > 0
            && token.chars().any(char::is_alphabetic)
            && token != wgpt::low_level::text::UNKNOWN
            && !token.starts_with("<0x")
    };
    let mut ids: Vec<u32> = (0..counts.len() as u32).filter(named).collect();
    ids.sort_by_key(|&id| std::cmp::Reverse(counts[id as usize]));
    ids.truncate(SHOWN);
    Ok(ids)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
