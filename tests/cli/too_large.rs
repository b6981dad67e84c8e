//! Models that no machine can plan or hold: one line with what is required and what is available, before anything is allocated.

use crate::support::Folder;

#[test]
fn models_that_no_machine_holds() {
    let folder = Folder::new("too-large");
    let train = |settings: &[&str]| {
        let mut args = vec!["train", "--quiet"];
        args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        folder.run(&args)
    };
    let refused = |settings: &[&str], words: &[&str]| {
        let done = train(settings);
        assert!(done.code == 2 && words.iter().all(|word| done.stderr.contains(word)), "{settings:?}: {done:?}");
    };
    refused(&["model.n_layer=16777216"], &["model.n_layer = 16777216: needs 1 to 4096"]);
    let vocabulary = ["model.vocab_size=16777216", "model.d_model=252", "model.n_head=3", "model.seq_len=8192", "train.batch_size=4"];
    refused(&vocabulary, &["the logits of 4 x 8192 tokens over model.vocab_size = 16777216", "at most 65536", "train.batch_size"]);
    // 50 billion parameters: if the adapter has memory of its own, its driver refuses them.
    let done = train(&["model.n_layer=1000", "model.d_model=2048", "model.n_head=32", "model.seq_len=16"]);
    assert!(done.code > 0 && done.stderr.contains("memory") && done.stderr.lines().count() == 1, "{done:?}");
    assert!(!folder.path("runs").exists(), "something was written");
}
