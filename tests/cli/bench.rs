//! `wgpt bench`: its table, its JSON, and the comparison of two.

use std::fs;

use serde_json::Value;

use crate::support::Folder;

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["bench", "--preset=toy", "--seconds=0.01"];
    args.extend(more);
    args
}

#[test]
fn what_an_adapter_does() {
    let folder = Folder::new("bench");
    let found = folder.json(&small(&["--json", "--test=train", "--test=decode"]));
    assert!(["adapter", "driver", "backend", "os", "version"].iter().all(|key| found[key].is_string()), "{found}");
    let results = found["results"].as_array().unwrap();
    let named: Vec<String> =
        results.iter().map(|row| format!("{} {}", row["test"].as_str().unwrap(), row["of"].as_str().unwrap())).collect();
    let expected = [
        "multiply-adds in registers ",
        "copying memory ",
        "training toy f32",
        "training toy bf16",
        "training toy f16",
        "prompt toy f32",
        "decoding toy f32",
    ];
    assert_eq!(named, expected);
    for row in results {
        assert!(row["rate"]["per_second"].as_f64().unwrap() > 0.0 && row["problem"].is_null(), "{row}");
    }
    let shares: Vec<&Value> = results.iter().map(|row| &row["roof"]).filter(|share| !share.is_null()).collect();
    assert!(shares.len() == 3 && shares.iter().all(|share| (0.0..=1.5).contains(&share.as_f64().unwrap())), "{shares:?}");

    fs::write(folder.path("before.json"), found.to_string()).unwrap();
    let table = folder.ok(&small(&["--test=train", "--compare=before.json"]));
    let row = table.lines().find(|line| line.starts_with("| training toy")).unwrap_or_else(|| panic!("{table}"));
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    assert!(cells[2] == "f32" && cells[3].ends_with(" tokens") && cells[6].ends_with(" tokens"), "{row}");
    assert!(cells[7].parse::<f64>().unwrap() > 0.0, "{row}");
}

#[test]
fn every_variant_of_a_product() {
    let folder = Folder::new("bench_products");
    let table = folder.ok(&small(&["--test=matmul"]));
    for variant in ["tile_broadcast", "tile_shared ", "tile_row_lanes"] {
        assert!(
            table.lines().any(|line| line.contains("product") && line.contains(variant) && line.contains("FLOP")),
            "no {variant} in {table}"
        );
    }
}

#[test]
fn what_does_not_fit_is_a_row() {
    let folder = Folder::new("bench_large");
    let table = folder.ok(&["bench", "--preset=gpt2-xl", "--test=train", "--seconds=0.01"]);
    assert!(table.contains(" see below |") && table.contains("\ntraining gpt2-xl f32: "), "{table}");
}

#[test]
fn arguments_that_cannot_be_meant() {
    let folder = Folder::new("bench_bad");
    folder.refused(2, &["bench", "--preset", "toi"], &["toi", "toy"]);
    folder.refused(2, &["bench", "--preset=toy", "--seconds=0"], &["--seconds", "from 0.001 to 600"]);
    folder.refused(2, &small(&["--test=speed"]), &["speed", "matmul"]);
    fs::write(folder.path("other.json"), "{\"adapter\": 1}").unwrap();
    folder.refused(1, &small(&["--compare=other.json"]), &["other.json", "is no output of `wgpt bench --json`"]);
    folder.refused(1, &small(&["--compare=none.json"]), &["none.json"]);
}
