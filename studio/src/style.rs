//! Colours, fonts and the card that everything stands on.

use eframe::egui::{self, Color32, CornerRadius, FontFamily, FontId, Pos2, Rect, RichText, Stroke, Vec2};

pub const GROUND: Color32 = Color32::from_rgb(0x0b, 0x0e, 0x13);
pub const CARD: Color32 = Color32::from_rgb(0x12, 0x17, 0x1f);
pub const LINE: Color32 = Color32::from_rgb(0x22, 0x2a, 0x36);
pub const TEXT: Color32 = Color32::from_rgb(0xe3, 0xe8, 0xef);
pub const QUIET: Color32 = Color32::from_rgb(0x7d, 0x89, 0x9a);
pub const ACCENT: Color32 = Color32::from_rgb(0x45, 0xc9, 0xb8);
pub const FAINT: Color32 = Color32::from_rgb(0x24, 0x5a, 0x5a);
pub const WARM: Color32 = Color32::from_rgb(0xf2, 0xb0, 0x5e);

/// Space between cards, and within them.
pub const GAP: f32 = 10.0;
pub const INSET: f32 = 12.0;
/// Height of a card's heading.
pub const HEADING: f32 = 24.0;

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
        for widget in [&mut visuals.widgets.inactive, &mut visuals.widgets.hovered, &mut visuals.widgets.active, &mut visuals.widgets.open]
        {
            widget.corner_radius = CornerRadius::same(5);
            widget.weak_bg_fill = LINE;
            widget.bg_fill = LINE;
            widget.bg_stroke = Stroke::NONE;
        }
        visuals.widgets.hovered.weak_bg_fill = FAINT;
        style.spacing.item_spacing = Vec2::new(8.0, 6.0);
        style.spacing.slider_width = 150.0;
    });
}

pub fn small() -> FontId {
    FontId::new(11.0, FontFamily::Proportional)
}

pub fn quiet(text: impl Into<String>) -> RichText {
    RichText::new(text).color(QUIET).size(11.5)
}

/// A card with a heading; `add` fills what is below it, `beside` the heading's right.
pub fn card(ui: &mut egui::Ui, rect: Rect, heading: &str, beside: impl FnOnce(&mut egui::Ui), add: impl FnOnce(&mut egui::Ui, Rect)) {
    ui.painter().rect_filled(rect, CornerRadius::same(8), CARD);
    let inner = rect.shrink(INSET);
    let top = Rect::from_min_size(inner.min, Vec2::new(inner.width(), HEADING));
    ui.painter().text(
        Pos2::new(top.left(), top.top() + 8.0),
        egui::Align2::LEFT_CENTER,
        heading.to_uppercase(),
        FontId::new(10.5, FontFamily::Proportional),
        QUIET,
    );
    let right =
        egui::UiBuilder::new().max_rect(top.translate(Vec2::new(0.0, -4.0))).layout(egui::Layout::right_to_left(egui::Align::Center));
    ui.scope_builder(right, beside);
    let body = Rect::from_min_max(Pos2::new(inner.left(), inner.top() + HEADING), inner.max);
    ui.scope_builder(egui::UiBuilder::new().max_rect(body), |ui| {
        ui.set_clip_rect(rect);
        add(ui, body);
    });
}

/// A large number with a small word below it.
pub fn figure(ui: &mut egui::Ui, value: &str, what: &str) {
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        ui.label(RichText::new(value).size(21.0).strong());
        ui.label(quiet(what));
    });
    ui.add_space(18.0);
}
