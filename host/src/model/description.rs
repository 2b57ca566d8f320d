//! A model described: every parameter with its name, shape and place, and what each layer computes. Passes, adapters, files,
//! memory plans and operation counts follow from it.
//!
//! Legend: C channels, F feed-forward, H heads, K key/value heads, D head size, V vocabulary.

use std::ops::Range;

use super::config::{CausalLmConfig, LayerKind};
use super::family::{Architecture, Biases, Field, Width};
use crate::ops::attention::{Scoring, Sizes};
use crate::ops::gated::Activation;
use crate::ops::log_prob::Form;
use crate::ops::rms_norm::Norm;
use crate::ops::rope::Frequencies;

/// A product of a layer. Maps with the same input that lie side by side are one: keys and values, gate and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Query,
    KeyValue,
    Output,
    GateUp,
    Down,
}

impl Place {
    pub(crate) const ALL: [Self; 5] = [
        Self::Query,
        Self::KeyValue,
        Self::Output,
        Self::GateUp,
        Self::Down,
    ];
}

/// A norm of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NormPlace {
    Input,
    Query,
    Key,
    /// Of what attention adds.
    Attention,
    /// Of what goes into the feed-forward block.
    FeedForward,
    /// Of what the feed-forward block adds.
    Last,
}

impl NormPlace {
    pub(crate) const ALL: [Self; 6] = [
        Self::Input,
        Self::Query,
        Self::Key,
        Self::Attention,
        Self::FeedForward,
        Self::Last,
    ];
}

/// The sizes and constants that passes need.
#[derive(Clone, Debug)]
pub(crate) struct Dimensions {
    pub(crate) channels: usize,
    pub(crate) feed_forward: usize,
    pub(crate) attention: Sizes,
    pub(crate) vocabulary: usize,
    pub(crate) norm: Norm,
    pub(crate) activation: Activation,
    /// What embeddings are multiplied by.
    pub(crate) embedding: f64,
    /// What a layer's two additions to the residual stream are multiplied by.
    pub(crate) residual: f64,
    /// What becomes of the head's product.
    pub(crate) logits: Form,
    /// The rotations of its layers.
    pub(crate) rotations: Vec<Frequencies>,
    pub(crate) layers: Vec<LayerRule>,
    /// Which norms a layer has, in the order of [`NormPlace::ALL`].
    norms: [bool; 6],
}

impl Dimensions {
    /// Whether layers have this norm.
    pub(crate) fn has(&self, place: NormPlace) -> bool {
        self.norms[place as usize]
    }

    /// Whether what a half of a layer adds to the stream is finished apart from the product that makes it, by this norm or a
    /// multiplier.
    pub(crate) fn finishes_apart(&self, place: NormPlace) -> bool {
        self.has(place) || self.residual != 1.0
    }
}

/// What one layer computes besides products and norms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LayerRule {
    pub(crate) scoring: Scoring,
    /// Which of the rotations it has.
    pub(crate) rotation: usize,
}

/// Where a linear map lies in a layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MapPlace {
    /// Its weight, (O, I).
    pub(crate) weight: Range<usize>,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Its bias, (O,).
    pub(crate) bias: Option<Range<usize>>,
}

/// Where the parts of a layer lie among its parameters; all layers are alike.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    maps: [MapPlace; 5],
    norms: [Option<Range<usize>>; 6],
    /// Parameters of a layer.
    pub(crate) len: usize,
}

impl Layout {
    pub(crate) fn map(&self, place: Place) -> &MapPlace {
        &self.maps[place as usize]
    }

    pub(crate) fn norm(&self, place: NormPlace) -> Option<Range<usize>> {
        self.norms[place as usize].clone()
    }
}

/// How a fresh parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Draw {
    /// From N(0, std²).
    Normal(f64),
    /// All the same.
    Constant(f32),
}

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    /// Its name, as Hugging Face has it.
    pub(crate) name: String,
    /// As GGUF has it.
    pub(crate) gguf: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) draw: Draw,
    /// What it is, where a layer has it.
    pub(crate) field: Option<Field>,
}

