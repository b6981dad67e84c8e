//! Colours, distances, and the cards that hold everything.

use eframe::egui::text::{LayoutJob, TextFormat};
use eframe::egui::{self, Align, Align2, Color32, CornerRadius, FontFamily, FontId, Layout, Pos2, Rect, RichText, Stroke, UiBuilder, Vec2};

pub const GROUND: Color32 = Color32::from_rgb(0x0a, 0x0d, 0x12);
pub const CARD: Color32 = Color32::from_rgb(0x11, 0x16, 0x1e);
pub const LINE: Color32 = Color32::from_rgb(0x20, 0x28, 0x34);
pub const TEXT: Color32 = Color32::from_rgb(0xe6, 0xeb, 0xf2);
pub const QUIET: Color32 = Color32::from_rgb(0x8a, 0x96, 0xa8);
/// The only accent colour: the model's activity.
pub const ACCENT: Color32 = Color32::from_rgb(0x3f, 0xd0, 0xbd);
pub const FAINT: Color32 = Color32::from_rgb(0x23, 0x66, 0x63);
/// The part of a frame that is not the model's.
pub const REST: Color32 = Color32::from_rgb(0x33, 0x3e, 0x4e);
/// Errors and unknown words.
pub const WARN: Color32 = Color32::from_rgb(0xf0, 0xa8, 0x6a);

/// Space between cards, and within them.
pub const GAP: f32 = 10.0;
pub const INSET: f32 = 14.0;
/// Height of a card's heading.
pub const HEADING: f32 = 26.0;
/// Height of the row of a slider.
pub const ROW: f32 = 28.0;

pub fn apply(ctx: &egui::Context) {
    ctx.set_theme(egui::Theme::Dark);
    ctx.all_styles_mut(|style| {
        let visuals = &mut style.visuals;
        visuals.panel_fill = GROUND;
        visuals.window_fill = CARD;
        visuals.extreme_bg_color = GROUND;
        visuals.override_text_color = Some(TEXT);
        visuals.selection.bg_fill = FAINT;
        visuals.selection.stroke = Stroke::new(1.0, ACCENT);
        visuals.slider_trailing_fill = true;
        visuals.handle_shape = egui::style::HandleShape::Circle;
        let widgets = &mut visuals.widgets;
        for widget in [&mut widgets.inactive, &mut widgets.hovered, &mut widgets.active, &mut widgets.open] {
            widget.corner_radius = CornerRadius::same(5);
            (widget.weak_bg_fill, widget.bg_fill) = (LINE, LINE);
            widget.bg_stroke = Stroke::NONE;
            widget.expansion = 0.0;
        }
        widgets.hovered.weak_bg_fill = FAINT;
        widgets.active.weak_bg_fill = FAINT;
        widgets.inactive.fg_stroke = Stroke::new(1.0, TEXT);
        style.spacing.item_spacing = Vec2::new(8.0, 6.0);
        style.spacing.button_padding = Vec2::new(9.0, 4.0);
        style.spacing.slider_rail_height = 4.0;
    });
}

pub fn font(size: f32) -> FontId {
    FontId::new(size, FontFamily::Proportional)
}

pub fn quiet(text: impl Into<String>) -> RichText {
    RichText::new(text).color(QUIET).size(12.0)
}

/// Small capitals with wide spacing.
fn heading(text: &str) -> LayoutJob {
    let format = TextFormat { font_id: font(11.0), color: QUIET, extra_letter_spacing: 1.2, ..TextFormat::default() };
    LayoutJob::single_section(text.to_uppercase(), format)
}

/// A card with a heading; `beside` adds widgets to the right of the heading. Returns the free area below it.
pub fn card(ui: &mut egui::Ui, rect: Rect, title: &str, beside: impl FnOnce(&mut egui::Ui)) -> Rect {
    ui.painter().rect(rect, CornerRadius::same(8), CARD, Stroke::new(1.0, LINE.gamma_multiply(0.6)), egui::StrokeKind::Inside);
    let inner = rect.shrink(INSET);
    let top = Rect::from_min_size(inner.min - Vec2::new(0.0, 4.0), Vec2::new(inner.width(), 20.0));
    let galley = ui.painter().layout_job(heading(title));
    ui.painter().galley(Pos2::new(top.left(), top.center().y - galley.size().y / 2.0), galley, QUIET);
    within(ui, top, Layout::right_to_left(Align::Center), beside);
    Rect::from_min_max(Pos2::new(inner.left(), inner.top() + HEADING), inner.max)
}

/// Adds widgets inside a rectangle.
pub fn within(ui: &mut egui::Ui, rect: Rect, layout: Layout, add: impl FnOnce(&mut egui::Ui)) {
    ui.scope_builder(UiBuilder::new().max_rect(rect).layout(layout), add);
}

