//! In which format the weights are kept while sampling.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In which format a decoder keeps the matrices it multiplies with. The model itself, norms, activations and sums stay f32,
/// and so does an embedding table that is not the output head.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum SamplingWeights {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bfloat16: half the memory, 8 significant bits.
    Bf16,
    /// Rounded to 8-bit integers with a scale for every 32 inputs of an output: 9 bits a weight.
    Q8,
}

impl SamplingWeights {
    /// The format as configurations and commands write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
        }
    }

    /// Bits that a weight takes, its share of a scale included.
    pub fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::Bf16 => 16,
            // 32 integers and one f32.
            Self::Q8 => 9,
        }
    }

    /// Whether what is sampled is not exactly the model's distribution.
    pub fn rounds(self) -> bool {
        self != Self::F32
    }
}

impl fmt::Display for SamplingWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_others_are_refused() {
        for weights in [
            SamplingWeights::F32,
            SamplingWeights::Bf16,
            SamplingWeights::Q8,
        ] {
            let text = serde_json::to_string(&weights).unwrap();
            assert_eq!(text, format!("\"{weights}\""));
            assert_eq!(
                serde_json::from_str::<SamplingWeights>(&text).unwrap(),
                weights
            );
            assert_eq!(
                <SamplingWeights as clap::ValueEnum>::from_str(weights.as_str(), false),
                Ok(weights)
            );
        }
        let error = serde_json::from_str::<SamplingWeights>("\"int4\"").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("unknown variant `int4`, expected one of `f32`, `bf16`, `q8`"),
            "{error}"
        );
    }
}
