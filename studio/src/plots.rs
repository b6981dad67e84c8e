//! Curves and bars, drawn by hand so that they have one style.

use std::collections::VecDeque;

use eframe::egui::{self, Align2, Color32, CornerRadius, Mesh, Painter, Pos2, Rect, Shape, Stroke, Vec2};

use crate::curve::Curve;
use crate::style::{ACCENT, FAINT, LINE, QUIET, REST, TEXT, font};

/// Maps numbers to positions.
struct Scale {
    rect: Rect,
    x: [f64; 2],
    y: [f64; 2],
}

impl Scale {
    /// Leaves room for numbers on the left and below.
    fn new(rect: Rect, x: [f64; 2], y: [f64; 2]) -> Scale {
        let rect = Rect::from_min_max(rect.min + Vec2::new(26.0, 4.0), rect.max - Vec2::new(2.0, 16.0));
        Scale { rect, x, y }
    }

    fn at(&self, x: f64, y: f64) -> Pos2 {
        let part = |value: f64, [low, high]: [f64; 2]| ((value - low) / (high - low).max(1e-12)).clamp(-0.1, 1.1) as f32;
        Pos2::new(self.rect.left() + part(x, self.x) * self.rect.width(), self.rect.bottom() - part(y, self.y) * self.rect.height())
    }

    /// Lines and numbers; no column's number in the last `free` points below.
    fn grid(&self, painter: &Painter, columns: f64, free: f32) {
        for y in ticks(self.y, 4.0) {
            let at = self.at(self.x[0], y);
            painter.hline(self.rect.x_range(), at.y.round() + 0.5, Stroke::new(1.0, LINE.gamma_multiply(0.7)));
            painter.text(at - Vec2::new(6.0, 0.0), Align2::RIGHT_CENTER, short(y), font(11.0), QUIET);
        }
        if columns == 0.0 {
            return;
        }
        for x in ticks(self.x, columns) {
            let at = self.at(x, self.y[0]);
            if at.x > self.rect.right() - free {
                continue;
            }
            painter.text(at + Vec2::new(0.0, 10.0), Align2::CENTER_CENTER, short(x), font(11.0), QUIET);
        }
    }

    /// A dashed reference line with its name above it, ending at `x` or beginning there.
    fn reference(&self, painter: &Painter, y: f64, name: &str, (x, align): (f32, Align2)) {
        let (left, right) = (self.at(self.x[0], y), self.at(self.x[1], y));
        painter.extend(Shape::dashed_line(&[left, right], Stroke::new(1.0, QUIET), 4.0, 4.0));
        painter.text(Pos2::new(x, left.y - 8.0), align, name, font(11.0), QUIET);
    }
}

/// Round numbers within a range.
fn ticks([low, high]: [f64; 2], about: f64) -> Vec<f64> {
    let rough = (high - low).max(1e-9) / about;
    let ten = 10f64.powf(rough.log10().floor());
    let step = ten * [1.0, 2.0, 5.0, 10.0].into_iter().find(|&by| by * ten >= rough * 0.999).unwrap_or(10.0);
    ((low / step).ceil() as i64..=(high / step).floor() as i64).map(|index| index as f64 * step).collect()
}

fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{:.0}M", value / 1e6),
        large if large >= 1e4 => format!("{:.0}k", value / 1e3),
        _ => format!("{}", (value * 1e3).round() / 1e3),
    }
}

