//! `wgpt profile`: its tables, its JSON, its trace and its picture.

use serde_json::Value;

use crate::support::Folder;

/// Arguments of a profile of a small model, which takes seconds.
fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["profile", "--preset=toy", "--set=model.n_layer=2", "--steps=2"];
    args.extend(more);
    args
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

#[test]
fn figures_hang_together() {
    let folder = Folder::new("profile_json");
    for (method, more) in [("timestamps", vec![]), ("repetition", vec!["--method=repetition"]), ("repetition", vec!["--limits=baseline"])] {
        let found = folder.json(&small(&[&["--json"], &more[..]].concat()));
        // An adapter without timestamps is timed by repetition, whatever was requested.
        assert!(found["method"] == method || (more.is_empty() && found["method"] == "repetition"), "{found}");
        let counts = &found["counts"];
        let [all, layer, chunk, chunks, outside] =
            ["dispatches", "per_layer", "per_head_chunk", "head_chunks", "outside"].map(|key| number(counts, key) as u64);
        assert_eq!(all, 2 * layer + chunk * chunks + outside, "{counts}");
        assert!(layer >= 5 && chunk >= 2 && chunks == 1, "{counts}");
        assert_eq!((number(counts, "allocations"), number(counts, "submits")), (0.0, 1.0), "{counts}");
        assert!(number(counts, "host_microseconds") > 0.0 && number(&found, "step_seconds") > 0.0);
        assert!(number(&found["roof"], "gflops") > 0.0 && number(&found["roof"], "gb_per_second") > 0.0);
        for table in ["kernels", "layers"] {
            let rows = found[table].as_array().unwrap();
            let sum = |key: &str| rows.iter().map(|row| number(row, key)).sum::<f64>();
            assert_eq!(sum("calls") as u64, all, "{table}");
            assert!((sum("share") - 1.0).abs() < 1e-6 && (sum("seconds") - number(&found, "sum_seconds")).abs() < 1e-6, "{table}");
        }
        let names: Vec<&str> = found["layers"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
        for name in ["embed", "h.0", "h.1", "head", "ln_f", "norm", "update"] {
            assert!(names.contains(&name), "{names:?}");
        }
    }
}

#[test]
fn tables_traces_and_pictures() {
    let folder = Folder::new("profile_files");
    let stdout = folder.ok(&small(&["--trace=step.json", "--plot=roof.svg"]));
    for word in ["adapter ", "roof ", "GFLOP/s", "matmul.", "h.1", "update", "measured whole", "0 allocations"] {
        assert!(stdout.contains(word), "no `{word}` in {stdout}");
    }
    let svg = folder.read("roof.svg");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("matmul."), "{svg}");

    // The schema of complete and metadata events that trace viewers require.
    let trace: Value = serde_json::from_str(&folder.read("step.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut dispatches: Vec<(f64, f64)> = vec![];
    for event in events {
        assert!(event["name"].is_string() && event["args"].is_object(), "{event}");
        assert!(event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
        let (ts, dur) = (number(event, "ts"), number(event, "dur"));
        assert!(ts >= 0.0 && dur >= 0.0 && (ts + dur).is_finite(), "{event}");
        assert!(matches!(event["ph"].as_str(), Some("X" | "M")), "{event}");
        if event["cat"] == "dispatch" {
            dispatches.push((ts, ts + dur));
            assert!(number(&event["args"], "bytes") > 0.0, "{event}");
        }
    }
    assert!(dispatches.len() > 20, "{} dispatches", dispatches.len());
    // Events of one track nest: each ends before every event that began earlier and is still open.
    let mut spans: Vec<(f64, f64)> = events.iter().map(|e| (number(e, "ts"), number(e, "ts") + number(e, "dur"))).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut open: Vec<f64> = vec![];
    for (begin, end) in spans {
        open.retain(|&e| e > begin);
        assert!(open.iter().all(|&e| e >= end - 1e-3), "an event from {begin} to {end} crosses another's end: {open:?}");
        open.push(end);
    }
}

/// Two runs measure two roofs; with the same roof their percentages can be compared.
#[test]
fn a_roof_may_be_given() {
    let folder = Folder::new("profile_roof");
    let stdout = folder.ok(&small(&["--roof=20.5,8.25", "--plot=roof.png"]));
    assert!(stdout.contains("roof      20.5 GFLOP/s of multiply-adds, 8.25 GB/s copied, as given"), "{stdout}");
    assert!(std::fs::read(folder.path("roof.png")).unwrap().starts_with(b"\x89PNG"));
    let measured = folder.ok(&small(&[]));
    let advice = measured.lines().find_map(|line| Some(line.split_once("add --roof ")?.1)).unwrap_or_else(|| panic!("{measured}"));
    let found = folder.json(&small(&["--json", "--roof", advice]));
    assert_eq!(found["roof"]["given"], true);
    assert_eq!(format!("{:.3},{:.3}", number(&found["roof"], "gflops"), number(&found["roof"], "gb_per_second")), advice);
    for kernel in found["kernels"].as_array().unwrap() {
        let least = (number(kernel, "flops") / number(&found["roof"], "gflops"))
            .max(number(kernel, "bytes") / number(&found["roof"], "gb_per_second"));
        // If a kernel has several sizes, each is compared with its own bound.
        assert!(number(kernel, "percent_of_roof") >= 100.0 * least / 1e9 / number(kernel, "seconds").max(1e-12) - 1e-6, "{kernel}");
    }
}

#[test]
fn refuses_before_it_measures() {
    let folder = Folder::new("profile_refused");
    folder.refused(2, &["profile", "--preset", "toys"], &["unknown preset `toys`", "`toy`"]);
    folder.refused(2, &["profile", "--steps=0"], &["--steps", "1..=1000"]);
    folder.refused(2, &small(&["--set=model.n_head=3"]), &["model.d_model", "3"]);
    folder.refused(1, &small(&["--trace=no/step.json"]), &["no/step.json", "there is no folder no"]);
    folder.refused(1, &small(&["--plot=."]), &["cannot be written: it is a folder"]);
    folder.refused(2, &small(&["--plot=roof.jpg"]), &["--plot roof.jpg", "ends in .svg or .png"]);
    for roof in ["20.1", "20.1,0", "20.1,-8", "a,b", "20.1,inf", "1e300,1"] {
        folder.refused(2, &small(&["--roof", roof]), &["--roof", "two numbers above 0", "20.1,8.02"]);
    }
    let both = ["--trace=both.svg", "--plot=./both.svg"];
    folder.refused(1, &small(&both), &["both.svg: is named by --trace too", "name another file"]);
    folder.refused(2, &small(&["--limits=baseline", "--method=timestamps"]), &["without pass timestamps", "repetition"]);
    if cfg!(target_os = "linux") {
        folder.refused(2, &small(&["--capture"]), &["--capture", "RenderDoc is not attached", "renderdoccmd capture"]);
    }
}

#[test]
fn two_variants_in_one_run() {
    let folder = Folder::new("profile_against");
    let found = folder.json(&small(&["--json", "--variant=layer_norm=lanes_64", "--against=layer_norm=lanes_256"]));
    assert_eq!(found["preset"], "toy");
    assert!(found["adapter"].is_string() && found["tokens_per_step"].is_u64(), "{found}");
    let kernels = found["kernels"].as_array().unwrap();
    let names: Vec<&str> = kernels.iter().map(|kernel| kernel["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"layer_norm.forward") && names.iter().all(|name| name.starts_with("layer_norm.")), "{names:?}");
    for kernel in kernels {
        assert_eq!(kernel["variants"], serde_json::json!([["lanes_64"], ["lanes_256"]]), "{kernel}");
        assert!(kernel["seconds"].as_array().unwrap().iter().all(|seconds| seconds.as_f64().unwrap() > 0.0), "{kernel}");
    }
    assert!(found["step_seconds"].as_array().unwrap().iter().all(|seconds| seconds.as_f64().unwrap() > 0.0), "{found}");

    let stdout = folder.ok(&small(&["--variant=layer_norm=lanes_64", "--against=layer_norm=lanes_256"]));
    for word in ["adapter ", "lanes_64 ", "lanes_256 ", "ratio", "a whole step"] {
        assert!(stdout.contains(word), "no `{word}` in {stdout}");
    }

    let same = small(&["--variant=layer_norm=lanes_64", "--against=layer_norm=lanes_64"]);
    folder.refused(2, &same, &["--against: no kernel of this step would run in another variant"]);
    folder.refused(2, &small(&["--against=layer_norm=lanes_3"]), &["--against: ", "lanes_3"]);
}
