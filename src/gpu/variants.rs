//! Chooses the variant of each dispatch, from choices by kernel and shape class: given by hand, by tuning, or by a checkpoint.
//!
//! A choice reads `matmul=tile_shared` (every kernel of a file), `matmul.forward=tile_shared` (one kernel), or
//! `matmul.forward@1024x512x128=tile_shared` (one kernel in one shape class). The most specific choice that matches a dispatch wins; among
//! equals the last. A dispatch without a match uses the default of its adapter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Traits;
use super::kernel::Variant;
use super::plan::Dispatch;
use super::tensor::Dtype;
use crate::error::{Error, Result, excerpt};

/// The shape class of a dispatch: shapes for which the same tile is best share a class. Powers of two, `1024x512x128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Class {
    /// The output's rows over the whole batch, rounded up.
    pub rows: u64,
    /// The output's columns, rounded up.
    pub cols: u64,
    /// Half the FLOPs per output element, which is the length of the sum, rounded up.
    pub inner: u64,
    /// The element type of packed tensors, which halve the traffic; printed as in `1024x512x128xbf16`.
    pub packed: Option<Dtype>,
}

impl Class {
    /// The class of a recorded dispatch.
    pub fn of(dispatch: &Dispatch) -> Class {
        let (rows, cols) = (dispatch.extent.rows * dispatch.extent.batch, dispatch.extent.cols);
        let inner = dispatch.flops.div_ceil(2 * rows.max(1) * cols.max(1));
        let [rows, cols, inner] = [rows, cols, inner].map(|n| n.max(1).next_power_of_two());
        let packed = dispatch.tensors.iter().map(|tensor| tensor.dtype).find(|dtype| dtype.is_packed());
        Class { rows, cols, inner, packed }
    }

    /// The ratio of two classes: the product over the axes of larger divided by smaller; `u64::MAX` between element types.
    pub fn distance(self, other: Class) -> u64 {
        if self.packed != other.packed {
            return u64::MAX;
        }
        let pairs = [(self.rows, other.rows), (self.cols, other.cols), (self.inner, other.inner)];
        pairs.iter().map(|(a, b)| (a / b).max(b / a)).fold(1, u64::saturating_mul)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.rows, self.cols, self.inner)?;
        self.packed.map_or(Ok(()), |dtype| write!(f, "x{}", dtype.name()))
    }
}

impl FromStr for Class {
    type Err = Error;

    fn from_str(text: &str) -> Result<Class> {
        let packed = [Dtype::Bf16, Dtype::F16].into_iter().find(|dtype| text.rsplit_once('x').is_some_and(|(_, end)| end == dtype.name()));
        let numbers = packed.and_then(|_| text.rsplit_once('x')).map_or(text, |(numbers, _)| numbers);
        let parsed: Vec<u64> = numbers.split('x').map_while(|n| n.parse().ok().filter(|n: &u64| n.is_power_of_two())).collect();
        match parsed[..] {
            [rows, cols, inner] if numbers.matches('x').count() == 2 => Ok(Class { rows, cols, inner, packed }),
            _ => Err(Error::usage(format!("`{}` is no shape class: it needs three powers of two, as in 1024x512x128", excerpt(text)))),
        }
    }
}

impl TryFrom<String> for Class {
    type Error = Error;

    fn try_from(text: String) -> Result<Class> {
        text.parse()
    }
}

impl From<Class> for String {
    fn from(class: Class) -> String {
        class.to_string()
    }
}

/// One choice of a variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Choice {
    /// A kernel file (`matmul`) or one kernel of it (`matmul.forward`).
    pub kernel: String,
    /// Restricts it to dispatches of this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// [`Variant::name`] of the variant to use.
    pub variant: String,
}

/// The stored forms: a choice, or the pair of kernel file and variant in checkpoints from before shape classes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Choice {
        kernel: String,
        #[serde(default)]
        class: Option<Class>,
        variant: String,
    },
    Pair(String, String),
}