/// Plots the loss of every step (thin), its running mean, recorded validation losses (dots), the losses of a uniform guess and a bigram model,
/// and the planned end: as a line, or by its step while it is beyond the axis.
pub fn losses(ui: &egui::Ui, rect: Rect, curve: &Curve, guess: f64, bigram: Option<(f64, &str)>, planned: u64) {
    let painter = ui.painter().with_clip_rect(rect.expand(12.0));
    let first = [&curve.raw, &curve.validation].into_iter().filter_map(|points| Some(points.first()?[0])).reduce(f64::min).unwrap_or(0.0);
    let last = curve.raw.last().map_or(1.0, |point| point[0]);
    let shown = || curve.raw.iter().chain(&curve.validation).map(|point| point[1]);
    let lowest = shown().chain(bigram.map(|pairs| pairs.0)).fold(guess, f64::min);
    let highest = shown().fold(guess, f64::max);
    let margin = (highest - lowest).max(0.1) * 0.08;
    let begin = begin(first, last);
    let end = planned as f64;
    let scale = Scale::new(rect, [begin, right_end(begin, last, end)], [(lowest - margin).max(0.0), highest + 1.6 * margin]);
    let (left, right) = (scale.rect.left(), scale.rect.right());
    let end = (end <= scale.x[1]).then(|| scale.at(end, scale.y[0]).x);
    let beyond = if end.is_none() { format!("planned end: {} ›", short(planned as f64)) } else { String::new() };
    let name = painter.layout_no_wrap(beyond, font(11.0), QUIET);
    scale.grid(&painter, 5.0, if end.is_none() { name.size().x + 18.0 } else { 0.0 });
    painter.galley(Pos2::new(right - name.size().x, scale.rect.bottom() + 10.0 - name.size().y / 2.0), name, QUIET);
    // Left of the planned end, if that would cross the name.
    let named = end.filter(|end| *end > right - 76.0 && *end < right - 2.0).map_or(right, |end| end - 6.0);
    scale.reference(&painter, guess, "a blind guess", (named, Align2::RIGHT_CENTER));
    if let Some((bigram, unit)) = bigram {
        scale.reference(&painter, bigram, &format!("counting pairs of {unit}s"), (left + 6.0, Align2::LEFT_CENTER));
    }
    if let Some(x) = end {
        let ends = [Pos2::new(x, scale.rect.bottom()), Pos2::new(x, scale.rect.top())];
        painter.extend(Shape::dashed_line(&ends, Stroke::new(1.0, QUIET), 4.0, 4.0));
        // Below the name of the guess, if that is in the way.
        let (top, named) = (scale.rect.top() + 6.0, scale.at(0.0, guess).y - 8.0);
        let y = if (named - top).abs() < 16.0 { named + 24.0 } else { top };
        let (away, align) = if x < left + 76.0 { (6.0, Align2::LEFT_CENTER) } else { (-6.0, Align2::RIGHT_CENTER) };
        painter.text(Pos2::new(x + away, y), align, "planned end", font(11.0), QUIET);
    }
    let line = |points: &[[f64; 2]]| points.iter().map(|point| scale.at(point[0], point[1])).collect::<Vec<Pos2>>();
    let smooth = line(&curve.smooth);
    painter.add(below(&smooth, scale.rect.bottom()));
    painter.add(Shape::line(line(&curve.raw), Stroke::new(1.0, FAINT)));
    painter.add(Shape::line(smooth.clone(), Stroke::new(2.2, ACCENT)));
    if let Some(end) = smooth.last() {
        painter.circle_filled(*end, 3.5, ACCENT);
    }
    let validation = line(&curve.validation);
    validation.iter().for_each(|at| _ = painter.circle_filled(*at, 2.5, TEXT));
    if let Some(last) = validation.last() {
        let align = if last.x > rect.center().x { Align2::RIGHT_BOTTOM } else { Align2::LEFT_BOTTOM };
        painter.text(*last - Vec2::new(0.0, 6.0), align, "validation", font(11.0), TEXT);
    }
    let pointer = ui.input(|input| input.pointer.hover_pos()).filter(|pointer| scale.rect.contains(*pointer));
    if let Some(pointer) = pointer
        && let Some(nearest) =
            (0..smooth.len()).min_by(|&a, &b| (smooth[a].x - pointer.x).abs().total_cmp(&(smooth[b].x - pointer.x).abs()))
    {
        let (at, [step, loss]) = (smooth[nearest], curve.smooth[nearest]);
        painter.vline(at.x, scale.rect.y_range(), Stroke::new(1.0, QUIET));
        painter.circle_filled(at, 3.5, TEXT);
        let (side, away) = if at.x > rect.center().x { (Align2::RIGHT_CENTER, -8.0) } else { (Align2::LEFT_CENTER, 8.0) };
        painter.text(at + Vec2::new(away, -14.0), side, format!("step {step:.0}: {loss:.3}"), font(12.0), TEXT);
    }
}

/// The first step of the axis: 0, unless the curve begins much later.
fn begin(first: f64, last: f64) -> f64 {
    if first < 10.0 || first <= last / 4.0 { 0.0 } else { first }
}

/// The last step of the axis: the planned end, once a quarter more steps would reach it.
fn right_end(begin: f64, last: f64, planned: f64) -> f64 {
    let near = planned - begin <= 1.25 * (last - begin);
    last.max(begin + 10.0).max(if near { planned } else { 0.0 })
}

/// Fills the area below a line, fading out.
fn below(points: &[Pos2], bottom: f32) -> Mesh {
    let mut mesh = Mesh::default();
    for point in points {
        let part = ((bottom - point.y) / 160.0).clamp(0.1, 1.0);
        mesh.colored_vertex(*point, ACCENT.gamma_multiply(0.16 * part));
        mesh.colored_vertex(Pos2::new(point.x, bottom), Color32::TRANSPARENT);
    }
    for left in (0..(points.len() as u32 * 2).saturating_sub(2)).step_by(2) {
        mesh.add_triangle(left, left + 1, left + 2);
        mesh.add_triangle(left + 1, left + 2, left + 3);
    }
    mesh
}

/// Milliseconds of a frame, and of the model's work in it.
#[derive(Debug, Clone, Copy)]
pub struct FrameTime {
    pub whole: f32,
    pub model: f32,
}

