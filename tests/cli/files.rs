//! What commands write: nothing is replaced unasked.

use std::fs;

use crate::support::{Folder, text};

#[test]
fn nothing_is_replaced_unless_asked() {
    let folder = Folder::new("replaced");
    folder.write("text.txt", text());
    folder.ok(&["tokenizer", "train", "--size", "260", "--out", "bpe.json", "text.txt"]);
    let made: [(&str, &[&str]); 5] = [
        ("b.json", &["tokenizer", "train", "--size", "260", "text.txt", "--out", "b.json"]),
        ("a.tokens", &["tokenizer", "encode", "--tokenizer", "bpe.json", "--file", "text.txt", "--out", "a.tokens"]),
        ("a.trace", &["profile", "--preset=toy", "--steps=1", "--trace", "a.trace"]),
        ("a.svg", &["profile", "--preset=toy", "--steps=1", "--plot", "a.svg"]),
        ("out/sgd.apply.plain.wgsl", &["shaders", "sgd", "--target", "wgsl", "--out", "out"]),
    ];
    for (file, command) in made {
        folder.ok(command);
        folder.write(file, "mine");
        folder.refused(1, command, &[file, "is there already", "--overwrite", "--"]);
        folder.ok(&[command, &["--overwrite"]].concat());
        assert_ne!(fs::read(folder.path(file)).unwrap(), b"mine", "{command:?} --overwrite");
    }
    let names =
        |at: &str| fs::read_dir(folder.path(at)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    assert!(!names(".").iter().chain(&names("out")).any(|name| name.contains("wgpt-tmp")), "{:?}", names("."));
}

/// A socket stands for all that is no regular file, devices and pipes too: a rename would put a file in its place.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let (folder, elsewhere) = (Folder::new("no_regular_file"), tempfile::tempdir().unwrap());
    folder.write("text.txt", text());
    let socket = elsewhere.path().join("socket");
    let _open = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (to, words) = (socket.to_str().unwrap(), ["socket", "not a regular file"]);
    folder.refused(1, &["tokenizer", "train", "--size", "260", "--out", to, "--overwrite", "text.txt"], &words);
    folder.refused(1, &["profile", "--preset=toy", "--trace", to, "--overwrite"], &words);
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
}