impl From<Stored> for Choice {
    fn from(stored: Stored) -> Choice {
        match stored {
            Stored::Choice { kernel, class, variant } => Choice { kernel, class, variant },
            Stored::Pair(kernel, variant) => Choice { kernel, class: None, variant },
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class {
            Some(class) => write!(f, "{}@{class}={}", self.kernel, self.variant),
            None => write!(f, "{}={}", self.kernel, self.variant),
        }
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Choice> {
        let form = || {
            let text = excerpt(text);
            Error::usage(format!("`{text}` is not of the form KERNEL=VARIANT, as in matmul=tile_shared"))
        };
        let (place, variant) = text.split_once('=').ok_or_else(form)?;
        let (kernel, class) = match place.split_once('@') {
            Some((kernel, class)) => (kernel, Some(class.parse()?)),
            None => (place, None),
        };
        if kernel.is_empty() || variant.is_empty() {
            return Err(form());
        }
        Ok(Choice { kernel: kernel.to_owned(), class, variant: variant.to_owned() })
    }
}

impl Choice {
    /// The file of its kernel.
    pub fn file(&self) -> &str {
        self.kernel.split('.').next().unwrap_or_default()
    }

    /// Whether it names this kernel or its file.
    pub fn names(&self, file: &str, kernel: &str) -> bool {
        self.kernel == kernel || self.kernel == file
    }

    fn fits(&self, dispatch: &Dispatch) -> bool {
        let kernel = &dispatch.kernel;
        self.names(kernel.file(), kernel.name()) && self.class.is_none_or(|class| class == Class::of(dispatch))
    }

    /// Order of precedence: a class before none, then a kernel before a file.
    fn specificity(&self) -> (bool, bool) {
        (self.class.is_some(), self.kernel.contains('.'))
    }

    /// Whether it matches every dispatch that `other` matches.
    fn covers(&self, other: &Choice) -> bool {
        self.names(other.file(), &other.kernel) && (self.class.is_none() || self.class == other.class)
    }

    /// Refuses a variant that is unknown, does not run here, or is not among `offered`, those of `all` variants that are for the element
    /// type of the activations.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the variant, and lists those that run here.
    pub fn check(&self, all: &[Variant], offered: &[&Variant], traits: &Traits) -> Result<()> {
        let is_meant = |variant: &&Variant| variant.name == self.variant;
        let problem = match (all.iter().find(is_meant), offered.iter().copied().find(is_meant)) {
            (_, Some(variant)) if (variant.runs)(traits) => return Ok(()),
            (Some(variant), None) => {
                let types: Vec<&str> = variant.storages.iter().map(|dtype| dtype.name()).collect();
                format!("is for activations stored as {}", types.join(" or "))
            }
            (_, Some(_)) => "does not run on this adapter".to_owned(),
            (None, None) => "is unknown".to_owned(),
        };
        let able: Vec<&str> = offered.iter().filter(|variant| (variant.runs)(traits)).map(|variant| variant.name).collect();
        let [variant, kernel] = [&self.variant, &self.kernel].map(|name| excerpt(name));
        Err(Error::usage(format!("the variant `{variant}` of `{kernel}` {problem}; here it can be {}", able.join(", "))))
    }
}

/// The variant chosen for a dispatch, if any choice matches.
pub fn wanted<'c>(choices: &'c [Choice], dispatch: &Dispatch) -> Option<&'c str> {
    let fitting = choices.iter().filter(|choice| choice.fits(dispatch));
    fitting.max_by_key(|choice| choice.specificity()).map(|choice| choice.variant.as_str())
}

/// The variants that a dispatch must not use.
pub fn avoided<'c>(avoid: &'c [Choice], dispatch: &Dispatch) -> Vec<&'c str> {
    avoid.iter().filter(|choice| choice.fits(dispatch)).map(|choice| choice.variant.as_str()).collect()
}

/// `base` overridden by `over`: drops the choices of `base` that one in `over` covers, however specific they are.
pub fn layered(base: &[Choice], over: &[Choice]) -> Vec<Choice> {
    let kept = base.iter().filter(|choice| !over.iter().any(|other| other.covers(choice)));
    kept.chain(over).cloned().collect()
}