/// A bar per frame with the model's part at the bottom, and the budget as a line.
pub fn frame_times(ui: &egui::Ui, rect: Rect, frames: &VecDeque<FrameTime>, most: usize, budget: f32) {
    let painter = ui.painter().with_clip_rect(rect.expand(2.0));
    let mut sorted: Vec<f32> = frames.iter().map(|frame| frame.whole).collect();
    sorted.sort_by(f32::total_cmp);
    let usual = sorted.get(sorted.len() * 19 / 20).copied().unwrap_or(0.0);
    let scale = Scale::new(rect, [0.0, most as f64], [0.0, f64::from(usual.max(2.0 * budget)) * 1.15]);
    scale.grid(&painter, 0.0, 0.0);
    let width = scale.rect.width() / most as f32;
    let first = most - frames.len().min(most);
    for (index, frame) in frames.iter().enumerate() {
        let x = scale.rect.left() + (first + index) as f32 * width;
        let bar = |from: f32, to: f32| {
            let (bottom, top) = (scale.at(0.0, f64::from(from)).y, scale.at(0.0, f64::from(to)).y);
            Rect::from_min_max(Pos2::new(x, top.max(scale.rect.top())), Pos2::new(x + (width - 0.4).max(0.8), bottom))
        };
        painter.rect_filled(bar(0.0, frame.whole), 0.0, REST);
        painter.rect_filled(bar(0.0, frame.model.min(frame.whole)), 0.0, ACCENT.gamma_multiply(0.85));
    }
    let y = scale.at(0.0, f64::from(budget)).y;
    painter.hline(scale.rect.x_range(), y, Stroke::new(1.5, TEXT));
}

/// Rows of a name, a bar and a number, as many as fit, above a scale from 0 to `end`.
pub fn bars(painter: &Painter, rect: Rect, rows: &[(String, f32)], end: f32, name_width: f32, number: impl Fn(f32) -> String) {
    let (rect, below) = crate::style::split_y(rect, rect.height() - 14.0, 0.0);
    let fitting = ((rect.height() / 18.0) as usize).clamp(1, rows.len().max(1));
    let height = (rect.height() / fitting as f32).min(22.0);
    let track = |y: f32| Rect::from_min_max(Pos2::new(rect.left() + name_width, y - 4.0), Pos2::new(rect.right() - 56.0, y + 4.0));
    for (index, (name, value)) in rows.iter().take(fitting).enumerate() {
        let y = rect.top() + (index as f32 + 0.5) * height;
        let name_rect = Rect::from_min_max(rect.min, Pos2::new(rect.left() + name_width - 6.0, rect.bottom()));
        let named = painter.with_clip_rect(name_rect);
        named.text(Pos2::new(rect.left(), y), Align2::LEFT_CENTER, name, font(12.0), TEXT);
        let track = track(y);
        painter.rect_filled(track, CornerRadius::same(4), LINE.gamma_multiply(0.6));
        let length = (track.width() * value / end.max(1e-9)).clamp(0.0, track.width());
        let colour = if index == 0 { ACCENT } else { ACCENT.lerp_to_gamma(LINE, 0.42) };
        painter.rect_filled(Rect::from_min_size(track.min, Vec2::new(length, track.height())), CornerRadius::same(4), colour);
        painter.text(Pos2::new(rect.right(), y), Align2::RIGHT_CENTER, number(*value), font(12.0), QUIET);
    }
    if rows.is_empty() {
        return;
    }
    let (top, bottom) = (rect.top() + 2.0, rect.top() + fitting as f32 * height);
    for part in [0.0, 0.5, 1.0] {
        let x = track(0.0).left() + part * track(0.0).width();
        painter.vline(x, top..=bottom, Stroke::new(1.0, QUIET.gamma_multiply(0.25)));
        painter.text(Pos2::new(x, bottom + below.height() / 2.0), Align2::CENTER_CENTER, number(part * end), font(11.0), QUIET);
    }
}

/// The smallest round number that is at least `largest`, for the end of a scale.
pub fn round_up(largest: f32) -> f32 {
    let ten = 10f32.powf(largest.max(1e-6).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0].into_iter().map(|by| by * ten).find(|end| *end >= largest * 0.999).unwrap_or(10.0 * ten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planned_end_comes_into_sight_when_it_is_near() {
        assert_eq!(right_end(0.0, 3.0, 300.0), 10.0);
        assert_eq!(right_end(0.0, 200.0, 300.0), 200.0);
        assert_eq!(right_end(0.0, 240.0, 300.0), 300.0);
        assert_eq!(right_end(100.0, 457.0, 300.0), 457.0);
    }

    #[test]
    fn the_axis_begins_at_the_first_step_unless_the_curve_begins_much_later() {
        assert_eq!([(1.0, 1.0), (10.0, 40.0), (300.0, 320.0)].map(|(first, last)| begin(first, last)), [0.0, 0.0, 300.0]);
    }

    #[test]
    fn a_scale_ends_at_a_round_number_and_holds_the_largest() {
        for (largest, end) in [(0.0, 1e-6), (0.33, 0.4), (0.4, 0.4), (1.0, 1.0), (8.5, 10.0), (120.0, 200.0)] {
            assert!((round_up(largest) / end - 1.0).abs() < 1e-5, "{largest}: {}", round_up(largest));
        }
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks([0.0, 100.0], 5.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks([3.7, 7.2], 4.0), [4.0, 5.0, 6.0, 7.0]);
        assert!(ticks([2.0, 2.0], 4.0).len() < 8);
    }
}
