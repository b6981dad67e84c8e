//! The window: runs the model's work of a frame, then shows a header and seven cards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui::{self, Align, Align2, Layout, Pos2, Rect, RichText, Stroke, Vec2};

use crate::LEAST;
use crate::attention::{self, Heat};
use crate::engine::Engine;
use crate::kernels;
use crate::plots::{self, FrameTime};
use crate::style::{ACCENT, FAINT, GAP, GROUND, HEADING, INSET, LINE, QUIET, REST, ROW, TEXT, WARN};
use crate::style::{card, figure, font, most_squares, pick, quiet, slider, split_x, split_y, within};

/// Number of frames whose times are shown.
const FRAMES: usize = 160;
/// How long the notice about a save is shown.
const NOTED: Duration = Duration::from_secs(10);

pub struct Window {
    pub engine: Engine,
    heat: Arc<Heat>,
    budget: f64,
    learning_rate: f64,
    kernels: Vec<(String, f32)>,
    frames: VecDeque<FrameTime>,
    began: Instant,
    /// The step at which the program ends itself.
    ends: u64,
    /// The error; the window stays open to show it.
    pub error: Option<String>,
}

/// What the window asks the program to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    Restart,
    Open,
}

impl Window {
    pub fn new(engine: Engine, format: wgpu::TextureFormat, budget: f32) -> Window {
        Window {
            heat: Heat::new(engine.gpu.device(), format, &engine.look.map),
            learning_rate: engine.opened.config.train.learning_rate,
            ends: engine.last,
            engine,
            budget: f64::from(budget),
            kernels: vec![],
            frames: VecDeque::new(),
            began: Instant::now(),
            error: None,
        }
    }

    /// Number of steps that are in no checkpoint and can be saved.
    pub fn unsaved(&self) -> u64 {
        if self.error.is_some() { 0 } else { self.engine.saver.unsaved(&self.engine.opened) }
    }

    /// Times the kernels of a step; the window freezes meanwhile.
    pub fn measure(&mut self) {
        match kernels::measure(&mut self.engine) {
            // Nothing is measured while a save holds training.
            Ok(kernels) if kernels.is_empty() => {}
            Ok(kernels) => self.kernels = kernels,
            Err(error) => self.error = Some(error.to_string()),
        }
        self.began = Instant::now();
    }

    pub fn is_measured(&self) -> bool {
        !self.kernels.is_empty() || self.error.is_some()
    }

    /// Whether every card has something to show.
    pub fn is_whole(&self) -> bool {
        !self.engine.prompt.answers.is_empty()
            && self.engine.look.shown.is_some()
            && (self.engine.writer.written.len() > 120 || self.engine.writer.generator.is_idle())
            || self.error.is_some()
    }

    /// Runs and draws one frame. Where the cards have no room nothing is drawn: in the first frame of a smaller window, before everything is
    /// scaled down, and in a window smaller than that allows.
    pub fn show(&mut self, ui: &mut egui::Ui, all: Rect) -> Asked {
        self.work();
        if all.width() < 0.9 * LEAST[0] || all.height() < 0.9 * LEAST[1] {
            return Asked::Nothing;
        }
        let area = all.shrink(GAP);
        let (top, rest) = split_y(area, 58.0, 8.0);
        let asked = self.header(ui, top);
        let (left, rest) = split_x(rest, (area.width() * 0.305).max(320.0), GAP);
        let (middle, right) = split_x(rest, rest.width() * 0.585, GAP);
        self.left(ui, left);
        self.middle(ui, middle);
        self.right(ui, right);
        if let Some(error) = &self.error {
            let rect = Rect::from_center_size(all.center(), Vec2::new(all.width() * 0.6, 120.0));
            ui.painter().rect_filled(all, 0.0, GROUND.gamma_multiply(0.75));
            let body = card(ui, rect, "stopped", |_| ());
            ui.painter().rect_stroke(rect, 8.0, Stroke::new(1.0, WARN), egui::StrokeKind::Inside);
            let galley = ui.painter().layout(error.clone(), font(15.0), WARN, body.width());
            ui.painter().galley(body.min, galley, WARN);
        }
        asked
    }

    /// Runs the model's work of this frame.
    fn work(&mut self) {
        let whole = self.began.elapsed().as_secs_f32() * 1e3;
        self.began = Instant::now();
        if self.error.is_some() {
            // The thread may still be writing a save that was read before the error.
            return self.engine.saver.take_written();
        }
        match self.engine.frame(Duration::from_secs_f64(self.budget / 1e3)) {
            Ok(model) => self.frames.push_back(FrameTime { whole, model: model.as_secs_f32() * 1e3 }),
            Err(error) => self.error = Some(error.to_string()),
        }
        if self.frames.len() > FRAMES {
            self.frames.pop_front();
        }
    }

