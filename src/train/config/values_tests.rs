//! Every number of a config at its extremes: values that the device, the counters or the files cannot hold are refused by the key's name.

use std::collections::BTreeSet;

use super::RunConfig;

/// The values that each float key accepts and refuses; the list must contain every float key.
const FLOATS: &[(&str, &[&str], &[&str])] = &[
    ("data.val_fraction", &["0", "1e-300", "0.999999999"], &["1", "-1e-300", "nan", "inf"]),
    ("model.dropout", &["0", "0.1", "1e-9", "0.999999"], &["1e-10", "1e-300", "0.99999999", "1", "-0.1", "nan", "inf"]),
    ("train.beta1", &["0", "0.9", "1e-37"], &["1e-46", "1e-40", "0.99999999", "1", "-0.1", "nan", "inf"]),
    ("train.beta2", &["0", "0.99", "1e-37"], &["1e-46", "1e-40", "0.99999999", "1", "-0.1", "nan", "inf"]),
    ("train.eps", &["1e-37", "1e-8", "1e38"], &["0", "1e-46", "1e-40", "1e39", "-1e-8", "nan", "inf"]),
    ("train.grad_clip", &["0", "1e-37", "1e38"], &["1e-46", "1e-40", "1e39", "-1", "nan", "inf"]),
    ("train.learning_rate", &["1e-3", "1e38"], &["0", "1e-46", "1e-40", "1e39", "1e300", "-1", "nan", "inf"]),
    ("train.min_learning_rate", &["0", "1e-37"], &["1e-46", "1e-40", "1e39", "-1", "nan", "inf"]),
    ("train.momentum", &["0", "0.9", "1e-37"], &["1e-46", "1e-40", "0.99999999", "1", "-0.1", "nan", "inf"]),
    ("train.snapshot_every", &["0", "1e-9", "1e38"], &["1e-46", "1e39", "-1", "nan", "inf"]),
    ("train.weight_decay", &["0", "1e-37", "1e38"], &["1e-46", "1e-40", "1e39", "1e300", "-1", "nan", "inf"]),
];

fn with(key: &str, value: &str) -> crate::error::Result<RunConfig> {
    let mut config = RunConfig::default();
    config.set(&format!("{key}={value}"))?;
    config.validate().map(|()| config)
}

fn keys(wanted: impl Fn(&toml::Value) -> bool) -> BTreeSet<String> {
    let tree = toml::Table::try_from(RunConfig::default()).unwrap();
    let of = |(section, keys): (String, toml::Value)| {
        let keys = keys.as_table().unwrap().clone();
        keys.into_iter().filter(|(_, value)| wanted(value)).map(move |(key, _)| format!("{section}.{key}")).collect::<Vec<_>>()
    };
    tree.into_iter().flat_map(of).collect()
}

#[test]
fn every_float_is_held_to_what_the_device_sees() {
    let listed: BTreeSet<String> = FLOATS.iter().map(|(key, ..)| key.to_string()).collect();
    let found = keys(toml::Value::is_float);
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "FLOATS has no row of {missing:?}: add the values that each accepts and refuses");
    assert_eq!(listed, found);
    for (key, taken, refused) in FLOATS {
        for value in *taken {
            with(key, value).unwrap_or_else(|e| panic!("{key}={value}: {e}"));
        }
        for value in *refused {
            let error = with(key, value).err().unwrap_or_else(|| panic!("{key}={value} was taken")).to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}

/// A whole number that is accepted gives a config that can be written and whose sums and products do not overflow.
#[test]
fn every_whole_number_is_counted_safely() {
    let found = keys(toml::Value::is_integer);
    assert!(found.contains("train.steps") && found.contains("tokenizer.max_vocab"), "{found:?}");
    for key in found {
        for value in ["9223372036854775808", "18446744073709551615", "18446744073709551616", "99999999999999999999999"] {
            assert_eq!(with(&key, value).unwrap_err().to_string(), format!("{key} = {value}: needs at most 9223372036854775807"));
        }
        assert_eq!(with(&key, "-1").unwrap_err().to_string(), format!("{key} = -1: needs a whole number, 0 or more"));
        for value in ["4294967296", "4611686018427387904", "9223372036854775807"] {
            let config = match with(&key, value) {
                Ok(config) => config,
                Err(e) => {
                    let message = e.to_string();
                    assert!(message.contains(key.split_once('.').unwrap().1) && !message.contains('\n'), "{key}={value}: {message}");
                    continue;
                }
            };
            config.to_toml().unwrap();
            let train = &config.train;
            let samples = (train.batch_size as u64).checked_mul(train.grad_accumulation as u64).expect(&key);
            samples.checked_mul(config.model.seq_len as u64).and_then(|_| samples.checked_mul(train.steps)).expect(&key);
        }
    }
}

/// The same limits apply to a host that fills in the struct.
#[test]
fn whole_numbers_that_no_file_holds_are_refused_by_name() {
    type Change = fn(&mut RunConfig);
    let changes: [(Change, &str); 6] = [
        (|c| c.train.steps = 1 << 63, "train.steps"),
        (|c| c.train.warmup_steps = u64::MAX, "train.warmup_steps"),
        (|c| c.train.seed = u64::MAX, "train.seed"),
        (|c| c.train.log_every = 1 << 63, "train.log_every"),
        (|c| c.train.eval_batches = usize::MAX, "train.eval_batches"),
        (|c| c.tokenizer.min_count = usize::MAX, "tokenizer.min_count"),
    ];
    for (change, key) in changes {
        let mut config = RunConfig::default();
        change(&mut config);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.starts_with(key) && message.ends_with("needs at most 9223372036854775807"), "{message}");
    }
}

#[test]
fn a_peak_below_the_end_of_its_schedule_takes_the_end_along() {
    let base = RunConfig::default();
    let changed = |assignments: &[&str]| {
        let mut config = base.clone();
        assignments.iter().for_each(|a| config.set(a).unwrap());
        let said = config.train.follow_peak(&base.train);
        (config.train.min_learning_rate, said, config.validate().is_ok())
    };
    let (low, said, valid) = changed(&["train.learning_rate=1e-5"]);
    let ratio = base.train.min_learning_rate / base.train.learning_rate;
    assert!((low / 1e-5 - ratio).abs() < 1e-12 && valid, "{low}");
    assert!(said.unwrap().ends_with("in place of 0.0002, which is above train.learning_rate = 1e-5"));
    // Otherwise the end keeps its value, and an end that was set explicitly is not changed.
    assert_eq!(changed(&["train.learning_rate=1e-3"]), (2e-4, None, true));
    assert_eq!(changed(&["train.learning_rate=1e-5", "train.min_learning_rate=1e-4"]), (1e-4, None, false));
    assert_eq!(changed(&["train.learning_rate=1e-5", "train.schedule=constant"]), (2e-4, None, true));
    assert_eq!(changed(&[]), (2e-4, None, true));
}
