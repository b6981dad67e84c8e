//! Invalid settings, texts and prompts: one line that says what was found and what is required, and nothing written.

use crate::support::{Folder, small, text};

#[test]
fn texts_that_are_none() {
    let folder = Folder::new("texts");
    folder.write("empty.txt", "");
    folder.write("white.txt", " \n\t \n");
    folder.write("binary.txt", b"some text\0\x01\x02");
    folder.write("latin1.txt", b"caf\xE9 au lait");
    folder.write("short.txt", "one two three");
    folder.write("ids.tokens", "not tokens at all, but longer than a header");
    let train = |file: &'static str| ["train", "--quiet", "--data", file];
    folder.refused(1, &train("empty.txt"), &["empty.txt", "is empty"]);
    folder.refused(2, &train("white.txt"), &["training part has 4 tokens"]);
    folder.refused(2, &["train", "--quiet", "--data", "white.txt", "--set", "tokenizer.kind=word"], &["holds no word"]);
    folder.refused(1, &train("binary.txt"), &["binary.txt", "NUL byte at position 9"]);
    folder.refused(1, &train("latin1.txt"), &["latin1.txt", "byte 0xE9 at position 3", "UTF-8"]);
    folder.refused(2, &train("short.txt"), &["training part has 11 tokens", "needs at least 33", "use more text"]);
    folder.write("mark.txt", "\u{feff}");
    folder.refused(1, &train("mark.txt"), &["mark.txt", "is empty"]);
    folder.refused(
        2,
        &["train", "--quiet", "--preset=toy", "--set=data.val_fraction=0.9999"],
        &["data.val_fraction is 0.9999", "make it smaller"],
    );
    folder.refused(1, &train("missing.txt"), &["missing.txt", "no such file"]);
    folder.refused(1, &train("."), &["is a folder"]);
    folder.refused(1, &train("ids.tokens"), &["ids.tokens", "tokenizer"]);
    folder.refused(2, &["train", "--quiet", "--data", "embedded:toy", "short.txt"], &["embedded:toy", "alone"]);
}

#[test]
fn names_that_are_unknown() {
    let folder = Folder::new("names");
    folder.refused(2, &["train", "--preset", "shakespear-word"], &["did you mean `shakespeare-word`?"]);
    folder.refused(2, &["train", "--set", "model.n_layers=3"], &["unknown key `n_layers`", "did you mean `n_layer`?"]);
    folder.refused(2, &["train", "--set", "modle.n_layer=3"], &["unknown section `modle`", "did you mean `model`?"]);
    folder.refused(2, &["train", "--set", "n_layer=3"], &["did you mean `model.n_layer`?"]);
    folder.refused(2, &["train", "--set", "n_layer"], &["is not an assignment", "section.key=value"]);
    folder.refused(2, &["train", "--set", "train.steps=many"], &["train.steps = many", "a whole number"]);
    folder.refused(2, &["train", "--set", "model.norm=middle"], &["model.norm = \"middle\"", "`pre`"]);
    folder.write("wrong.toml", "[train]\nsteps = 10\nlearn_rate = 0.1\n");
    folder.refused(1, &["train", "--config", "wrong.toml"], &["wrong.toml: line 3", "did you mean `learning_rate`?"]);
    folder.write("broken.toml", "[train\nsteps = 10\n");
    folder.refused(1, &["train", "--config", "broken.toml"], &["broken.toml: line 1"]);
    folder.refused(1, &["train", "--config", "none.toml"], &["none.toml", "no such file"]);
    folder.refused(2, &["train", "--prest", "toy"], &["--prest", "--preset"]);
    folder.refused(2, &["trian"], &["trian", "train"]);
    folder.refused(2, &["train", "--backend", "cuda"], &["cuda", "vulkan, metal, dx12, gl"]);
    let empty = ["train", "--out", ""];
    folder.refused(2, &empty, &["--out"]);
    assert!(!folder.run(&empty).stderr.contains("hyphen"), "nothing begins with one");
    folder.refused(2, &["train", "--resume", "--overwrite"], &["--resume", "--overwrite"]);
}

