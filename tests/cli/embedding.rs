//! What an application reads from the command line's runs, and what it writes for them.

use std::fs;
use std::path::Path;

use wgpt::low_level::train::folder::RunFolder;
use wgpt::low_level::train::metrics::Record;
use wgpt::low_level::train::{RunFiles, metrics};
use wgpt::{Corpus, Generator, Gpu, Options, Request, RunConfig, Sampling, Snapshot, Trained, Trainer, block_on, save_run};

use crate::support::{Folder, small, text};

fn gpu() -> Gpu {
    pollster::block_on(Gpu::request(&Request::default())).unwrap()
}

#[test]
fn a_training_of_ones_own_is_a_run_that_resume_goes_on_with() {
    let folder = Folder::new("host_run");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out=whole", "--steps=6", "--set=train.schedule=constant"]));
    let config = RunConfig::from_toml(&folder.read("whole/config.toml"), Path::new("config.toml")).unwrap();
    let (gpu, out) = (gpu(), folder.path("mine"));
    let (tokenizer, corpus) = Corpus::build(&config.data, &[text()], &config.tokenizer, None).unwrap();
    let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).unwrap();
    // Saved twice: the second checkpoint joins the first.
    for _ in 0..2 {
        (0..2).for_each(|_| assert!(trainer.step(&corpus.train, false, &|| false).unwrap()));
        trainer.finish().unwrap();
        let snapshot = block_on(&gpu, trainer.snapshot()).unwrap();
        let path = save_run(&out, &trainer, &snapshot, &tokenizer, &corpus).unwrap();
        assert!(path.ends_with(format!("step-{}", snapshot.step)), "{}", path.display());
    }
    assert!(out.join("checkpoints/step-2").is_dir());
    let done = folder.run(&["train", "--out=mine", "--resume"]);
    assert!(done.code == 0 && done.stderr.contains("resumed   after step 4"), "{done:?}");
    let weights = |run: &str| fs::read(folder.path(run).join("checkpoints/step-6/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("mine"), "another end than without the detour");
    // The run of another training is not overwritten.
    let other = RunConfig { train: wgpt::TrainConfig { seed: 7, ..config.train.clone() }, ..config.clone() };
    let trainer = block_on(&gpu, Trainer::new(&gpu, &other, &Options::default())).unwrap();
    let snapshot = block_on(&gpu, trainer.snapshot()).unwrap();
    let before = folder.files();
    let refused = save_run(&out, &trainer, &snapshot, &tokenizer, &corpus).unwrap_err().to_string();
    assert!(refused.contains("train.seed = 1337 there, 7 here"), "{refused}");
    assert_eq!(before, folder.files());
    // Another text is refused too.
    folder.write("text.txt", text().replace("sun", "nus"));
    folder.refused(1, &["train", "--quiet", "--out=mine", "--resume", "--steps=8"], &["text.txt is not what the run was trained on"]);
}

#[test]
fn a_host_keeps_its_folder_saves_from_a_thread_and_continues_the_metrics() {
    let folder = Folder::new("host_thread");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out=whole", "--steps=6", "--set=train.schedule=constant", "--set=train.log_every=1"]));
    let config = RunConfig::from_toml(&folder.read("whole/config.toml"), Path::new("config.toml")).unwrap();
    let gpu = gpu();
    let (tokenizer, corpus) = Corpus::build(&config.data, &[text()], &config.tokenizer, None).unwrap();
    let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).unwrap();
    let files = |trainer: &Trainer, snapshot: &Snapshot| RunFiles::of(trainer, snapshot, &tokenizer, &corpus).unwrap();

    // A first save that fails leaves nothing, not even the folder.
    let mut snapshot = block_on(&gpu, trainer.snapshot()).unwrap();
    snapshot.weights[0][3] = f32::NAN;
    let mut claimed = RunFolder::claim_next(&folder.path("mine")).unwrap();
    let refused = files(&trainer, &snapshot).write(&mut claimed, &snapshot, Some(&[])).unwrap_err().to_string();
    assert!(refused.contains("element 3") || refused.contains("not a finite number"), "{refused}");
    drop(claimed);
    assert!(!folder.path("mine").exists());

    // The name of the complete run is taken: the next one is claimed, and kept by its lock.
    let mut claimed = RunFolder::claim_next(&folder.path("whole")).unwrap();
    assert_eq!(claimed.path(), folder.path("whole-2"));
    let mut history: Vec<Record> = vec![];
    for step in [2, 4] {
        (0..2).for_each(|_| assert!(trainer.step(&corpus.train, false, &|| false).unwrap()));
        let reports = trainer.finish().unwrap();
        history.extend(reports.iter().map(|report| Record {
            step: report.step,
            loss: Some(f64::from(report.loss)),
            lr: report.learning_rate,
            grad_norm: f64::from(report.grad_norm),
            ..Record::default()
        }));
        let snapshot = block_on(&gpu, trainer.snapshot()).unwrap();
        let (files, records) = (files(&trainer, &snapshot), history.clone());
        let write = move || (files.write(&mut claimed, &snapshot, Some(&records)), claimed);
        let (path, back) = std::thread::spawn(write).join().unwrap();
        claimed = back;
        assert!(path.unwrap().ends_with(format!("step-{step}")));
        folder.refused(2, &["train", "--quiet", "--out=whole-2", "--resume"], &["is in use"]);
    }
    drop(claimed);
    folder.ok(&["train", "--quiet", "--out=whole-2", "--resume"]);
    let weights = |run: &str| fs::read(folder.path(run).join("checkpoints/step-6/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("whole-2"), "another end than without the detour");
    let losses = |run: &str| -> Vec<_> {
        let records = metrics::read(&folder.path(run).join(metrics::METRICS)).unwrap();
        records.iter().map(|record| (record.step, record.loss, record.lr, record.grad_norm)).collect()
    };
    assert_eq!(losses("whole").len(), 6);
    assert_eq!(losses("whole"), losses("whole-2"));

    // The resumed run keeps a rate that was changed on the way: the folder was always claimed.
    trainer.set_learning_rate(5e-4).unwrap();
    assert!(trainer.step(&corpus.train, false, &|| false).unwrap());
    let snapshot = block_on(&gpu, trainer.snapshot()).unwrap();
    let mut claimed = RunFolder::claim_next(&folder.path("whole")).unwrap();
    assert_eq!(claimed.path(), folder.path("whole-3"));
    files(&trainer, &snapshot).write(&mut claimed, &snapshot, Some(&history)).unwrap();
    drop(claimed);
    folder.ok(&["train", "--quiet", "--out=whole-3", "--resume"]);
    assert_eq!(losses("whole-3").last().map(|(step, _, rate, _)| (*step, *rate)), Some((6, 5e-4)));
}

#[test]
fn several_speak_with_one_set_of_weights_from_bytes() {
    let folder = Folder::with_toy("host_speaks");
    let run = folder.path("runs/toy");
    let read = |name: &str| fs::read(run.join("checkpoints/step-300").join(name)).unwrap();
    let [config, tokenizer] = ["config.toml", "tokenizer.json"].map(|name| String::from_utf8(read(name)).unwrap());
    let weights = read("model.safetensors");
    let trained = Trained::from_bytes(&config, &tokenizer, &weights).unwrap();
    let opened = Trained::open(&run).unwrap();
    assert_eq!((&opened.config, &opened.weights), (&trained.config, &trained.weights));
    assert_eq!(trained.wordless(), [6], "<UNK> comes last");

    let (gpu, options) = (gpu(), Options::default());
    let mut one = block_on(&gpu, trained.generator(&gpu, &options)).unwrap();
    let made = gpu.created();
    let mut two = block_on(&gpu, Generator::sharing(&gpu, &one.shared_weights(), &options)).unwrap();
    let bytes: usize = trained.weights.iter().map(|weights| 4 * weights.len()).sum();
    let first = made.bytes;
    assert!((gpu.created().bytes - first) + bytes as u64 <= first, "the second has weights of its own: {made:?} {:?}", gpu.created());
    let prompt = trained.tokenizer.encode("hello world").unwrap();
    let speak = |generator: &mut Generator| {
        generator.prompt(&prompt, &Sampling::greedy()).unwrap();
        let mut decoder = trained.tokenizer.decoder();
        generator.next_tokens(3).unwrap().into_iter().map(|id| decoder.push(id).unwrap()).collect::<String>()
    };
    assert_eq!((speak(&mut one).as_str(), speak(&mut two).as_str()), ("how are you", "how are you"));
    // Write other weights for both, while both exist.
    let silent: Vec<Vec<f32>> = trained.weights.iter().map(|weights| vec![0.0; weights.len()]).collect();
    block_on(&gpu, one.write_weights(&silent)).unwrap();
    assert!(speak(&mut one) == speak(&mut two) && speak(&mut two) != "how are you");
    assert!(block_on(&gpu, one.write_weights(&silent[1..])).is_err());
    block_on(&gpu, two.write_weights(&trained.weights)).unwrap();
    assert_eq!(speak(&mut one), "how are you", "one and two have the same weights");

    let problem = |config: &str, tokenizer: &str, weights: &[u8]| Trained::from_bytes(config, tokenizer, weights).unwrap_err().to_string();
    assert!(problem(&config, &tokenizer, &weights[..weights.len() - 1]).starts_with("model.safetensors: is truncated"));
    assert!(problem(&config, "{}", &weights).starts_with("tokenizer.json: "));
    assert!(problem(&config.replace("d_model = 16", "d_model = 32"), &tokenizer, &weights).contains("`wte` is F32 [7, 16]"));
    assert!(problem(&config.replace("[model]", "[modle]"), &tokenizer, &weights).starts_with("config.toml: line "));
}