    fn mean(&self, what: impl Fn(&FrameTime) -> f32) -> f32 {
        let last = || self.frames.iter().rev().take(60);
        last().map(what).sum::<f32>() / last().count().max(1) as f32
    }

    fn header(&mut self, ui: &mut egui::Ui, rect: Rect) -> Asked {
        let (engine, painter) = (&self.engine, ui.painter());
        let model = &engine.opened.config.model;
        painter.text(rect.left_center() + Vec2::new(4.0, -9.0), Align2::LEFT_CENTER, "wgpt studio", font(24.0), ACCENT);
        let parameters = model.parameters();
        let layers = if model.n_layer == 1 { "layer" } else { "layers" };
        let about = format!("{} · {} {layers} of {}, {} parameters", engine.opened.name, model.n_layer, model.d_model, grouped(parameters));
        painter.text(rect.left_center() + Vec2::new(4.0, 15.0), Align2::LEFT_CENTER, about, font(12.0), QUIET);
        let loss = engine.loss.last().map_or("–".into(), |loss| format!("{loss:.3}"));
        let figures = [
            (grouped(engine.step), steps(engine.step, engine.opened.config.train.steps)),
            (loss, "loss, nats a token".into()),
            (grouped(engine.tokens_per_second as u64), "tokens a second".into()),
            (format!("{:.0}", 1e3 / self.mean(|frame| frame.whole).max(0.1)), "frames a second".into()),
        ];
        let start = rect.left() + (rect.width() * 0.305).max(320.0) + GAP + INSET;
        // As wide as their labels need in the narrowest window, and wider if there is room.
        let wider = ((rect.right() - 304.0 - start) / 436.0).clamp(1.0, 1.15);
        for ((value, what), x) in figures.iter().zip([0.0, 134.0, 240.0, 340.0]) {
            figure(painter, Pos2::new(start + x * wider, rect.center().y), 26.0, value, what);
        }
        let mut asked = Asked::Nothing;
        let right = Rect::from_min_max(Pos2::new(rect.right() - 330.0, rect.top() + 4.0), Pos2::new(rect.right() - 2.0, rect.top() + 34.0));
        within(ui, right, Layout::right_to_left(Align::Center), |ui| asked = self.buttons(ui));
        let (note, colour) = self.note();
        let mut line = egui::text::LayoutJob::simple_singleline(note, font(12.0), colour);
        line.wrap = egui::text::TextWrapping::truncate_at_width(290.0);
        let galley = ui.painter().layout_job(line);
        let corner = Pos2::new(rect.right() - 2.0 - galley.size().x, rect.center().y + 15.0 - galley.size().y / 2.0);
        ui.painter().galley(corner, galley, colour);
        asked
    }

    /// The note below the buttons: the result of a save for a while, otherwise the device.
    fn note(&self) -> (String, egui::Color32) {
        let saver = &self.engine.saver;
        match &saver.last {
            _ if !saver.is_resting() => ("saving".into(), ACCENT),
            Some(Ok((step, path))) if saver.ended.elapsed() < NOTED => {
                (format!("step {} is saved in {}", grouped(*step), path.display()), ACCENT)
            }
            _ => (self.engine.gpu.info().name.clone(), QUIET),
        }
    }

    fn buttons(&mut self, ui: &mut egui::Ui) -> Asked {
        let engine = &mut self.engine;
        let mut asked = Asked::Nothing;
        if ui.button("Open").on_hover_text("another run or preset (Ctrl+O)").clicked() {
            asked = Asked::Open;
        }
        let unsaved = engine.saver.unsaved(&engine.opened) > 0 && engine.saver.is_resting();
        let hint = match &engine.saver.last {
            Some(Ok((step, path))) => format!("step {} is saved in {}", grouped(*step), path.display()),
            _ => "as a run of its own, for `wgpt train --resume` and `wgpt generate` (Ctrl+S)".into(),
        };
        if ui.add_enabled(unsaved, egui::Button::new("Save")).on_hover_text(&hint).on_disabled_hover_text(&hint).clicked() {
            engine.saver.ask();
        }
        if ui.button("Restart").on_hover_text("from the beginning, or the checkpoint").clicked() {
            asked = Asked::Restart;
        }
        let at = engine.opened.trainer.step_count();
        if ui.button("Step").on_hover_text("one step, then pause").clicked() {
            (engine.running, engine.last) = (true, at + 1);
        }
        let paused = !engine.running || (at >= engine.last && engine.last != self.ends);
        let (word, fill) = if paused { ("Train", ACCENT) } else { ("Pause", LINE) };
        let text = RichText::new(word).color(if paused { GROUND } else { TEXT });
        if ui.add(egui::Button::new(text).fill(fill).min_size(Vec2::new(64.0, 0.0))).clicked() {
            (engine.running, engine.last) = (paused, u64::MAX);
        }
        asked
    }