/// A part of a field that is a part of a product: rows of the field, and outputs of the product.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) place: Place,
    /// The first of the product's outputs.
    pub(crate) first: usize,
    /// The field's rows.
    pub(crate) rows: Range<usize>,
}

/// The name of the embedding table and of the output head.
pub(crate) const TABLE: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";
const NORM: &str = "model.norm.weight";

impl CausalLmConfig {
    fn architecture(&self) -> &'static Architecture {
        self.family.architecture()
    }

    /// H·D.
    fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// K·D.
    fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Rows and columns of a field's matrix; of a norm, its width and 1.
    pub(crate) fn shape(&self, field: Field) -> (usize, usize) {
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let (q, k) = (self.query_width(), self.key_width());
        match field {
            Field::Query => (q, c),
            Field::Key | Field::Value => (k, c),
            Field::QueryKeyValue => (q + 2 * k, c),
            Field::Output => (c, q),
            Field::Gate | Field::Up => (f, c),
            Field::GateUp => (2 * f, c),
            Field::Down => (c, f),
            Field::QueryNorm(Width::Head) | Field::KeyNorm(Width::Head) => (self.head_dim, 1),
            Field::QueryNorm(Width::All) => (q, 1),
            Field::KeyNorm(Width::All) => (k, 1),
            Field::InputNorm | Field::AttentionNorm | Field::FeedForwardNorm | Field::LastNorm => {
                (c, 1)
            }
        }
    }

    /// The products that a matrix is a part of; none of a norm.
    pub(crate) fn pieces(&self, field: Field) -> Vec<Piece> {
        let (q, k, f) = (self.query_width(), self.key_width(), self.intermediate_size);
        let piece = |place, first, rows| Piece { place, first, rows };
        match field {
            Field::Query => vec![piece(Place::Query, 0, 0..q)],
            Field::Key => vec![piece(Place::KeyValue, 0, 0..k)],
            Field::Value => vec![piece(Place::KeyValue, k, 0..k)],
            Field::QueryKeyValue => vec![
                piece(Place::Query, 0, 0..q),
                piece(Place::KeyValue, 0, q..q + 2 * k),
            ],
            Field::Output => vec![piece(Place::Output, 0, 0..self.hidden_size)],
            Field::Gate => vec![piece(Place::GateUp, 0, 0..f)],
            Field::Up => vec![piece(Place::GateUp, f, 0..f)],
            Field::GateUp => vec![piece(Place::GateUp, 0, 0..2 * f)],
            Field::Down => vec![piece(Place::Down, 0, 0..self.hidden_size)],
            _ => Vec::new(),
        }
    }

    /// Whether a field's map has a bias.
    fn has_bias(&self, field: Field) -> bool {
        let asked = &self.variant;
        match (self.architecture().biases, field) {
            (Biases::QueryKeyValue, Field::Query | Field::Key | Field::Value) => true,
            (
                Biases::Asked | Biases::AskedOfAttention,
                Field::Query | Field::Key | Field::Value | Field::Output,
            ) => asked.attention_bias,
            (Biases::Asked, Field::Gate | Field::Up | Field::Down) => asked.mlp_bias,
            _ => false,
        }
    }

    /// The parameters of a layer in their order: field, whether it is the field's bias, and the field's names.
    ///
    /// What one product takes lies together: the weights of keys and values, then their biases.
    fn of_layer(&self) -> Vec<(Field, bool, &'static str, &'static str)> {
        let mut all = Vec::new();
        let mut waiting = Vec::new();
        for &(field, module, gguf) in self.architecture().layer {
            all.push((field, false, module, gguf));
            if self.has_bias(field) {
                waiting.push((field, true, module, gguf));
            }
            let together = matches!(field, Field::Query | Field::Key | Field::Gate);
            if !together {
                all.append(&mut waiting);
            }
        }
        all
    }

    /// All parameters in order: embedding, layers, final norm, and the output head where it is not the embedding.
    ///
    /// A fresh weight of I inputs is drawn with the standard deviation 1/√I, so that every map keeps the scale of what goes in
    /// (`LeCun` et al. 1998, section 4.6), whatever the width. The customary 0.02 is that for C = 2500; in a model of 100
    /// channels it leaves attention flat and the feed-forward block linear for most of a short training.
    pub(crate) fn specs(&self) -> Vec<Spec> {
        let c = self.hidden_size;
        // Each layer adds twice to the residual stream. Scaling what is added by 1/√(2L) keeps the stream's variance
        // independent of the depth (GPT-2, section 2.3); transformers' LLaMA does not scale.
        let depth = (2.0 * self.num_hidden_layers as f64).sqrt();
        let fan_in = |inputs: usize| 1.0 / (inputs as f64).sqrt();
        // A row of the table is read as it is: of scale 1, it weighs in the residual stream what a layer adds. As an output
        // head it has C inputs, and as both in a family that scales what it reads.
        let embedding = if self.tie_word_embeddings || self.architecture().scaled_embedding {
            fan_in(c)
        } else {
            1.0
        };
        let ones = Draw::Constant(1.0 - self.architecture().norm_offset as f32);
        let spec = |name: &str, gguf: &str, shape: &[usize], draw| Spec {
            name: name.to_owned(),
            gguf: gguf.to_owned(),
            shape: shape.to_vec(),
            draw,
            field: None,
        };
        let table = [self.vocab_size, c];
        let drawn = Draw::Normal(embedding);
        let mut all = vec![spec(TABLE, "token_embd.weight", &table, drawn)];
        let of_layer = self.of_layer();
        for layer in 0..self.num_hidden_layers {
            for &(field, is_bias, module, gguf) in &of_layer {
                let (rows, columns) = self.shape(field);
                let is_norm = self.pieces(field).is_empty();
                let draw = match field {
                    _ if is_bias => Draw::Constant(0.0),
                    _ if is_norm => ones,
                    Field::Output | Field::Down => Draw::Normal(fan_in(columns) / depth),
                    _ => Draw::Normal(fan_in(columns)),
                };
                let shape: &[usize] = if is_bias || is_norm {
                    &[rows]
                } else {
                    &[rows, columns]
                };
                let part = if is_bias { "bias" } else { "weight" };
                let name = format!("model.layers.{layer}.{module}.{part}");
                let gguf = format!("blk.{layer}.{gguf}.{part}");
                all.push(Spec {
                    field: Some(field),
                    ..spec(&name, &gguf, shape, draw)
                });
            }
        }
        all.push(spec(NORM, "output_norm.weight", &[c], ones));
        if !self.tie_word_embeddings {
            let draw = Draw::Normal(fan_in(c));
            all.push(spec(HEAD, "output.weight", &table, draw));
        }
        all
    }

    /// Names and shapes of all parameters in order.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let specs = self.specs().into_iter();
        specs.map(|spec| (spec.name, spec.shape)).collect()
    }

    /// Where the parts of a layer lie among its parameters.
    pub(crate) fn layout(&self) -> Layout {
        let mut maps = Place::ALL.map(|place| {
            let (outputs, inputs) = self.of_place(place);
            MapPlace {
                weight: 0..0,
                outputs,
                inputs,
                bias: None,
            }
        });
        let mut norms = NormPlace::ALL.map(|_| None);
        let mut at = 0;
        for (field, is_bias, _, _) in self.of_layer() {
            let (rows, columns) = self.shape(field);
            let columns = if is_bias { 1 } else { columns };
            for piece in self.pieces(field) {
                let map = &mut maps[piece.place as usize];
                let range = at + piece.rows.start * columns..at + piece.rows.end * columns;
                // The second of two that lie side by side lengthens the first.
                let old = if is_bias {
                    map.bias.get_or_insert(range.clone())
                } else {
                    &mut map.weight
                };
                if piece.first == 0 {
                    *old = range;
                } else {
                    old.end = range.end;
                }
            }
            if let Some(place) = norm_place(field) {
                norms[place as usize] = Some(at..at + rows);
            }
            at += rows * columns;
        }
        Layout {
            maps,
            norms,
            len: at,
        }
    }

    /// Outputs and inputs of a product.
    fn of_place(&self, place: Place) -> (usize, usize) {
        let (c, f) = (self.hidden_size, self.intermediate_size);
        match place {
            Place::Query => (self.query_width(), c),
            Place::KeyValue => (2 * self.key_width(), c),
            Place::Output => (c, self.query_width()),
            Place::GateUp => (2 * f, c),
            Place::Down => (c, f),
        }
    }

    /// What becomes of the head's product.
    pub(crate) fn logits(&self) -> Form {
        Form {
            scale: 1.0 / self.variant.logits_scaling,
            cap: self.variant.final_logit_softcapping,
        }
    }

    /// What passes need.
    pub(crate) fn dimensions(&self) -> Dimensions {
        let (architecture, variant) = (self.architecture(), &self.variant);
        let layout = self.layout();
        let half = self.head_dim / 2;
        let scaled = if architecture.scaled_embedding {
            (self.hidden_size as f64).sqrt()
        } else {
            1.0
        };
        let mut rotations = vec![variant.rope_scaling.frequencies(self.rope_theta, half)];
        rotations.extend(
            variant
                .rope_local_base_freq
                .map(|theta| Frequencies::new(theta, half)),
        );
        let local = rotations.len() - 1;
        let all = || (0..self.num_hidden_layers).map(|index| variant.layer(index));
        if all().any(|kind| !kind.rotates) {
            // A turn by 0, which leaves every bit as it is.
            rotations.push(Frequencies::none(half));
        }
        let none = rotations.len() - 1;
        let rule = |kind: LayerKind| LayerRule {
            scoring: Scoring {
                scale: variant.score_scale(self.head_dim),
                cap: variant.attn_logit_softcapping,
                window: variant.sliding_window.filter(|_| kind.sliding),
            },
            rotation: match kind {
                LayerKind { rotates: false, .. } => none,
                LayerKind { sliding: true, .. } => local,
                _ => 0,
            },
        };
        Dimensions {
            channels: self.hidden_size,
            feed_forward: self.intermediate_size,
            attention: Sizes {
                heads: self.num_attention_heads,
                kv_heads: self.num_key_value_heads,
                size: self.head_dim,
            },
            vocabulary: self.vocab_size,
            norm: Norm {
                eps: self.rms_norm_eps,
                offset: architecture.norm_offset,
            },
            activation: architecture.activation,
            embedding: scaled * variant.embedding_multiplier,
            residual: variant.residual_multiplier,
            logits: self.logits(),
            rotations,
            layers: all().map(rule).collect(),
            norms: NormPlace::ALL.map(|place| layout.norm(place).is_some()),
        }
    }

    /// Parameters of one layer.
    pub(crate) fn layer_len(&self) -> usize {
        self.layout().len
    }

    /// Elements of a layer's matrices.
    pub(crate) fn matrices_of_layer(&self) -> usize {
        let size = |place| {
            let (outputs, inputs) = self.of_place(place);
            outputs * inputs
        };
        Place::ALL.into_iter().map(size).sum()
    }

    /// All parameters.
    pub fn parameter_count(&self) -> usize {
        let table = self.vocab_size * self.hidden_size;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        tables * table + self.num_hidden_layers * self.layer_len() + self.hidden_size
    }
}

/// Which norm a field is.
fn norm_place(field: Field) -> Option<NormPlace> {
    Some(match field {
        Field::InputNorm => NormPlace::Input,
        Field::QueryNorm(_) => NormPlace::Query,
        Field::KeyNorm(_) => NormPlace::Key,
        Field::AttentionNorm => NormPlace::Attention,
        Field::FeedForwardNorm => NormPlace::FeedForward,
        Field::LastNorm => NormPlace::Last,
        _ => return None,
    })
}
