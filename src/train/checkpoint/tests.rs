//! Saving and loading without a device: what damaged, foreign or impossible files lead to.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;
use crate::files::{MANIFEST, Manifest};
use crate::model::params;
use crate::text::{Tokenizer, TokenizerConfig};
use crate::train::trainer::Snapshot;

/// Config, tokenizer and snapshot of a run after some steps.
struct TestRun {
    config: RunConfig,
    tokenizer: String,
    table: Vec<Param>,
    snapshot: Snapshot,
}

fn sample(step: u64) -> TestRun {
    let mut config = RunConfig::default();
    (config.model.n_layer, config.model.n_head, config.model.d_model) = (1, 1, 8);
    (config.model.seq_len, config.model.vocab_size) = (4, 5);
    config.train.warmup_steps = 0;
    let kind = TokenizerConfig { kind: "character".into(), ..TokenizerConfig::default() };
    let tokenizer = Tokenizer::train(&kind, "abcd").unwrap().to_json();
    let table = params::table(&config.model);
    let values = |start: usize| -> Vec<Vec<f32>> {
        let tensor = |p: &Param| (0..p.shape.iter().product()).map(|i: usize| (start + i) as f32 / 7.0 + step as f32).collect();
        table.iter().map(tensor).collect()
    };
    let state = State { updates: step as u32, skipped: 0, apply: 1, clip: 1.0, loss_scale: 64.0, good: 3 };
    let snapshot = Snapshot { step, state, weights: values(0), moments: vec![values(100), values(1000)] };
    TestRun { config, tokenizer, table, snapshot }
}

impl TestRun {
    fn save(&self, out: &Path, owner: &str, naming: Naming) -> Result<PathBuf> {
        let meta = Meta {
            version: VERSION,
            step: self.snapshot.step,
            samples: 0,
            data_fingerprint: 1,
            sources: vec![],
            device_state: self.snapshot.state,
            adapter: "none".into(),
            driver: "none".into(),
            variants: vec![],
            val_loss: None,
            best_val_loss: None,
        };
        let (config, tokenizer, table, tensors) = (&self.config, self.tokenizer.as_str(), &self.table[..], &self.snapshot);
        save(out, owner, &CheckpointContent { config, tokenizer, table, tensors, meta: &meta }, naming, 3)
    }
}

/// Reads a whole checkpoint. Returns the error if it is refused.
fn refused(checkpoint: &Checkpoint, table: &[Param]) -> Option<String> {
    let read = || {
        read_config(checkpoint)?;
        read_tokenizer(checkpoint)?;
        read_meta(checkpoint)?;
        read_weights(checkpoint, table)?;
        read_moments(checkpoint, table, 2)
    };
    read().err().map(|e| e.to_string())
}

#[test]
fn tensors_are_written_as_the_library_writes_them_and_come_back() {
    /// Yields pieces of three values.
    struct Pieces(Snapshot);
    impl Tensors for Pieces {
        fn moments(&self) -> usize {
            self.0.moments.len()
        }

        fn read(&self, param: usize, moment: Option<usize>, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
            self.0.read(param, moment, &mut |values| values.chunks(3).try_for_each(&mut *each))
        }
    }
    let (place, TestRun { table, snapshot, .. }) = (tempfile::tempdir().unwrap(), sample(3));
    let pieces = Pieces(sample(3).snapshot);
    let mut folder = NewFolder::begin(place.path(), "step-3", FILES).unwrap();
    tensors::write(&mut folder, &table, &pieces, 3).unwrap();
    let path = folder.put("me").unwrap();
    let all = |moment: Option<usize>, values: &[Vec<f32>]| -> Vec<(String, Vec<usize>, Vec<u8>)> {
        let name = |p: &Param| moment.map_or(p.name.clone(), |moment| format!("moment_{}.{}", moment + 1, p.name));
        table.iter().zip(values).map(|(p, v)| (name(p), p.shape.clone(), bytemuck::cast_slice(v).to_vec())).collect()
    };
    let moments = [all(Some(0), &snapshot.moments[0]), all(Some(1), &snapshot.moments[1])].concat();
    for (file, list) in tensors::FILES.iter().zip([all(None, &snapshot.weights), moments]) {
        let view = |(name, shape, bytes): &'_ (String, Vec<usize>, Vec<u8>)| {
            (name.clone(), TensorView::new(Dtype::F32, shape.clone(), Box::leak(bytes.clone().into_boxed_slice())).unwrap())
        };
        let views: HashMap<String, TensorView> = list.iter().map(view).collect();
        // The library sorts by name within one element type.
        assert!(fs::read(path.join(file)).unwrap() == safetensors::serialize(views, None).unwrap(), "{file}");
    }
    let checkpoint = Checkpoint::at(path);
    assert_eq!(read_weights(&checkpoint, &table).unwrap(), snapshot.weights);
    assert_eq!(read_moments(&checkpoint, &table, 2).unwrap(), snapshot.moments);
}

