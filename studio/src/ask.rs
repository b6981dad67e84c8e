//! The dialogs: whether to save first, what to open, and why something was not saved.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use eframe::egui::{self, Align, Button, Color32, Frame, Id, Key, Layout, Margin, Modal, RichText, Stroke, Ui, Vec2};
use wgpt::low_level::train::checkpoint;
use wgpt::presets;

use crate::save::RUNS;
use crate::style::{ACCENT, CARD, GROUND, LINE, QUIET, TEXT, WARN, font, quiet};

/// An answer to the question whether unsaved steps may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Save,
    Discard,
    Cancel,
}

/// A dialog over the darkened window.
fn modal<T>(ctx: &egui::Context, id: &str, width: f32, title: &str, colour: Color32, content: impl FnOnce(&mut Ui) -> T) -> (T, bool) {
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

fn main_button(text: &str) -> Button<'_> {
    Button::new(RichText::new(text).color(GROUND)).fill(ACCENT).min_size(Vec2::new(84.0, 0.0))
}

/// Chooses what to open: a typed path or preset, or an entry of the list.
pub struct Chooser {
    typed: String,
    problem: Option<String>,
    runs: Vec<(PathBuf, u64)>,
    /// Whether the text field has received the keyboard focus.
    focused: bool,
}

impl Chooser {
    /// Lists the runs that are in `runs/` now.
    pub fn new() -> Chooser {
        Chooser { typed: String::new(), problem: None, runs: runs(Path::new(RUNS)), focused: false }
    }

    /// Shows why a path dropped on the window cannot be opened.
    pub fn refuse(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    /// `None` while it is open; then `Some` with the chosen path, if any.
    pub fn show(&mut self, ctx: &egui::Context) -> Option<Option<PathBuf>> {
        let (chosen, closed) = modal(ctx, "open", 560.0, "open", TEXT, |ui| {
            let typed = self.field(ui).map(PathBuf::from);
            if let Some(problem) = &self.problem {
                ui.label(RichText::new(problem).font(font(12.0)).color(WARN));
            }
            ui.add_space(6.0);
            let listed = egui::ScrollArea::vertical().max_height(400.0).show(ui, |ui| self.lists(ui)).inner;
            listed.or(typed)
        });
        match chosen.map(|chosen| crate::open::check(&chosen).map(|()| chosen)) {
            Some(Ok(chosen)) => Some(Some(chosen)),
            Some(Err(problem)) => {
                // Lets the user edit the text again.
                (self.problem, self.focused) = (Some(problem), false);
                None
            }
            None => closed.then_some(None),
        }
    }

    fn field(&mut self, ui: &mut Ui) -> Option<String> {
        ui.horizontal(|ui| {
            let edit = egui::TextEdit::singleline(&mut self.typed).hint_text("a run’s folder, or drop it on the window");
            let field = ui.add(
                edit.desired_width(ui.available_width() - 100.0).font(font(14.0)).margin(Margin::symmetric(8, 5)).background_color(GROUND),
            );
            if !std::mem::replace(&mut self.focused, true) {
                field.request_focus();
            }
            let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            let clicked = ui.add(main_button("Open")).clicked();
            ((entered || clicked) && !self.typed.trim().is_empty()).then(|| self.typed.trim().to_owned())
        })
        .inner
    }

    fn lists(&self, ui: &mut Ui) -> Option<PathBuf> {
        let mut chosen = None;
        if !self.runs.is_empty() {
            ui.label(quiet(format!("runs in {RUNS}/, the newest first")));
        }
        for (run, step) in &self.runs {
            if row(ui, &run.display().to_string(), &format!("step {}", crate::window::grouped(*step))) {
                chosen = Some(run.clone());
            }
        }
        ui.add_space(6.0);
        ui.label(quiet("presets, from their first step"));
        for (preset, about) in presets::PRESETS {
            if row(ui, preset, about) {
                chosen = Some(preset.into());
            }
        }
        chosen
    }
}

/// A row of the list; true when it was clicked.
fn row(ui: &mut Ui, name: &str, about: &str) -> bool {
    let (rect, response) = ui.allocate_exact_size(Vec2::new(ui.available_width(), 24.0), egui::Sense::click());
    if response.hovered() {
        ui.painter().rect_filled(rect, 4.0, LINE);
    }
    let inner = rect.shrink2(Vec2::new(8.0, 0.0));
    ui.scope_builder(egui::UiBuilder::new().max_rect(inner).layout(Layout::left_to_right(Align::Center)), |ui| {
        ui.add(egui::Label::new(RichText::new(name).font(font(14.0))).selectable(false));
        ui.add(egui::Label::new(RichText::new(about).font(font(12.0)).color(QUIET)).selectable(false).truncate());
    });
    response.clicked()
}

/// The runs in a folder with the steps of their latest checkpoints, newest checkpoint first.
fn runs(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(SystemTime, PathBuf, u64)> = entries
        .filter_map(|run| {
            let latest = checkpoint::find(&run, checkpoint::Which::Latest).ok()?;
            let saved = std::fs::metadata(latest.path()).and_then(|found| found.modified()).ok()?;
            Some((saved, run, checkpoint::read_meta(&latest.verify(false)).ok()?.step))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().rev().map(|(_, run, step)| (run, step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_run_is_not_offered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(runs(&folder.path().join("none")), []);
        std::fs::create_dir_all(folder.path().join("begun/checkpoints")).unwrap();
        std::fs::create_dir_all(folder.path().join("damaged/checkpoints/step-3")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(runs(folder.path()), []);
    }
}
