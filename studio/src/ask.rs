//! The dialogs: whether to save first, and why something was not saved. The one that chooses what to open is in `chooser.rs`.

use eframe::egui::{self, Button, Color32, Frame, Id, Key, Margin, Modal, RichText, Stroke, Ui, Vec2};

use crate::style::{ACCENT, CARD, GROUND, LINE, TEXT, WARN, font, quiet};

/// An answer to the question whether unsaved steps may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Save,
    Discard,
    Cancel,
}

/// A dialog over the darkened window.
pub fn modal<T>(ctx: &egui::Context, id: &str, width: f32, title: &str, colour: Color32, content: impl FnOnce(&mut Ui) -> T) -> (T, bool) {
    let frame = Frame::new().fill(CARD).stroke(Stroke::new(1.0, LINE)).corner_radius(8).inner_margin(Margin::same(20));
    let shown = Modal::new(Id::unique(id)).backdrop_color(GROUND.gamma_multiply(0.75)).frame(frame).show(ctx, |ui| {
        ui.set_width(width);
        ui.label(RichText::new(title).font(font(17.0)).color(colour));
        ui.add_space(8.0);
        content(ui)
    });
    let closed = shown.should_close();
    (shown.inner, closed)
}

/// Asks before steps are lost; `None` until the user answers.
pub fn unsaved(ctx: &egui::Context, steps: u64, before: &str) -> Option<Answer> {
    let title =
        if steps == 1 { "one step is not saved".to_owned() } else { format!("{} steps are not saved", crate::window::grouped(steps)) };
    let (answer, closed) = modal(ctx, "unsaved", 380.0, &title, TEXT, |ui| {
        ui.label(quiet(format!("They are lost {before}, unless they are saved first.")));
        ui.add_space(12.0);
        ui.horizontal(|ui| {
            let save = ui.add(main_button("Save first")).clicked().then_some(Answer::Save);
            let discard = ui.button("Don’t save").clicked().then_some(Answer::Discard);
            let cancel = ui.button("Cancel").clicked().then_some(Answer::Cancel);
            save.or(discard).or(cancel)
        })
        .inner
    });
    answer.or_else(|| ctx.input(|input| input.key_pressed(Key::Enter)).then_some(Answer::Save)).or(closed.then_some(Answer::Cancel))
}

/// Shows an error until the user closes it; true when that happens.
pub fn problem(ctx: &egui::Context, title: &str, problem: &str) -> bool {
    let (read, closed) = modal(ctx, "problem", 520.0, title, WARN, |ui| {
        ui.label(RichText::new(problem).font(font(14.0)));
        ui.add_space(12.0);
        ui.add(main_button("OK")).clicked()
    });
    read || closed
}

pub fn main_button(text: &str) -> Button<'_> {
    Button::new(RichText::new(text).color(GROUND)).fill(ACCENT).min_size(Vec2::new(84.0, 0.0))
}
