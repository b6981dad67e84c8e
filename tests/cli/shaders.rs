//! The list of kernels, and the files written for GPU vendors' tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::support::{Done, Folder};

fn files(folder: &Folder, name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_list_has_every_kernel_with_one_default() {
    let folder = Folder::new("shaders");
    let answer = folder.json(&["shaders", "--json"]);
    assert!(answer["adapter"].is_string(), "{answer}");
    let kernels = answer["kernels"].as_array().unwrap();
    let names: Vec<&str> = kernels.iter().map(|kernel| kernel["kernel"].as_str().unwrap()).collect();
    for name in ["matmul.forward", "layer_norm.backward", "attention.forward", "adamw.apply"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for kernel in kernels {
        let bindings = kernel["bindings"].as_array().unwrap();
        assert_eq!((&bindings[0]["name"], &bindings[0]["type"]), (&"dims".into(), &"Dims".into()), "{kernel}");
        assert!(bindings.iter().all(|b| b["stride"].as_u64().unwrap() >= 4 && b["type"].is_string()), "{kernel}");
        let variants = kernel["variants"].as_array().unwrap();
        let many = variants.iter().filter(|v| v["default"] == "all" || v["default"] == "many rows").count();
        assert_eq!(many, 1, "{kernel}");
        assert!(variants.iter().all(|v| v["default"].is_null() || v["runs"] == true), "{kernel}");
        assert!(variants.iter().all(|v| v["workgroup_size"][0].as_u64().unwrap() > 0), "{kernel}");
    }
    let shown = folder.ok(&["shaders", "matmul.forward"]);
    for words in ["matmul.forward\n", "dims", "uniform", "tile_shared", "workgroup memory", "tile ", "default here"] {
        assert!(shown.contains(words), "no `{words}` in {shown}");
    }
    assert_eq!(shown.matches("matmul.").count(), 1, "{shown}");
    let baseline = folder.json(&["shaders", "matmul.forward", "--limits", "baseline", "--json"]);
    let broadcast = baseline["kernels"][0]["variants"].as_array().unwrap().iter().find(|v| v["variant"] == "tile_broadcast").unwrap();
    assert_eq!(broadcast["runs"], false, "it needs subgroups");
}

#[test]
fn without_an_adapter_the_list_says_so() {
    let folder = Folder::new("shaders_alone");
    let mut command = folder.command(&["shaders", "matmul.forward", "--backend", "vulkan"]);
    let command = command.env("VK_DRIVER_FILES", "/dev/null").env("VK_ICD_FILENAMES", "/dev/null");
    let done = Done::from(command.output().unwrap());
    if cfg!(target_os = "linux") {
        assert!(done.code == 0 && done.stderr.contains("none found") && done.stdout.contains("tile_shared"), "{done:?}");
        assert!(!done.stdout.contains("here"), "{done:?}");
    }
}

#[test]
fn every_language_is_written() {
    let folder = Folder::new("shaders_out");
    let wanted = BTreeSet::from(["layer_norm.forward.lanes_32", "matmul.forward.tile_shared", "adamw.apply.plain"]);
    for (target, ending, begins) in [("msl", "metal", "// language: metal"), ("hlsl", "hlsl", ""), ("glsl", "comp", "#version 450")] {
        let answer = folder.json(&["shaders", "--target", target, "--out", target, "--json"]);
        let written: Vec<&str> = answer["written"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(written.len(), files(&folder, target).len());
        for name in &wanted {
            let text = folder.read(&format!("{target}/{name}.{ending}"));
            assert!(text.starts_with(begins) && text.len() > 300, "{target} {name}: {text}");
        }
    }
    let said = folder.ok(&["shaders", "--target", "spirv", "--out", "spirv"]);
    let written = files(&folder, "spirv");
    assert!(said.contains(&format!("{} files written to spirv", written.len())), "{said}");
    for file in written {
        let bytes = fs::read(&file).unwrap();
        assert_eq!(bytes[..4], 0x0723_0203u32.to_le_bytes(), "{}", file.display());
    }
    folder.ok(&["shaders", "attention.forward", "--target", "wgsl", "--out", "wgsl", "--head-size", "32"]);
    let written = files(&folder, "wgsl");
    assert!(written.len() > 1 && fs::read_to_string(&written[0]).unwrap().contains("const HEAD_SIZE: u32 = 32u;"), "{written:?}");
}

#[test]
fn what_cannot_be_listed_or_written() {
    let folder = Folder::new("bad_shaders");
    folder.write("file", "");
    folder.refused(2, &["shaders", "matmull"], &["no kernel `matmull`", "matmul"]);
    folder.refused(2, &["shaders", "--target", "spirv"], &["--out"]);
    folder.refused(2, &["shaders", "--out", "x"], &["--target"]);
    folder.refused(2, &["shaders", "--target", "cuda", "--out", "x"], &["cuda", "spirv, msl, hlsl, glsl, wgsl"]);
    folder.refused(2, &["shaders", "--head-size", "30"], &["--head-size 30", "multiple of 4"]);
    folder.refused(2, &["shaders", "--head-size", "512"], &["--head-size 512", "to 128"]);
    folder.refused(1, &["shaders", "--target", "spirv", "--out", "file"], &["file: is not a folder", "--out"]);
}