#[test]
fn sizes_that_cannot_be() {
    let folder = Folder::new("sizes");
    folder.write("text.txt", text());
    let refused = |set: &str, words: &[&str]| folder.refused(2, &["train", "--quiet", "--set", set], words);
    for key in ["n_layer", "n_head", "d_model", "seq_len"] {
        refused(&format!("model.{key}=0"), &[&format!("model.{key} = 0"), "needs 1 to"]);
    }
    refused("train.batch_size=0", &["train.batch_size = 0", "at least 1"]);
    refused("train.steps=0", &["train.steps = 0", "at least 1"]);
    refused("model.n_head=5", &["model.d_model = 64", "model.n_head = 5", "60 or 80"]);
    refused("model.d_model=100000000000", &["model.d_model", "needs 1 to"]);
    refused("model.vocab_size=100", &["model.vocab_size = 100", "or more, the tokenizer's size"]);
    refused("model.dropout=1.5", &["model.dropout = 1.5", "0 to below 1"]);
    refused("train.learning_rate=-1", &["train.learning_rate = -1", "above 0"]);
    refused("tokenizer.kind=letters", &["letters", "`word`, `character` or `bpe`"]);
    refused("data.val_fraction=1", &["data.val_fraction", "below 1"]);
    folder.refused(2, &["train", "--preset", "gpt2"], &["tokenizer.max_vocab is 0", "tokenizer.path"]);
    folder.refused(2, &["train", "--steps", "-3"], &["-3"]);
    folder.refused(2, &small(&["--set=model.seq_len=4000"]), &["part has", "needs at least 4001"]);
}

#[test]
fn adapters_that_are_not_there_or_too_small() {
    let folder = Folder::new("adapters");
    folder.write("text.txt", text());
    folder.refused(2, &small(&["--adapter", "99"]), &["adapter 99", "wgpt devices"]);
    folder.refused(2, &small(&["--adapter", "voodoo"]), &["adapter voodoo", "there are:"]);
    folder.refused(2, &small(&["--adapter", ""]), &["the name of an adapter is empty"]);
    if cfg!(target_os = "linux") {
        folder.refused(1, &small(&["--backend", "metal"]), &["no usable GPU adapter found of the backend metal"]);
    }
    let large_model = ["--limits=baseline", "--set=model.d_model=8192", "--set=model.n_head=64"];
    folder.refused(1, &small(&large_model), &["h.0.attn.qkv", "needs 768 MiB", "this adapter allows 128 MiB", "model.d_model"]);
    let large_batch = ["--limits=baseline", "--set=model.d_model=1024", "--set=model.n_head=8", "--set=train.batch_size=4096"];
    folder.refused(1, &small(&large_batch), &["needs", "this adapter allows", "train.batch_size"]);
    let far_too_large = ["--set=model.d_model=65536", "--set=model.n_head=512", "--set=train.batch_size=65536"];
    folder.refused(1, &small(&far_too_large), &["needs", "allows", "smaller"]);
    if cfg!(target_os = "linux") {
        folder.refused(1, &["devices", "--backend", "metal"], &["no usable GPU adapter found of the backend metal"]);
        let mut command = folder.command(&small(&["--backend=vulkan"]));
        let command = command.env("VK_DRIVER_FILES", "/dev/null").env("VK_ICD_FILENAMES", "/dev/null");
        let words = ["no usable GPU adapter", "apt-get install mesa-vulkan-drivers"];
        crate::support::Done::from(command.output().unwrap()).assert_refused(1, &["no driver"], &words);
        assert_eq!(folder.files().len(), 1);
    }
}