    fn left(&mut self, ui: &mut egui::Ui, rect: Rect) {
        let (top, rest) = split_y(rect, rect.height() * 0.38, GAP);
        let (middle, bottom) = split_y(rest, rest.height() * 0.46, GAP);
        let now = self.engine.learning_rate;
        let body = card(ui, top, "loss", |ui| {
            legend(ui, &[("running mean", ACCENT), ("a step", FAINT)]);
            ui.label(quiet(format!("learning rate {now:.1e}")));
        });
        let (plot, row) = split_y(body, body.height() - ROW, 4.0);
        let guess = (self.engine.opened.config.model.vocab_size as f64).ln();
        let (opened, planned) = (&self.engine.opened, self.engine.opened.config.train.steps);
        plots::losses(ui, plot, &self.engine.loss, guess, opened.bigram.map(|loss| (loss, opened.unit())), planned);
        let mut rate = self.learning_rate;
        slider(ui, row, "peak learning rate", &mut rate, 1e-5..=3e-2, |rate| format!("{rate:.1e}"));
        if rate != self.learning_rate {
            match self.engine.opened.trainer_mut().map(|trainer| trainer.set_learning_rate(rate)) {
                Some(Ok(())) => self.learning_rate = rate,
                Some(Err(error)) => self.error = Some(error.to_string()),
                // The weights are being read, so the change is ignored and the slider jumps back.
                None => {}
            }
        }
        let body = card(ui, middle, "frame time", |ui| legend(ui, &[("budget", TEXT), ("model", ACCENT), ("all else", REST)]));
        let (plot, row) = split_y(body, body.height() - ROW, 4.0);
        plots::frame_times(ui, plot, &self.frames, FRAMES, self.budget as f32);
        let model = self.mean(|frame| frame.model);
        ui.painter().text(
            plot.right_bottom() - Vec2::new(2.0, 6.0),
            Align2::RIGHT_CENTER,
            format!("the model takes {model:.1} ms of {:.1}", self.mean(|frame| frame.whole)),
            font(11.0),
            QUIET,
        );
        slider(ui, row, "for the model", &mut self.budget, 0.5..=50.0, |budget| format!("{budget:.1} ms"));
        self.kernels(ui, bottom);
    }

    fn kernels(&mut self, ui: &mut egui::Ui, rect: Rect) {
        let mut measure = false;
        let sum: f32 = self.kernels.iter().map(|kernel| kernel.1).sum();
        let body = card(ui, rect, "kernels of a step", |ui| {
            let hint = "times every dispatch of one step, and so stops the picture for a moment";
            measure = ui.add(egui::Button::new(RichText::new("Measure").size(12.0))).on_hover_text(hint).clicked();
            if sum > 0.0 {
                ui.label(quiet(format!("{sum:.1} ms in all")));
            }
        });
        if self.kernels.is_empty() {
            let text =
                "“Measure” times every dispatch of one step. It waits for each: the picture stands still for that moment.".to_owned();
            let galley = ui.painter().layout(text, font(12.0), QUIET, body.width());
            ui.painter().galley(body.min, galley, QUIET);
        } else {
            let longest = plots::round_up(self.kernels[0].1);
            let digits = if longest < 1.0 { 2 } else { 1 };
            plots::bars(ui.painter(), body, &self.kernels, longest, 196.0, |milliseconds| format!("{milliseconds:.digits$}"));
        }
        if measure && self.error.is_none() {
            self.measure();
        }
    }

    fn middle(&mut self, ui: &mut egui::Ui, rect: Rect) {
        let config = &self.engine.opened.config;
        let (layers, heads, samples) = (config.model.n_layer, config.model.n_head, config.train.batch_size);
        let at = &mut self.engine.look.at;
        // As high as its map is wide, unless that leaves no room for the text below.
        let wanted = (rect.width() - 2.0 * INSET - 62.0) + 2.0 * INSET + HEADING;
        let (map, below) = split_y(rect, wanted.min(rect.height() - 150.0), GAP);
        let squares = most_squares(&[samples, heads, layers], rect.width() - 120.0);
        let body = card(ui, map, "attention", |ui| {
            pick(ui, "sample", &mut at.sample, samples, squares);
            pick(ui, "head", &mut at.head, heads, squares);
            pick(ui, "layer", &mut at.layer, layers, squares);
        });
        attention::show(ui, body, &self.heat, &self.engine.look, self.engine.opened.unit());
        let body = card(ui, below, "what it writes", |ui| _ = ui.label(quiet(format!("at step {}", grouped(self.engine.writer.step)))));
        self.writes(ui, body);
    }

