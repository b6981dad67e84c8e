//! What one command leaves for the next: compiled pipelines in the user's cache folder.

use std::fs;

use crate::support::{Done, Folder};

#[test]
fn pipelines_are_kept_and_damaged_ones_ignored() {
    let folder = Folder::with_toy("pipeline_cache");
    let cache = folder.path("cache");
    let predict = || {
        let mut command = folder.command(&["predict", "hello world", "--json"]);
        let done = Done::from(command.env("WGPT_CACHE", &cache).output().unwrap());
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout
    };
    let files = || -> Vec<_> {
        let entries = fs::read_dir(&cache).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let want = predict();
    // An adapter without a pipeline cache leaves no file.
    assert!(files().len() <= 1, "{:?}", files());
    for file in files() {
        assert!(file.file_name().unwrap().to_str().unwrap().starts_with("wgpu_pipeline_cache_"), "{file:?}");
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 0x55;
        for damaged in [&flipped[..], &whole[..whole.len() / 2], &[], b"not a cache at all, only a text"] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(predict(), want, "with {} damaged bytes", damaged.len());
            assert_ne!(fs::read(&file).unwrap(), damaged, "the damaged cache was not replaced");
        }
    }
    // A folder that cannot be created costs only the cache.
    fs::remove_dir_all(&cache).unwrap_or_default();
    fs::write(&cache, "a file").unwrap();
    assert_eq!(predict(), want);
}
