//! The bytes of models: what is trained, what is frozen, what several roles share.
//!
//! | value | GPU, bf16 | GPU, f32 | CPU |
//! |---|---|---|---|
//! | trained | 4 master + 2 copy + 4 gradient + 8 moments = 18 | 4 + 4 + 8 = 16 | 4 + 4 + 8 = 16 |
//! | frozen | 2 | 4 | 4 |
//!
//! Without an adapter every role has P values of its own. With one, roles stand on a frozen base that they share, and each
//! has A values of its own. A scalar head (C + 1 values) is f32 everywhere.

use super::machine::Machine;
use super::parts::Parts;
use crate::model::block::Slot;
use crate::model::description::Dimensions;
use crate::model::{CausalLmConfig, LoraConfig};

/// Bytes of an f32: master weights, gradients, one moment.
const F32: u64 = 4;

/// The sizes of a model, and how it is trained.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    /// What passes need.
    pub(super) of: Dimensions,
    pub(super) vocabulary: u64,
    pub(super) channels: u64,
    pub(super) layers: u64,
    /// H·D.
    pub(super) query_width: u64,
    /// 2·K·D.
    pub(super) key_value_width: u64,
    pub(super) feed_forward: u64,
    pub(super) tied: bool,
    /// P.
    parameters: u64,
    /// Elements of a layer's matrices.
    matrices: u64,
    /// A of one layer, and its slots; `None` where all parameters are trained.
    lora: Option<(u64, Vec<Slot>)>,
}

impl Sizes {
    pub(super) fn new(model: &CausalLmConfig, lora: Option<&LoraConfig>) -> Self {
        let of = model.dimensions();
        let of_layer = |lora: &LoraConfig| {
            let fields = lora.fields(model.family).into_iter();
            let values = fields.map(|field| {
                let (outputs, inputs) = model.shape(field);
                (lora.rank * (outputs + inputs)) as u64
            });
            (values.sum(), lora.slots(model))
        };
        Self {
            vocabulary: model.vocab_size as u64,
            channels: model.hidden_size as u64,
            layers: model.num_hidden_layers as u64,
            query_width: of.attention.query_width() as u64,
            key_value_width: of.attention.key_value_width() as u64,
            feed_forward: model.intermediate_size as u64,
            tied: model.tie_word_embeddings,
            parameters: model.parameter_count() as u64,
            matrices: model.matrices_of_layer() as u64,
            lora: lora.map(of_layer),
            of,
        }
    }

    /// Elements of the matrices of all layers.
    pub(super) fn matrices(&self) -> u64 {
        self.layers * self.matrices
    }

    /// V·C.
    pub(super) fn table(&self) -> u64 {
        self.vocabulary * self.channels
    }

    /// Values of all norms and biases.
    pub(super) fn vectors(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        self.parameters - tables * self.table() - self.matrices()
    }

    /// P.
    pub(super) fn parameters(&self) -> u64 {
        self.parameters
    }

    /// A, where adapters are trained.
    pub(super) fn adapter(&self) -> Option<u64> {
        let lora = self.lora.as_ref();
        lora.map(|(values, _)| self.layers * values)
    }

    /// The slots of a layer's adapters; none without.
    pub(super) fn slots(&self) -> &[Slot] {
        self.lora.as_ref().map_or(&[], |(_, slots)| slots)
    }

    /// The sum of the ranks of a layer's adapters; 0 without.
    pub(super) fn ranks(&self) -> u64 {
        self.slots().iter().map(|slot| slot.rank as u64).sum()
    }

    /// The bytes of all models that are alive.
    pub(super) fn of_roles(&self, roles: &[Role], machine: &Machine) -> Parts {
        let head = self.channels + 1;
        let mut bases: Vec<usize> = Vec::new();
        let mut parts = Parts::default();
        for role in roles {
            let own = match self.adapter() {
                None => self.parameters(),
                Some(adapter) => {
                    if !bases.contains(&role.base) {
                        bases.push(role.base);
                        parts = parts + frozen(self.parameters(), machine);
                    }
                    if role.adapted { adapter } else { 0 }
                }
            };
            parts = parts
                + match role.state {
                    State::Trained => trained(own, machine),
                    State::Frozen => frozen(own, machine),
                };
            if role.scored {
                parts = parts + head_of(head, role.state == State::Trained);
            }
        }
        parts
    }
}

/// What is kept of a model's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Weights, gradients and moments.
    Trained,
    /// What passes read.
    Frozen,
}

/// A model that is alive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) state: State,
    /// Whether it has a scalar head.
    pub(super) scored: bool,
    /// The frozen base that it stands on where adapters are trained; roles of one number share it.
    pub(super) base: usize,
    /// Whether it has an adapter of its own where adapters are trained.
    pub(super) adapted: bool,
}

impl Role {
    pub(super) fn frozen(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Frozen,
            scored: false,
            base: 0,
            adapted: true,
        }
    }

    pub(super) fn trained(name: impl Into<String>) -> Self {
        Self {
            state: State::Trained,
            ..Self::frozen(name)
        }
    }

    pub(super) fn scored(self) -> Self {
        Self {
            scored: true,
            ..self
        }
    }
}

/// Values that no optimizer touches.
fn frozen(values: u64, machine: &Machine) -> Parts {
    Parts {
        parameters: machine.real() * values,
        ..Parts::default()
    }
}

/// Values with master weights, gradients and moments; the copy that passes read is apart where it has another dtype.
fn trained(values: u64, machine: &Machine) -> Parts {
    let copy = match machine.real() {
        F32 => 0,
        bytes => bytes,
    };
    Parts {
        optimizer: 2 * F32 * values,
        gradients: F32 * values,
        parameters: (F32 + copy) * values,
        ..Parts::default()
    }
}

fn head_of(values: u64, trained: bool) -> Parts {
    let moments = if trained { 2 * F32 * values } else { 0 };
    Parts {
        parameters: F32 * values,
        optimizer: moments,
        gradients: moments / 2,
        ..Parts::default()
    }
}