    /// The current text, and below it the texts of earlier steps from the same prompt.
    fn writes(&self, ui: &egui::Ui, rect: Rect) {
        let writer = &self.engine.writer;
        let painter = ui.painter().with_clip_rect(rect);
        let format =
            |colour, size| egui::TextFormat { font_id: font(size), color: colour, line_height: Some(size + 6.0), ..Default::default() };
        let mut job = egui::text::LayoutJob { wrap: egui::text::TextWrapping::wrap_at_width(rect.width()), ..Default::default() };
        job.append(&writer.prompt, 0.0, format(QUIET, 15.0));
        job.append(&flowing(&writer.written), 0.0, format(TEXT, 15.0));
        if !writer.generator.is_idle() {
            job.append(" |", 0.0, format(ACCENT, 15.0));
        }
        let galley = painter.layout_job(job);
        let mut bottom = rect.bottom();
        // As many old texts as fit below, one line each, the oldest last.
        for (step, text) in writer.milestones() {
            if bottom - 18.0 < rect.top() + galley.size().y + 4.0 {
                break;
            }
            let y = bottom - 9.0;
            painter.text(
                Pos2::new(rect.left(), y),
                Align2::LEFT_CENTER,
                format!("step {}", grouped(*step)),
                font(12.0),
                FAINT.lerp_to_gamma(TEXT, 0.2),
            );
            let mut line = egui::text::LayoutJob::single_section(format!("{}{}", writer.prompt, flowing(text)), format(QUIET, 12.0));
            line.wrap = egui::text::TextWrapping::truncate_at_width(rect.width() - 66.0);
            let galley = painter.layout_job(line);
            painter.galley(Pos2::new(rect.left() + 66.0, y - galley.size().y / 2.0), galley, QUIET);
            bottom -= 18.0;
        }
        painter.galley(rect.min, galley, TEXT);
    }

    fn right(&mut self, ui: &mut egui::Ui, rect: Rect) {
        let (top, bottom) = split_y(rect, rect.height() * 0.56, GAP);
        let body = card(ui, top, "embedding", |ui| _ = ui.label(quiet("two main directions")));
        self.engine.table.show(ui, body);
        let body = card(ui, bottom, &format!("next {}", self.engine.opened.unit()), |_| ());
        let (field, rest) = split_y(body, 28.0, 8.0);
        let prompt = &mut self.engine.prompt;
        within(ui, field, Layout::left_to_right(Align::Center), |ui| {
            let edit = egui::TextEdit::singleline(&mut prompt.typed).desired_width(field.width()).hint_text("type a word or two");
            ui.add(edit.font(font(14.0)).margin(egui::Margin::symmetric(8, 5)).background_color(GROUND));
        });
        let note = if prompt.note.is_empty() { 0.0 } else { 18.0 };
        let (line, rest) = split_y(rest, note, 0.0);
        ui.painter().text(line.left_center(), Align2::LEFT_CENTER, &prompt.note, font(12.0), WARN);
        let percent =
            |share: f32| if share > 0.0 && share < 0.0095 { format!("{:.1} %", share * 100.0) } else { format!("{:.0} %", share * 100.0) };
        let likeliest = prompt.answers.first().map_or(1.0, |answer| answer.1);
        plots::bars(ui.painter(), rest, &prompt.answers, plots::round_up(likeliest.max(0.01)), 92.0, percent);
    }
}

/// The legend of a plot's colours.
fn legend(ui: &mut egui::Ui, entries: &[(&str, egui::Color32)]) {
    for (name, colour) in entries {
        ui.label(quiet(*name));
        let (rect, _) = ui.allocate_exact_size(Vec2::new(10.0, 10.0), egui::Sense::hover());
        ui.painter().rect_filled(Rect::from_center_size(rect.center(), Vec2::new(10.0, 3.0)), 1.0, *colour);
        ui.add_space(4.0);
    }
}

/// Replaces line ends by strokes, as when verse is quoted, so that a few lines show more text.
fn flowing(text: &str) -> String {
    text.replace('\n', " / ")
}

/// The label below the step number. The window continues to train after the planned end.
fn steps(step: u64, planned: u64) -> String {
    if step > planned { format!("steps, {} planned", grouped(planned)) } else { format!("step of {}", grouped(planned)) }
}

/// Formats a number as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    #[test]
    fn more_steps_than_planned_are_not_a_part_of_them() {
        assert_eq!(super::steps(300, 300), "step of 300");
        assert_eq!(super::steps(1457, 1300), "steps, 1,300 planned");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1234567].map(super::grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
