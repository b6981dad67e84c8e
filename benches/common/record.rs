//! Prints the results of benches; `--record` also appends them to `benches/record/<adapter>/<date of the commit>.csv`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use wgpt::Gpu;

pub struct Record {
    bench: &'static str,
    adapter: String,
    rows: Vec<[String; 3]>,
}

impl Record {
    pub fn new(gpu: &Gpu, bench: &'static str) -> Record {
        let info = gpu.info();
        println!("{} ({})", info.name, info.driver_info);
        Record { bench, adapter: format!("{} {}", info.name, info.driver_info), rows: vec![] }
    }

    /// Adds one figure: the case, the measure with its unit, and the value.
    pub fn add(&mut self, case: &str, measure: &str, value: f64) {
        self.rows.push([case.to_owned(), measure.to_owned(), format!("{value:.4}")]);
    }

    /// Appends the rows to the adapter's file for the date of the commit, if `--record` was given.
    pub fn finish(&self) {
        if !std::env::args().any(|arg| arg == "--record") {
            return;
        }
        let git = Command::new("git").args(["show", "-s", "--format=%cs %h"]).output().expect("git");
        let text = String::from_utf8(git.stdout).expect("text from git");
        let (date, commit) = text.trim().split_once(' ').expect("a commit");
        let slug: String = self.adapter.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/record").join(slug.trim_matches('-').to_lowercase());
        std::fs::create_dir_all(&folder).expect("a folder for records");
        let path = folder.join(format!("{date}.csv"));
        let new = !path.exists();
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("a file for records");
        if new {
            writeln!(file, "commit,bench,case,measure,value").expect("a header");
        }
        for [case, measure, value] in &self.rows {
            writeln!(file, "{commit},{},\"{case}\",{measure},{value}", self.bench).expect("a row");
        }
        println!("recorded in {}", path.display());
    }
}
