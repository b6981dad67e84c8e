//! Names that are not UTF-8: every command works in such a folder and with such names, or refuses them by name.

#![cfg(target_os = "linux")] // other systems do not have such names

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::support::{Done, Folder, text};

const NAME: &[u8] = b"caf\xe9";

fn name(end: &str) -> OsString {
    OsStr::from_bytes(&[NAME, end.as_bytes()].concat()).to_owned()
}

fn run(folder: &Folder, args: &[&OsStr]) -> Done {
    let mut command = folder.command(&[]);
    Done::from(command.args(args).output().unwrap())
}

fn json(folder: &Folder, args: &[&OsStr]) -> Value {
    let done = run(folder, args);
    assert_eq!(done.code, 0, "{args:?}: {done:?}");
    serde_json::from_str(done.stdout.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{args:?}: {e}: {done:?}"))
}

#[test]
fn names_that_are_not_utf8() {
    let folder = Folder::new("not_utf8");
    let o = OsStr::new;
    let (bpe, tokens) = (name(".json"), name(".tokens"));
    std::fs::write(folder.path("text.txt"), text()).unwrap();
    std::fs::create_dir(folder.0.join(name(""))).unwrap();
    // Files written there, as named in the result.
    let out = name("/run");
    let args = ["train", "--preset=toy", "--steps=2", "--json", "--quiet", "--out"].map(o);
    let result = json(&folder, &[&args[..], &[&out]].concat());
    assert_eq!((&result["outcome"], &result["run"]), (&"finished".into(), &"caf\u{fffd}/run".into()), "{result}");
    assert!(folder.0.join(&out).join("loss.svg").exists());
    let made = json(&folder, &[o("tokenizer"), o("train"), o("--size=260"), o("--json"), o("--out"), &bpe, o("text.txt")]);
    assert_eq!(made["path"], "caf\u{fffd}.json");
    let encode = ["tokenizer", "encode", "--json", "--file", "text.txt", "--tokenizer"].map(o);
    let made = json(&folder, &[&encode[..], &[&bpe, o("--out"), &tokens]].concat());
    assert_eq!(made["path"], "caf\u{fffd}.tokens");
    let made = json(&folder, &[o("shaders"), o("--target=wgsl"), o("--json"), o("--out"), &name("/wgsl"), o("layer_norm.forward")]);
    assert_eq!(made["out"], "caf\u{fffd}/wgsl");
    let tune = ["tune", "--preset=toy", "--rounds=1", "--kernel=layer_norm", "--json", "--out"].map(o);
    let tuned = json(&folder, &[&tune[..], &[&name("/tuned.toml")]].concat());
    assert_eq!(tuned["file"], "caf\u{fffd}/tuned.toml");
    // Files read there.
    for args in [
        vec![o("generate"), o("--prompt=hello"), o("--tokens=2"), o("--run"), &out],
        vec![o("predict"), o("hello"), o("--run"), &out],
        vec![o("train"), o("--resume"), o("--steps=3"), o("--quiet"), o("--out"), &out],
        vec![o("train"), o("--init"), &out, o("--steps=1"), o("--out"), &name("/tuned")],
        vec![o("profile"), o("--preset=toy"), o("--steps=1"), o("--trace"), &name("/t.json"), o("--plot"), &name("/p.svg")],
        vec![o("eval"), o("--data"), o("text.txt"), o("--run"), &out],
    ] {
        let done = run(&folder, &args);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
    }
    // A name that a config cannot hold.
    let data = name(".txt");
    std::fs::write(folder.0.join(&data), text()).unwrap();
    let args = [o("train"), o("--data"), &data];
    run(&folder, &args).assert_refused(2, &["train --data"], &["caf\u{fffd}.txt", "UTF-8"]);
    let done = run(&folder, &[o("eval"), o("--run"), &out, o("--data"), &tokens]);
    done.assert_refused(1, &["eval --data"], &["caf\u{fffd}.tokens: has a name that is not UTF-8"]);
    // Every command in a folder with such a name.
    let here = Folder(folder.0.join(name("")));
    for args in [&["generate", "--prompt=hello", "--tokens=2", "--run=run"][..], &["train", "--preset=toy", "--steps=1", "--out=other"]] {
        let done = here.run(args);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
    }
}