#[test]
fn a_value_that_is_not_finite_is_named_and_what_was_saved_stays() {
    let place = tempfile::tempdir().unwrap();
    let first = sample(10);
    first.save(place.path(), "me", Naming::Best).unwrap();
    for (naming, value) in [(Naming::Latest, f32::NAN), (Naming::Best, f32::INFINITY), (Naming::First, f32::NEG_INFINITY)] {
        for moment in [None, Some(0), Some(1)] {
            let mut bad = sample(20);
            let param = bad.table.iter().position(|p| p.name == "h.0.attn.proj.weight").unwrap();
            moment.map_or(&mut bad.snapshot.weights, |moment| &mut bad.snapshot.moments[moment])[param][5] = value;
            let e = bad.save(place.path(), "me", naming).unwrap_err();
            let name = moment.map_or(String::new(), |moment| format!("moment_{}.", moment + 1));
            let begin = format!("step 20: `{name}h.0.attn.proj.weight` has the value {value} at element 5, which is not a finite number");
            assert!(matches!(&e, Error::Diverged(said) if said.starts_with(&begin)), "{e}");
            let parent = folder(place.path());
            assert_eq!([named(&parent, "latest"), named(&parent, "best")], [Some(parent.join("step-10")), Some(parent.join("step-10"))]);
            assert_eq!(fs::read_dir(&parent).unwrap().count(), 3, "latest, best and step-10");
        }
    }
    assert_eq!(refused(&find(place.path(), Which::Latest).unwrap(), &first.table), None);
}

/// Regression: 176 of 200 flipped bits in the weights were accepted.
#[test]
fn every_flipped_bit_and_every_file_of_another_run_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| place.path().join(name));
    let sample_one = sample(10);
    let path = sample_one.save(&one, "me", Naming::Latest).unwrap();
    let other = sample(11).save(&two, "you", Naming::Latest).unwrap();
    let checkpoint = find(&one, Which::Latest).unwrap();
    assert_eq!((checkpoint.path(), refused(&checkpoint, &sample_one.table)), (path.as_path(), None));
    for name in FILES.iter().chain([&MANIFEST]) {
        let whole = fs::read(path.join(name)).unwrap();
        let bits = 8 * whole.len();
        for bit in (0..bits).step_by((bits / 200).max(1)) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(path.join(name), &bytes).unwrap();
            if let Some(said) = refused(&checkpoint, &sample_one.table) {
                assert!(*name == MANIFEST || said.contains(&format!("{name}: is damaged")), "bit {bit} of {name}: {said}");
                continue;
            }
            // The manifest's other fields are not part of the model.
            let (old, new): (Manifest, Manifest) = (serde_json::from_slice(&whole).unwrap(), serde_json::from_slice(&bytes).unwrap());
            assert!(*name == MANIFEST && old.files == new.files, "bit {bit} of {name} is accepted");
        }
        fs::write(path.join(name), fs::read(other.join(name)).unwrap()).unwrap();
        // The two samples have the same config and tokenizer.
        let same = fs::read(other.join(name)).unwrap() == whole;
        assert_eq!(refused(&checkpoint, &sample_one.table).is_none(), same, "{name} of another run");
        fs::remove_file(path.join(name)).unwrap();
        let said = refused(&checkpoint, &sample_one.table).unwrap();
        assert!(said.contains(name), "{said}");
        fs::write(path.join(name), whole).unwrap();
    }
    assert_eq!(refused(&checkpoint, &sample_one.table), None);
}

