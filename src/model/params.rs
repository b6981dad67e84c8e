//! The parameters of a model, listed once: `Weights::describe` gives each one its position, name, shape, role and initial values. All
//! else is derived from it: the [`table`], the pools, checkpoints, the counts, and the tensors of forward and backward.

use super::config::{ModelConfig, Norm, PositionEncoding};
use crate::error::{Error, Result};
use crate::gpu::tensor::Tensor;
use crate::random;

/// How a parameter is initialized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with this standard deviation around 0.
    Normal(f64),
    /// Every element has this value.
    Constant(f32),
}

/// The purpose of a parameter. Code that treats parameters differently matches on this, never on a name. The variants are in the table's
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One row per token (V, C): the embedding, the head, or both.
    Vocabulary {
        /// Whether it is an operand of a matrix product: true if it is the head.
        multiplies: bool,
    },
    /// One row per position (T, C), added to embeddings.
    Positions,
    /// The operand (out, in) of a matrix product.
    Matrix,
    /// The weight (n) of a norm.
    NormWeight,
    /// The bias (n) of a norm.
    NormBias,
    /// The bias (n) of a linear layer.
    Bias,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Unique in the table, such as `h.0.attn.qkv.weight`; its tensors have this name too.
    pub name: String,
    /// (out, in) or (n).
    pub shape: Vec<usize>,
    pub(crate) role: Role,
    pub(crate) init: Init,
}

impl Param {
    /// Whether weight decay applies: to matrices, not to vectors (Brown et al. 2020, appendix B, and GPT-2's reimplementations).
    pub fn decays(&self) -> bool {
        matches!(self.role, Role::Vocabulary { .. } | Role::Positions | Role::Matrix)
    }

    /// Whether it is an operand of a matrix product; lookup tables are not.
    pub fn multiplies(&self) -> bool {
        matches!(self.role, Role::Vocabulary { multiplies: true } | Role::Matrix)
    }

    /// Whether it may be split by rows over several bindings.
    pub fn splits(&self) -> bool {
        matches!(self.role, Role::Vocabulary { .. })
    }

    /// Number of elements, the product of `shape`.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements, as the table of a vocabulary of size 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the number of values.
    ///
    /// # Errors
    /// [`Error::Usage`] with both sizes.
    pub(crate) fn check(&self, what: &str, values: usize) -> Result<()> {
        if values == self.len() {
            return Ok(());
        }
        let (name, shape, needed) = (&self.name, &self.shape, self.len());
        Err(Error::usage(format!("{what} of `{name}`: {values} values were given, its shape {shape:?} needs {needed}")))
    }

    /// The initial values: each is a function of the run's seed, the parameter's name and the element's index.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        match self.init {
            Init::Constant(value) => vec![value; self.len()],
            Init::Normal(deviation) => {
                let key = random::key(seed, &self.name);
                (0..self.len() as u64).map(|element| (deviation * random::normal(key, element)) as f32).collect()
            }
        }
    }
}

/// A linear layer or a norm.
#[derive(Debug, Clone)]
pub(crate) struct Layer<T> {
    /// `h.0.attn.qkv`: the name of the activation that it writes, and the prefix of its parameters' names.
    pub name: String,
    pub weight: T,
    pub bias: Option<T>,
}

/// The layers of one block.
#[derive(Debug, Clone)]
pub(crate) struct BlockWeights<T> {
    pub ln_1: Layer<T>,
    pub qkv: Layer<T>,
    pub attn_proj: Layer<T>,
    pub ln_2: Layer<T>,
    pub fc: Layer<T>,
    pub mlp_proj: Layer<T>,
}

/// One `T` per parameter, arranged as in the model: its row of the table, its tensor, or its gradient.
#[derive(Debug, Clone)]
pub(crate) struct Weights<T> {
    /// (V, C): one tensor per part, split by rows.
    pub wte: Vec<T>,
    pub wpe: Option<T>,
    pub h: Vec<BlockWeights<T>>,
    /// Pre-norm models only.
    pub ln_f: Option<Layer<T>>,
    /// (V, C), as `wte`. If the head is tied, `Weights<Param>` has none and `Weights<Tensor>` those of `wte`.
    pub lm_head: Vec<T>,
}

impl<T> Layer<T> {
    fn map<U>(&self, of: impl Fn(&T) -> U) -> Layer<U> {
        Layer { name: self.name.clone(), weight: of(&self.weight), bias: self.bias.as_ref().map(of) }
    }

    fn into_each(self) -> impl Iterator<Item = T> {
        [self.weight].into_iter().chain(self.bias)
    }
}

impl<T> BlockWeights<T> {
    fn map<U>(&self, of: impl Fn(&T) -> U) -> BlockWeights<U> {
        let layer = |layer: &Layer<T>| layer.map(&of);
        BlockWeights {
            ln_1: layer(&self.ln_1),
            qkv: layer(&self.qkv),
            attn_proj: layer(&self.attn_proj),
            ln_2: layer(&self.ln_2),
            fc: layer(&self.fc),
            mlp_proj: layer(&self.mlp_proj),
        }
    }

    fn into_each(self) -> impl Iterator<Item = T> {
        let BlockWeights { ln_1, qkv, attn_proj, ln_2, fc, mlp_proj } = self;
        [ln_1, qkv, attn_proj, ln_2, fc, mlp_proj].into_iter().flat_map(Layer::into_each)
    }
}

