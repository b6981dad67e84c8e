//! The cards: curves, bars, points and text.

use eframe::egui::{self, Align2, Color32, CornerRadius, FontId, Pos2, Rect, Stroke, Vec2};
use egui_plot::{HLine, Line, Plot, PlotPoints};

use crate::engine::Engine;
use crate::style::{ACCENT, FAINT, GROUND, LINE, QUIET, TEXT, WARM, quiet, small};

/// The loss of every step, thin, and its running mean.
pub fn losses(ui: &mut egui::Ui, engine: &Engine) {
    plot(ui, "loss", |plot| {
        plot.line(Line::new("loss", thinned(&engine.losses)).color(FAINT).width(1.0));
        plot.line(Line::new("mean", thinned(&engine.smooth)).color(ACCENT).width(2.2));
    });
}

/// Milliseconds of the last frames, and the part of them that the model may take.
pub fn frame_times(ui: &mut egui::Ui, frames: &[f32], shares: &[f32], budget: f32) {
    plot(ui, "frames", |plot| {
        plot.hline(HLine::new("zero", 0.0).color(LINE).width(1.0));
        plot.line(Line::new("frame", numbered(frames)).color(QUIET).width(1.0));
        plot.line(Line::new("model", numbered(shares)).color(ACCENT).width(1.5));
        plot.hline(HLine::new("budget", f64::from(budget)).color(WARM).width(1.0));
    });
}

fn plot(ui: &mut egui::Ui, name: &str, add: impl FnOnce(&mut egui_plot::PlotUi)) {
    let size = ui.available_size();
    Plot::new(name)
        .width(size.x)
        .height(size.y)
        .allow_zoom(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .show_background(false)
        .show_crosshair(false)
        .grid_color(LINE)
        .set_margin_fraction(Vec2::new(0.01, 0.06))
        .y_axis_min_width(26.0)
        .show(ui, |plot| add(plot));
}

/// At most some hundred points of a curve.
fn thinned(points: &[[f64; 2]]) -> PlotPoints<'static> {
    points.iter().step_by(points.len() / 600 + 1).copied().collect::<Vec<_>>().into()
}

fn numbered(values: &[f32]) -> PlotPoints<'static> {
    values.iter().enumerate().map(|(i, &value)| [i as f64, f64::from(value)]).collect::<Vec<_>>().into()
}

/// Words where the embedding has them, those that would hide others as points.
pub fn embedding(ui: &egui::Ui, rect: Rect, engine: &Engine) {
    let table = &engine.table;
    let painter = ui.painter();
    let area = rect.shrink2(Vec2::new(30.0, 12.0));
    painter.line_segment([Pos2::new(rect.left(), rect.center().y), Pos2::new(rect.right(), rect.center().y)], Stroke::new(1.0, LINE));
    painter.line_segment([Pos2::new(rect.center().x, rect.top()), Pos2::new(rect.center().x, rect.bottom())], Stroke::new(1.0, LINE));
    let mut taken: Vec<Rect> = vec![];
    for (name, place) in table.names.iter().zip(&table.places) {
        let at = area.center() + Vec2::new(place[0] * area.width() / 2.0, -place[1] * area.height() / 2.0);
        painter.circle_filled(at, 2.0, ACCENT);
        let galley = painter.layout_no_wrap(name.clone(), small(), TEXT);
        let label = Rect::from_min_size(at + Vec2::new(4.0, -galley.size().y / 2.0), galley.size());
        if taken.iter().all(|other| !other.intersects(label)) {
            painter.galley(label.min, galley, TEXT);
            taken.push(label);
        }
    }
}

/// What the model writes now, after its prompt.
pub fn text(ui: &mut egui::Ui, engine: &Engine) {
    let mut job = egui::text::LayoutJob::default();
    let format =
        |colour| egui::TextFormat { font_id: FontId::proportional(14.0), color: colour, line_height: Some(20.0), ..Default::default() };
    job.append(&engine.text.prompt, 0.0, format(QUIET));
    job.append(&engine.text.written, 0.0, format(TEXT));
    job.append(" |", 0.0, format(ACCENT));
    egui::ScrollArea::vertical().stick_to_bottom(true).auto_shrink(false).show(ui, |ui| ui.add(egui::Label::new(job).wrap()));
}

/// The likeliest next tokens of the typed prompt.
pub fn answers(ui: &mut egui::Ui, rect: Rect, engine: &mut Engine) {
    let question = &mut engine.question;
    let field = egui::TextEdit::singleline(&mut question.typed).desired_width(rect.width()).hint_text("type a word or two");
    ui.add(field.background_color(GROUND));
    let mut top = ui.cursor().top() + 2.0;
    if !question.note.is_empty() {
        ui.label(quiet(&question.note).color(WARM));
        top += 18.0;
    }
    let bars: Vec<(String, f32)> = question.answers.iter().map(|(name, share)| (shown(name), *share)).collect();
    bars_from(ui, Rect::from_min_max(Pos2::new(rect.left(), top), rect.max), &bars, 1.0, |share| format!("{:.0} %", share * 100.0));
}

/// Milliseconds of the longest kernels.
pub fn kernels(ui: &egui::Ui, rect: Rect, kernels: &[(String, f32)]) {
    let most = kernels.first().map_or(1.0, |kernel| kernel.1);
    bars_from(ui, rect, kernels, most, |milliseconds| format!("{milliseconds:.2} ms"));
}

/// Rows of a name, a bar and a number, as many as fit.
fn bars_from(ui: &egui::Ui, rect: Rect, rows: &[(String, f32)], most: f32, number: impl Fn(f32) -> String) {
    let height = 19.0;
    let fitting = ((rect.height() / height) as usize).min(rows.len());
    let painter = ui.painter();
    let name_width = if most == 1.0 { 84.0 } else { 172.0 };
    for (index, (name, value)) in rows[..fitting].iter().enumerate() {
        let y = rect.top() + (index as f32 + 0.5) * height;
        painter.text(Pos2::new(rect.left(), y), Align2::LEFT_CENTER, name, small(), TEXT);
        let track = Rect::from_min_max(Pos2::new(rect.left() + name_width, y - 4.0), Pos2::new(rect.right() - 52.0, y + 4.0));
        painter.rect_filled(track, CornerRadius::same(4), LINE);
        let bar = Rect::from_min_size(track.min, Vec2::new(track.width() * (value / most).clamp(0.0, 1.0), track.height()));
        painter.rect_filled(bar, CornerRadius::same(4), if index == 0 { ACCENT } else { blend(ACCENT, LINE, 0.45) });
        painter.text(Pos2::new(rect.right(), y), Align2::RIGHT_CENTER, number(*value), small(), QUIET);
    }
}

fn blend(a: Color32, b: Color32, share: f32) -> Color32 {
    a.lerp_to_gamma(b, share)
}

/// A token that one can see.
fn shown(token: &str) -> String {
    match token {
        "\n" => "↵".into(),
        " " => "␣".into(),
        other => other.chars().take(12).collect(),
    }
}
