//! What the bytes of a moment are spent on.

use std::iter::Sum;
use std::ops::Add;

use serde::Serialize;

/// Bytes by what they are spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// Weights of all models that are alive, in every form in which they are kept.
    pub parameters: u64,
    /// Both moments of AdamW.
    pub optimizer: u64,
    /// Sums of gradients of what is trained.
    pub gradients: u64,
    /// What passes keep for the way back, and the buffers of a layer.
    pub activations: u64,
    /// Keys and values of rows that are being sampled.
    pub kv_cache: u64,
    /// Logits before and after they become gradients.
    pub logits: u64,
    /// What the process or the driver takes without any model.
    pub other: u64,
}

impl Parts {
    /// All together.
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Every part with its name.
    pub fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("parameters", self.parameters),
            ("optimizer state", self.optimizer),
            ("gradients", self.gradients),
            ("activations", self.activations),
            ("KV cache", self.kv_cache),
            ("logits", self.logits),
            ("process and driver", self.other),
        ]
    }
}

impl Add for Parts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            parameters: self.parameters + other.parameters,
            optimizer: self.optimizer + other.optimizer,
            gradients: self.gradients + other.gradients,
            activations: self.activations + other.activations,
            kv_cache: self.kv_cache + other.kv_cache,
            logits: self.logits + other.logits,
            other: self.other + other.other,
        }
    }
}

impl Sum for Parts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