#[test]
fn the_next_older_whole_one_is_offered() {
    let place = tempfile::tempdir().unwrap();
    let TestRun { table, .. } = sample(0);
    for step in [10, 20, 30] {
        sample(step).save(place.path(), "me", Naming::Latest).unwrap();
    }
    let damage = |step: &str| {
        let path = folder(place.path()).join(step).join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    damage("step-30");
    let checkpoint = find(place.path(), Which::Best).unwrap();
    let said = refused(&checkpoint, &table).unwrap();
    let pointer = folder(place.path()).join("latest");
    let advice = format!("step-20 is intact, use it with: echo step-20 >{}; it can be read unverified", pointer.display());
    assert!(said.contains("step-30/model.safetensors: is damaged: its checksum is ") && said.ends_with(&advice), "{said}");
    assert_eq!(refused(&checkpoint.verify(false), &table), None);
    damage("step-20");
    let said = refused(&find(place.path(), Which::Latest).unwrap(), &table).unwrap();
    assert!(said.contains("; ") && said.contains("step-10 is intact, use it with: echo step-10 >"), "{said}");
    fs::write(&pointer, "step-10\n").unwrap();
    assert_eq!(refused(&find(place.path(), Which::Latest).unwrap(), &table), None);
    damage("step-10");
    let said = refused(&find(place.path(), Which::Latest).unwrap(), &table).unwrap();
    assert!(said.contains("; no other checkpoint of this run is intact; it can be read"), "{said}");
}

#[test]
fn only_this_runs_older_checkpoints_are_removed() {
    let place = tempfile::tempdir().unwrap();
    let parent = place.path();
    let made = |name: &str, owner: &str| {
        let mut folder = NewFolder::begin(parent, name, FILES).unwrap();
        folder.write_bytes("state.json", b"{}").unwrap();
        folder.put(owner).unwrap()
    };
    let left = || {
        let mut names: Vec<String> = fs::read_dir(parent).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.join(" ")
    };
    for step in [0, 10, 20, 30, 40, 50, 400] {
        made(&format!("step-{step}"), "me");
    }
    made("step-40", "me"); // step-40-2
    made("step-15", "another run");
    fs::create_dir(parent.join("step-16")).unwrap();
    fs::create_dir(parent.join("step-60-keep")).unwrap();
    // Left by killed processes, and by other programs.
    for (name, file) in [("step-41.tmp", "state.json"), ("step-42.tmp", "notes"), ("mine.tmp", "state.json")] {
        fs::create_dir(parent.join(name)).unwrap();
        fs::write(parent.join(name).join(file), "").unwrap();
    }
    fs::rename(made("step-17", "me"), parent.join("step-18")).unwrap();
    point(parent, "best", "step-10").unwrap();
    point(parent, "latest", "step-50").unwrap();
    remove_old(parent, "me", 50, 3);
    assert_eq!(left(), "best latest mine.tmp step-10 step-15 step-16 step-18 step-40 step-40-2 step-42.tmp step-50 step-60-keep");
    remove_old(parent, "me", 50, 1);
    assert_eq!(left(), "best latest mine.tmp step-10 step-15 step-16 step-18 step-42.tmp step-50 step-60-keep");
}

#[test]
fn files_that_cannot_be_read_at_all_are_not_advised_to_be_read_unverified() {
    let place = tempfile::tempdir().unwrap();
    let TestRun { table, .. } = sample(0);
    sample(10).save(place.path(), "me", Naming::Best).unwrap();
    let checkpoint = find(place.path(), Which::Latest).unwrap();
    for name in tensors::FILES {
        let (path, away) = (checkpoint.path().join(name), place.path().join(name));
        fs::rename(&path, &away).unwrap();
        let said = refused(&checkpoint, &table).unwrap();
        assert!(said.contains(name) && said.ends_with("; no other checkpoint of this run is intact"), "{said}");
        fs::rename(&away, &path).unwrap();
    }
    // Another process keeps its newest checkpoints, and removes the one that is being read.
    let open = checkpoint.open().unwrap();
    fs::remove_dir_all(open.files.path()).unwrap();
    let said = read_weights(&open.files, &table).unwrap_err().to_string();
    assert!(said.contains("step-10: was removed while it was read") && said.ends_with("repeat the command"), "{said}");
}