/// Refuses choices of a variant that their kernel does not have or this adapter cannot run, and a kernel of which every variant that runs
/// is to be avoided.
///
/// # Errors
/// As [`Choice::check`]; [`Error::Usage`] for a kernel without a variant.
pub fn check<'d>(dispatches: impl Iterator<Item = &'d Dispatch>, traits: &Traits, choices: &[Choice], avoid: &[Choice]) -> Result<()> {
    if choices.is_empty() && avoid.is_empty() {
        return Ok(());
    }
    for dispatch in dispatches {
        let kernel = &dispatch.kernel;
        let variants: Vec<&Variant> = kernel.interfaces().iter().map(|interface| interface.module.variant).collect();
        let avoided = avoided(avoid, dispatch);
        let mut able = variants.iter().filter(|variant| (variant.runs)(traits));
        if !avoided.is_empty() && able.all(|variant| avoided.contains(&variant.name)) {
            let (name, avoided) = (kernel.name(), avoided.join(", "));
            return Err(Error::usage(format!("`{name}` has no variant left: every one that runs on this adapter is avoided ({avoided})")));
        }
        for choice in choices.iter().filter(|choice| choice.names(kernel.file(), kernel.name())) {
            choice.check(kernel.variants(), &variants, traits)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::extent::Extent;
    use crate::gpu::kernel::{KernelFile, KernelSource, SINGLE};
    use crate::gpu::tensor::Tensor;

    const SCALE: KernelSource = KernelSource {
        file: "scale",
        text: "struct Dims { first_group: u32 }\n@group(0) @binding(0) var<uniform> dims: Dims;\n\
               @group(0) @binding(1) var<storage, read_write> x: array<f32>;\n\
               @compute @workgroup_size(1) fn forward() { x[dims.first_group] *= 2.0; }",
        shared: &[],
        variants: SINGLE,
    };

    fn tensor(dtype: Dtype) -> Tensor {
        Tensor { name: "t".into(), shape: vec![1], dtype, storage: 0, offset: 0 }
    }

    fn dispatch(extent: Extent, flops: u64, dtype: Dtype) -> Dispatch {
        let kernel = KernelFile::load(&SCALE).kernel("forward");
        Dispatch { kernel, extent, dims: vec![], tensors: vec![tensor(Dtype::F32), tensor(dtype)], flops }
    }

    fn class(extent: Extent, flops: u64) -> String {
        Class::of(&dispatch(extent, flops, Dtype::F32)).to_string()
    }

    #[test]
    fn classes_are_powers_of_two_at_or_above() {
        assert_eq!(class(Extent::matrix(768, 512), 2 * 768 * 512 * 128), "1024x512x128");
        assert_eq!(class(Extent::matrix(1, 1), 0), "1x1x1");
        assert_eq!(class(Extent::matrix(1025, 3), 2 * 1025 * 3 * 129), "2048x4x256");
        assert_eq!(class(Extent::batched(64, 48), 3072 * 8), "4096x1x4", "the batch counts as rows");
        assert_eq!(class(Extent::rows(0), 0), "1x1x1");
        assert_eq!(Class::of(&dispatch(Extent::rows(5), 10, Dtype::Bf16)).to_string(), "8x1x1xbf16");
        assert_eq!(Class::of(&dispatch(Extent::rows(5), 10, Dtype::F16)).to_string(), "8x1x1xf16");
    }

    #[test]
    fn classes_and_choices_read_as_they_are_printed() {
        for text in ["1024x512x128", "1x1x1", "8x1x1xbf16", "8x1x1xf16"] {
            assert_eq!(text.parse::<Class>().unwrap().to_string(), text);
        }
        for text in ["", "1024", "1024x512", "1000x512x128", "1x1x1x1", "axbxc", "0x1x1", "1x1x1xbf17", "1x1x1xf32", "xf16"] {
            let error = text.parse::<Class>().unwrap_err().to_string();
            assert!(error.contains("powers of two"), "{text}: {error}");
        }
        for text in ["matmul=tile_shared", "matmul.forward=tile_shared", "matmul.forward@1024x512x128=tile_shared"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        for text in ["", "matmul", "=tile_shared", "matmul="] {
            assert!(text.parse::<Choice>().unwrap_err().to_string().contains("KERNEL=VARIANT"), "{text}");
        }
        assert!("matmul@1x1=tile_shared".parse::<Choice>().is_err());
    }

    #[test]
    fn the_most_specific_choice_wins_and_of_equals_the_last() {
        let dispatch = dispatch(Extent::rows(100), 2 * 100 * 64, Dtype::F32);
        let wins = |texts: &[&str]| {
            let choices: Vec<Choice> = texts.iter().map(|text| text.parse().unwrap()).collect();
            wanted(&choices, &dispatch).map(str::to_owned)
        };
        assert_eq!(wins(&[]), None);
        assert_eq!(wins(&["matmul=a", "scale.backward=b", "scale@1x1x1=c", "scal=d"]), None);
        assert_eq!(wins(&["scale=a", "scale=b"]).unwrap(), "b");
        assert_eq!(wins(&["scale.forward=a", "scale=b"]).unwrap(), "a");
        assert_eq!(wins(&["scale@128x1x64=a", "scale.forward=b"]).unwrap(), "a");
        assert_eq!(wins(&["scale.forward@128x1x64=a", "scale@128x1x64=b"]).unwrap(), "a");
    }

    #[test]
    fn what_is_laid_over_counts_however_broad_it_is() {
        let choices = |texts: &[&str]| -> Vec<Choice> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let base = choices(&["a.x@1x1x1=p", "a.y=p", "b@1x1x1=p"]);
        let laid = |over: &[&str]| -> Vec<String> { layered(&base, &choices(over)).iter().map(Choice::to_string).collect() };
        assert_eq!(laid(&["a=q"]), ["b@1x1x1=p", "a=q"]);
        assert_eq!(laid(&["a.x=q"]), ["a.y=p", "b@1x1x1=p", "a.x=q"]);
        assert_eq!(laid(&["a@2x1x1=q"]), ["a.x@1x1x1=p", "a.y=p", "b@1x1x1=p", "a@2x1x1=q"]);
        assert_eq!(laid(&["b.z=q"]), ["a.x@1x1x1=p", "a.y=p", "b@1x1x1=p", "b.z=q"]);
    }

    #[test]
    fn unknown_and_unable_variants_are_refused_with_those_that_run() {
        let able = Variant { name: "able", text: "", storages: &[], runs: |_| true, suits: |_, _| true };
        let broadcast = Variant { name: "broadcast", runs: |traits| traits.subgroup == Some(8), ..able };
        let packed = Variant { name: "packed", storages: &[Dtype::Bf16, Dtype::F16], ..able };
        let all = [able, broadcast, packed];
        let check = |variant: &str, traits: &Traits| {
            let choice = Choice { kernel: "k".into(), class: None, variant: variant.into() };
            choice.check(&all, &[&able, &broadcast], traits)
        };
        let refused = |variant: &str| check(variant, &Traits::default()).unwrap_err().to_string();
        assert_eq!(refused("fast"), "the variant `fast` of `k` is unknown; here it can be able");
        assert_eq!(refused("broadcast"), "the variant `broadcast` of `k` does not run on this adapter; here it can be able");
        assert_eq!(refused("packed"), "the variant `packed` of `k` is for activations stored as bf16 or f16; here it can be able");
        check("broadcast", &Traits { subgroup: Some(8), ..Traits::default() }).unwrap();
    }

    #[test]
    fn what_is_avoided_is_not_chosen() {
        const TWO: KernelSource = KernelSource {
            variants: &[
                Variant { name: "first", text: "", storages: &[], runs: |_| true, suits: |_, _| true },
                Variant { name: "elsewhere", text: "", storages: &[], runs: |_| false, suits: |_, _| true },
                Variant { name: "last", text: "", storages: &[], runs: |_| true, suits: |_, _| false },
            ],
            ..SCALE
        };
        let mut dispatch = dispatch(Extent::rows(100), 0, Dtype::F32);
        dispatch.kernel = KernelFile::load(&TWO).kernel("forward");
        let traits = Traits::default();
        let chosen = |wanted: Option<&str>, avoid: &[&str]| {
            let avoid: Vec<Choice> = avoid.iter().map(|text| text.parse().unwrap()).collect();
            check([&dispatch].into_iter(), &traits, &[], &avoid)?;
            let index = dispatch.kernel.choose(&traits, &dispatch.extent, wanted, &avoided(&avoid, &dispatch));
            Ok::<_, Error>(dispatch.kernel.interfaces()[index].module.variant.name)
        };
        assert_eq!(chosen(None, &[]).unwrap(), "first");
        assert_eq!(chosen(None, &["scale=first"]).unwrap(), "last", "a variant that does not suit is better than a wrong one");
        assert_eq!(chosen(Some("first"), &["scale.forward@128x1x1=first"]).unwrap(), "last", "whoever asks for it");
        assert_eq!(chosen(None, &["scale.backward=first", "scale@1x1x1=first", "other=first"]).unwrap(), "first");
        let refused = chosen(None, &["scale=first", "scale.forward=last"]).unwrap_err().to_string();
        assert_eq!(refused, "`scale.forward` has no variant left: every one that runs on this adapter is avoided (first, last)");
    }

    #[test]
    fn pairs_of_older_checkpoints_are_read() {
        let text = r#"[["matmul", "tile_shared"], {"kernel": "a.b", "class": "2x4x8", "variant": "c"}, {"kernel": "a", "variant": "d"}]"#;
        let choices: Vec<Choice> = serde_json::from_str(text).unwrap();
        let printed: Vec<String> = choices.iter().map(Choice::to_string).collect();
        assert_eq!(printed, ["matmul=tile_shared", "a.b@2x4x8=c", "a=d"]);
        let again: Vec<Choice> = serde_json::from_str(&serde_json::to_string(&choices).unwrap()).unwrap();
        assert_eq!(again, choices);
        assert!(serde_json::from_str::<Choice>(r#"{"kernel": "a", "class": "3x4x8", "variant": "c"}"#).is_err());
    }
}