/// A number with a small label below it.
pub fn figure(painter: &egui::Painter, at: Pos2, size: f32, value: &str, what: &str) {
    painter.text(Pos2::new(at.x, at.y - 9.0), Align2::LEFT_CENTER, value, font(size), TEXT);
    painter.text(Pos2::new(at.x, at.y + 15.0), Align2::LEFT_CENTER, what, font(12.0), QUIET);
}

/// Chooses one of `count`: by small squares if there are at most `squares`, else by dragging a number.
pub fn pick(ui: &mut egui::Ui, what: &str, chosen: &mut usize, count: usize, squares: usize) {
    if count > squares {
        ui.add(egui::DragValue::new(chosen).range(0..=count - 1).speed(0.05)).on_hover_text("drag");
    } else {
        ui.spacing_mut().item_spacing.x = 3.0;
        // The layout runs from right to left.
        for index in (0..count).rev() {
            let (rect, response) = ui.allocate_exact_size(Vec2::splat(20.0), egui::Sense::click());
            let (fill, text) = match (*chosen == index, response.hovered()) {
                (true, _) => (ACCENT, GROUND),
                (false, true) => (FAINT, TEXT),
                (false, false) => (LINE, QUIET),
            };
            ui.painter().rect_filled(rect, 4.0, fill);
            ui.painter().text(rect.center(), Align2::CENTER_CENTER, index, font(11.5), text);
            if response.clicked() {
                *chosen = index;
            }
        }
    }
    ui.label(quiet(what));
    ui.add_space(9.0);
}

/// The most squares per choice, up to 8, for which all choices fit into a width.
pub fn most_squares(counts: &[usize], width: f32) -> usize {
    let taken = |count: usize, squares: usize| if count > squares { 95.0 } else { 23.0 * count as f32 + 50.0 };
    (1..=8).rev().find(|&squares| counts.iter().map(|&count| taken(count, squares)).sum::<f32>() <= width).unwrap_or(1)
}

/// A slider over the whole width, with its label on the left and its value on the right.
pub fn slider(
    ui: &mut egui::Ui,
    rect: Rect,
    what: &str,
    value: &mut f64,
    range: std::ops::RangeInclusive<f64>,
    text: impl Fn(f64) -> String,
) {
    let (word, number) = (104.0, 64.0);
    ui.painter().text(Pos2::new(rect.left(), rect.center().y), Align2::LEFT_CENTER, what, font(12.0), QUIET);
    ui.painter().text(Pos2::new(rect.right(), rect.center().y), Align2::RIGHT_CENTER, text(*value), font(12.0), TEXT);
    let rail = Rect::from_min_max(Pos2::new(rect.left() + word, rect.top()), Pos2::new(rect.right() - number, rect.bottom()));
    let response = ui.interact(rail.expand(6.0), ui.scope_id().with(what), egui::Sense::click_and_drag());
    let (low, high) = (range.start().ln(), range.end().ln());
    if let Some(pointer) = response.interact_pointer_pos() {
        let part = f64::from((pointer.x - rail.left()) / rail.width()).clamp(0.0, 1.0);
        *value = (low + part * (high - low)).exp();
    }
    let part = ((value.ln() - low) / (high - low)).clamp(0.0, 1.0) as f32;
    let (y, x) = (rail.center().y, rail.left() + part * rail.width());
    let busy = response.hovered() || response.dragged();
    ui.painter().hline(rail.x_range(), y, Stroke::new(3.0, LINE));
    ui.painter().hline(rail.left()..=x, y, Stroke::new(3.0, FAINT));
    ui.painter().circle_filled(Pos2::new(x, y), if busy { 7.0 } else { 6.0 }, if busy { ACCENT } else { TEXT });
}

/// Splits a rectangle into an upper part of this height and the rest.
pub fn split_y(rect: Rect, height: f32, gap: f32) -> (Rect, Rect) {
    let y = (rect.top() + height).min(rect.bottom());
    let below = (y + gap).min(rect.bottom());
    (Rect::from_min_max(rect.min, Pos2::new(rect.right(), y)), Rect::from_min_max(Pos2::new(rect.left(), below), rect.max))
}

/// Splits a rectangle into a left part of this width and the rest.
pub fn split_x(rect: Rect, width: f32, gap: f32) -> (Rect, Rect) {
    let x = (rect.left() + width).min(rect.right());
    (
        Rect::from_min_max(rect.min, Pos2::new(x, rect.bottom())),
        Rect::from_min_max(Pos2::new((x + gap).min(rect.right()), rect.top()), rect.max),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn choices_that_do_not_fit_as_squares_are_dragged() {
        assert_eq!(super::most_squares(&[8, 1, 1], 387.0), 8);
        assert_eq!(super::most_squares(&[8, 1, 1], 307.0), 7);
        assert_eq!(super::most_squares(&[12, 6, 6], 387.0), 5);
        assert_eq!(super::most_squares(&[9, 9, 9], 10.0), 1);
    }
}
