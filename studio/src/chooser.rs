//! The dialog that chooses what to open: a typed path, a recent run, a preset, or something in a folder.

use std::path::{Path, PathBuf};

use eframe::egui::{self, Align, Key, Layout, Margin, RichText, Ui, Vec2};
use wgpt::presets;

use crate::ask::{main_button, modal};
use crate::folder::{self, Kind};
use crate::open;
use crate::save::RUNS;
use crate::style::{GROUND, LINE, QUIET, TEXT, WARN, font, quiet};
use crate::window::grouped;

/// Height of the lists, in points.
const HEIGHT: f32 = 340.0;

pub struct Chooser {
    typed: String,
    problem: Option<String>,
    runs: Vec<(PathBuf, u64)>,
    browses: bool,
    folder: PathBuf,
    entries: Vec<(Kind, PathBuf)>,
    /// Whether the text field has received the keyboard focus.
    focused: bool,
}

impl Chooser {
    /// Lists the runs that are in `runs/` now, and the current folder.
    pub fn new() -> Chooser {
        let (typed, runs) = (String::new(), folder::runs(Path::new(RUNS)));
        let mut chooser = Chooser { typed, problem: None, runs, browses: false, folder: PathBuf::new(), entries: vec![], focused: false };
        chooser.browse(std::env::current_dir().unwrap_or_else(|_| "/".into()));
        // The user has not asked for this folder yet.
        chooser.problem = None;
        chooser
    }

    /// Shows why a path dropped on the window cannot be opened.
    pub fn refuse(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    /// Lists another folder; stays in this one if that cannot be read.
    fn browse(&mut self, folder: PathBuf) {
        match folder::list(&folder) {
            Ok(entries) => (self.folder, self.entries, self.problem) = (folder, entries, None),
            Err(e) => self.problem = Some(format!("{} cannot be read: {e}", folder.display())),
        }
    }

    /// `None` while it is open; then `Some` with the chosen path, if any.
    pub fn show(&mut self, ctx: &egui::Context) -> Option<Option<PathBuf>> {
        let (chosen, closed) = modal(ctx, "open", 560.0, "open", TEXT, |ui| {
            let typed = self.field(ui).map(PathBuf::from);
            if let Some(problem) = &self.problem {
                ui.label(RichText::new(problem).font(font(12.0)).color(WARN));
            }
            ui.add_space(6.0);
            ui.horizontal(|ui| {
                ui.selectable_value(&mut self.browses, false, "Runs and presets");
                ui.selectable_value(&mut self.browses, true, "Folders and texts");
            });
            ui.add_space(4.0);
            let list = egui::ScrollArea::vertical().id_salt(self.browses).auto_shrink(false);
            // Always this height: the dialog must not jump when another list is shown.
            let list = list.max_height(HEIGHT).min_scrolled_height(HEIGHT);
            let listed = list.show(ui, |ui| if self.browses { self.browser(ui) } else { self.lists(ui) }).inner;
            listed.or(typed)
        });
        match chosen.map(|chosen| open::check(&chosen).map(|_| chosen)) {
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
            let edit = egui::TextEdit::singleline(&mut self.typed).hint_text("a run’s folder or a text, or drop it on the window");
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
            if row(ui, &run.display().to_string(), &format!("step {}", grouped(*step))) {
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

    /// The folder's runs and texts, which a click opens, and its folders, which a click lists.
    fn browser(&mut self, ui: &mut Ui) -> Option<PathBuf> {
        ui.label(quiet(self.folder.display().to_string()));
        let mut next = None;
        if let Some(parent) = self.folder.parent()
            && row(ui, "..", "the folder above")
        {
            next = Some((Kind::Folder, parent.to_path_buf()));
        }
        for (kind, path) in &self.entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let clicked = match kind {
                Kind::Folder => row(ui, &format!("{name}/"), ""),
                Kind::Run => row(ui, &name, "a run"),
                Kind::Text(bytes) => row(ui, &name, &format!("a text of {} bytes", grouped(*bytes))),
            };
            if clicked {
                next = Some((*kind, path.clone()));
            }
        }
        if self.entries.is_empty() {
            ui.label(quiet("no folder, no run and no text (.txt, .text, .md) is here"));
        }
        match next? {
            (Kind::Folder, folder) => {
                self.browse(folder);
                None
            }
            (_, path) => Some(path),
        }
    }
}

/// A row of the list; true when it was clicked.
fn row(ui: &mut Ui, name: &str, about: &str) -> bool {
    let (rect, response) = ui.allocate_exact_size(Vec2::new(ui.available_width(), 24.0), egui::Sense::click());
    // A long list draws only what is in sight.
    if !ui.is_rect_visible(rect) {
        return false;
    }
    if response.hovered() {
        ui.painter().rect_filled(rect, 4.0, LINE);
    }
    let inner = rect.shrink2(Vec2::new(8.0, 0.0));
    ui.scope_builder(egui::UiBuilder::new().max_rect(inner).layout(Layout::left_to_right(Align::Center)), |ui| {
        ui.add(egui::Label::new(RichText::new(name).font(font(14.0))).selectable(false).truncate());
        ui.add(egui::Label::new(RichText::new(about).font(font(12.0)).color(QUIET)).selectable(false).truncate());
    });
    response.clicked()
}