#[test]
fn prompts() {
    let folder = Folder::with_toy("prompts");
    folder.refused(2, &["predict", "--ids", "0,7"], &["id 7 is out of range", "0 to 6"]);
    folder.refused(2, &["generate", "--ids", "99999"], &["id 99999 is out of range"]);
    folder.refused(2, &["predict", ""], &["the prompt is empty"]);
    folder.refused(2, &["generate", "--prompt", " \n"], &["the prompt is empty"]);
    folder.refused(2, &["predict", "--ids", "-1"], &["-1"]);
    folder.refused(2, &["predict", "--ids", "one"], &["one"]);
    folder.refused(2, &["predict"], &["required", "<TEXT>"]);
    folder.refused(2, &["predict", "hello", "--ids", "1"], &["cannot be used with"]);
    folder.refused(2, &["predict", "hello", "--top", "0"], &["--top 0", "1 to 7"]);
    folder.refused(2, &["predict", "hello", "--top", "8"], &["--top 8", "1 to 7"]);
    folder.refused(2, &["generate", "--prompt", "hello", "--temperature=-1"], &["temperature = -1", "at least 0"]);
    folder.refused(2, &["generate", "--prompt", "hello", "--temperature", "NaN"], &["temperature = NaN"]);
    folder.refused(2, &["generate", "--prompt", "hello", "--top-p", "0"], &["top_p = 0", "above 0"]);
    folder.refused(2, &["tokenizer", "decode", "7"], &["token id 7", "end at 6"]);
    folder.refused(2, &["eval"], &["validation split has 0 tokens", "--data"]);

    // Not an error, but a notice, printed once.
    let done = folder.run(&["predict", "hello brave new brave world"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(
        done.stderr,
        "note: not in the vocabulary, read as <UNK>: \"brave\", \"new\"\nnote: the prompt has 5 tokens, the model sees the last 4\n"
    );
    assert_eq!(folder.run(&["predict", "brave world", "--quiet"]).stderr, "");
}

#[test]
fn tokenizers() {
    let folder = Folder::new("tokenizers");
    folder.write("text.txt", text());
    folder.write("latin1.txt", b"caf\xE9 au lait");
    folder.write("there.json", "{}");
    let train = |size: &'static str, out: &'static str, file: &'static str| ["tokenizer", "train", "--size", size, "--out", out, file];
    folder.refused(2, &train("256", "new.json", "text.txt"), &["256", "at least 257"]);
    folder.refused(1, &train("300", "new.json", "latin1.txt"), &["latin1.txt", "position 3"]);
    folder.refused(1, &train("300", "new.json", "none.txt"), &["none.txt", "no such file"]);
    folder.refused(1, &train("300", "there.json", "text.txt"), &["there.json", "--overwrite"]);
    folder.refused(1, &train("300", "no/new.json", "text.txt"), &["no/new.json", "no folder"]);
    folder.refused(1, &train("300", "text.txt/new.json", "text.txt"), &["text.txt/new.json", "cannot be written"]);
    folder.refused(1, &["tokenizer", "encode", "--tokenizer", "none.json", "a"], &["none.json", "no such file"]);
    folder.refused(1, &["tokenizer", "encode", "--tokenizer", "there.json", "a"], &["there.json", "no tokenizer.json"]);
    folder.refused(1, &["tokenizer", "encode", "--tokenizer", "text.txt", "a"], &["text.txt", "JSON"]);
    folder.refused(1, &["tokenizer", "encode", "a"], &["runs", "--run"]);
    // A vocabulary of this size would be allocated at once, and exceeds the memory.
    folder.refused(2, &train("99999999999", "new.json", "text.txt"), &["99999999999", "at most 16777216"]);
    let bpe = ["train", "--quiet", "--data=text.txt", "--set=tokenizer.kind=bpe", "--set=tokenizer.max_vocab=99999999999"];
    folder.refused(2, &bpe, &["tokenizer.max_vocab is 99999999999", "at most 16777216"]);
}