impl Weights<Param> {
    /// Every parameter of a model, initialized as in GPT-2: N(0, 0.02), residual projections scaled by 1 / √(2L). With sinusoidal
    /// positions, where lookups are scaled by √C, token embeddings are N(0, 1/√C), so that a token is as large as its encoded position.
    pub fn describe(config: &ModelConfig) -> Weights<Param> {
        let (c, f, v) = (config.d_model, config.d_ff(), config.vocab_size);
        let normal = Init::Normal(0.02);
        let residual = Init::Normal(0.02 / (2.0 * config.n_layer as f64).sqrt());
        let param = |name: &str, shape: &[usize], role, init| Param { name: name.to_owned(), shape: shape.to_vec(), role, init };
        let vector = |name: String, n, role| config.bias.then(|| param(&format!("{name}.bias"), &[n], role, Init::Constant(0.0)));
        let norm = |name: String| Layer {
            weight: param(&format!("{name}.weight"), &[c], Role::NormWeight, Init::Constant(1.0)),
            bias: vector(name.clone(), c, Role::NormBias),
            name,
        };
        let linear = |name: String, shape: [usize; 2], init| Layer {
            weight: param(&format!("{name}.weight"), &shape, Role::Matrix, init),
            bias: vector(name.clone(), shape[0], Role::Bias),
            name,
        };
        let block = |l: usize| BlockWeights {
            ln_1: norm(format!("h.{l}.ln_1")),
            qkv: linear(format!("h.{l}.attn.qkv"), [c.saturating_mul(3), c], normal),
            attn_proj: linear(format!("h.{l}.attn.proj"), [c, c], residual),
            ln_2: norm(format!("h.{l}.ln_2")),
            fc: linear(format!("h.{l}.mlp.fc"), [f, c], normal),
            mlp_proj: linear(format!("h.{l}.mlp.proj"), [c, f], residual),
        };
        let tokens = if config.position == PositionEncoding::Sinusoidal { Init::Normal((c as f64).powf(-0.5)) } else { normal };
        let head = || param("lm_head", &[v, c], Role::Vocabulary { multiplies: true }, normal);
        Weights {
            wte: vec![param("wte", &[v, c], Role::Vocabulary { multiplies: config.tied_head }, tokens)],
            wpe: (config.position == PositionEncoding::Learned).then(|| param("wpe", &[config.seq_len, c], Role::Positions, normal)),
            h: (0..config.n_layer).map(block).collect(),
            ln_f: (config.norm == Norm::Pre).then(|| norm("ln_f".to_owned())),
            lm_head: (!config.tied_head).then(head).into_iter().collect(),
        }
    }

    /// The tensors of every parameter: `tables` looks up those that rows are read from, `operands` all others.
    pub(crate) fn find(&self, tables: impl Fn(&str) -> Vec<Tensor>, operands: impl Fn(&str) -> Vec<Tensor>) -> Weights<Tensor> {
        let one = |param: &Param| operands(&param.name).remove(0);
        let head = self.lm_head.first().unwrap_or(&self.wte[0]);
        Weights {
            wte: tables(&self.wte[0].name),
            wpe: self.wpe.as_ref().map(|param| tables(&param.name).remove(0)),
            h: self.h.iter().map(|block| block.map(one)).collect(),
            ln_f: self.ln_f.as_ref().map(|layer| layer.map(one)),
            lm_head: operands(&head.name),
        }
    }
}

/// Every parameter of a model, matrices before vectors, so that in each segment weight decay ends at one offset.
pub fn table(config: &ModelConfig) -> Vec<Param> {
    let Weights { wte, wpe, h, ln_f, lm_head } = Weights::describe(config);
    let blocks = h.into_iter().flat_map(BlockWeights::into_each);
    let rest = ln_f.into_iter().flat_map(Layer::into_each).chain(lm_head);
    let mut table: Vec<Param> = wte.into_iter().chain(wpe).chain(blocks).chain(rest).collect();
    table.sort_by_key(|param| match param.role {
        Role::Vocabulary { .. } | Role::Positions | Role::Matrix => 0,
        Role::NormWeight => 1,
        Role::NormBias => 2,
        Role::Bias => 3,
    });
    table
}

/// Checks that a list of values, in the table's order, fits it; `what` describes the values in the message.
///
/// # Errors
/// [`Error::Usage`] that names the first parameter with a wrong number of values, and both numbers.
pub fn check(table: &[Param], what: &str, values: &[Vec<f32>]) -> Result<()> {
    if values.len() != table.len() {
        return Err(Error::usage(format!("{what} of {} parameters were given, this model has {}", values.len(), table.len())));
    }
    table.iter().zip(values).try_for_each(|(param, values)| param.check(what, values.len()))
}

impl ModelConfig {
    /// The number of trained weights, with `vocab_size` as it is (0 counts an empty table). The sum saturates, so that a size with too many
    /// digits reaches the check that reports it.
    pub fn parameters(&self) -> u64 {
        self.count(|_| true)
    }

    /// Floating-point operations to train on one token, forward and backward: 6·N + 12·L·T·C, with N the elements of the matrices that
    /// multiply, including the head (Chowdhery et al. 2022, PaLM, appendix B).
    pub fn flops_per_token(&self) -> u64 {
        let attention = [12, self.n_layer, self.seq_len, self.d_model].into_iter().fold(1u64, |n, size| n.saturating_mul(size as u64));
        self.count(Param::multiplies).saturating_mul(6).saturating_add(attention)
    }

    /// The elements of the parameters that satisfy `of`. Describes one block and multiplies by the number of layers.
    fn count(&self, of: impl Fn(&Param) -> bool) -> u64 {
        let numbers = |layers: usize| {
            let table = table(&ModelConfig { n_layer: layers, ..self.clone() });
            let sizes = table.iter().filter(|param| of(param)).map(|p| p.shape.iter().fold(1u64, |n, &size| n.saturating_mul(size as u64)));
            sizes.fold(0, u64::saturating_add)
        };
        let (none, one) = (numbers(0), numbers(1));
        none.saturating_add((one - none).saturating_mul(self.n_layer as u64))
    }
}
