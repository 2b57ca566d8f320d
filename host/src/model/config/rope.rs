//! How rotary positions are stretched beyond the length that a model was first trained with: `rope_scaling` of transformers 4,
//! `rope_parameters` of transformers 5.

use serde_json::{Map, Value, json};

use super::keys::is_off;
use crate::error::{Error, Result};
use crate::ops::rope::Frequencies;

/// How the frequencies of the rotation differ from θ^(−2i/D).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// All are divided by a factor (Chen et al. 2023, arXiv:2306.15595).
    Linear {
        /// At least 1 in practice; above 0.
        factor: f64,
    },
    /// Low ones are divided by a factor, high ones are kept, with a ramp between (Grattafiori et al. 2024).
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Wavelengths above `original` / this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original` / this are high frequencies.
        high_freq_factor: f64,
        /// Tokens of the first training.
        original: usize,
    },
    /// Each is divided by a factor of its own (Ding et al. 2024, arXiv:2402.13753).
    LongRope {
        /// Factors of rows up to `original`, (D/2,).
        short_factor: Vec<f64>,
        /// Factors of longer rows, (D/2,); kept for what is written.
        long_factor: Vec<f64>,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
        /// Tokens of the first training.
        original: usize,
    },
}

impl RopeScaling {
    /// The frequencies of a rotation with the base `theta` over heads of 2 · `half` channels.
    pub(crate) fn frequencies(&self, theta: f64, half: usize) -> Frequencies {
        let plain = Frequencies::new(theta, half);
        match self {
            Self::None => plain,
            Self::Linear { factor } => plain.linear(*factor),
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original,
            } => plain.llama3(*factor, *low_freq_factor, *high_freq_factor, *original),
            Self::LongRope {
                short_factor,
                attention_factor,
                ..
            } => plain.longrope(short_factor, *attention_factor),
        }
    }

    pub(super) fn validate(&self, half: usize) -> Result<()> {
        let above_0 = |key: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            Err(Error::input(format!(
                "rope_scaling.{key} is {value}; accepted: a number above 0"
            )))
        };
        let factors = |key: &str, values: &[f64]| {
            if values.len() != half {
                return Err(Error::input(format!(
                    "rope_scaling.{key} has {} numbers; accepted: {half}, half of head_dim",
                    values.len()
                )));
            }
            values.iter().try_for_each(|value| above_0(key, *value))
        };
        match self {
            Self::None => Ok(()),
            Self::Linear { factor } => above_0("factor", *factor),
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original,
            } => {
                above_0("factor", *factor)?;
                above_0("low_freq_factor", *low_freq_factor)?;
                above_0("original_max_position_embeddings", *original as f64)?;
                if high_freq_factor > low_freq_factor {
                    return Ok(());
                }
                Err(Error::input(format!(
                    "rope_scaling.high_freq_factor is {high_freq_factor}; accepted: above low_freq_factor, which is \
                     {low_freq_factor}"
                )))
            }
            Self::LongRope {
                short_factor,
                long_factor,
                attention_factor,
                original,
            } => {
                factors("short_factor", short_factor)?;
                factors("long_factor", long_factor)?;
                above_0("attention_factor", *attention_factor)?;
                above_0("original_max_position_embeddings", *original as f64)
            }
        }
    }

    /// What `rope_scaling` says of it, with the names of transformers; `None` where positions are as they are.
    pub(super) fn keys(&self, max_position_embeddings: usize) -> Option<Value> {
        Some(match self {
            Self::None => return None,
            Self::Linear { factor } => {
                json!({ "rope_type": "linear", "type": "linear", "factor": factor })
            }
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original,
            }),
            Self::LongRope {
                short_factor,
                long_factor,
                attention_factor,
                original,
            } => {
                let mut keys = json!({
                    "type": "longrope",
                    "short_factor": short_factor,
                    "long_factor": long_factor,
                });
                // transformers 4 refuses a fourth key of Phi 3 that says what follows from the lengths.
                let ratio = max_position_embeddings as f64 / *original as f64;
                // A GGUF keeps it as f32.
                let usual = attention_factor_of(ratio, *original);
                if (attention_factor / usual - 1.0).abs() > 1e-6 {
                    keys["attention_factor"] = json!(attention_factor);
                }
                keys
            }
        })
    }
}

/// What cosines and sines are multiplied by where positions reach `ratio` times as far as in the first training, over `original`
/// tokens (Ding et al. 2024, as transformers has it).
fn attention_factor_of(ratio: f64, original: usize) -> f64 {
    if ratio <= 1.0 {
        return 1.0;
    }
    (1.0 + ratio.ln() / (original as f64).ln()).sqrt()
}

/// A rotation as config.json describes it: its base and how it is stretched.
#[derive(Debug, Default)]
pub(super) struct Rope {
    pub(super) theta: Option<f64>,
    pub(super) scaling: RopeScaling,
}

/// What decides a stretched rotation beside its own keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    pub(super) max_position_embeddings: usize,
    /// `original_max_position_embeddings` outside, which goes before the one inside.
    pub(super) original: Option<usize>,
    /// Whether the family is stretched by `longrope` alone (Phi 3).
    pub(super) long: bool,
}

/// Reads `rope_scaling` or `rope_parameters`; `name` is which. `rope_type` and the older `type` may stand side by side.
pub(super) fn read(name: &str, keys: &Map<String, Value>, beside: Beside) -> Result<Rope> {
    let kind = kind(name, keys)?;
    let number = |key: &str| match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_f64()
            .map(Some)
            .ok_or_else(|| Error::input(format!("{name}.{key} is {value}; accepted: a number"))),
    };
    let needed = |key: &str| {
        number(key)?
            .ok_or_else(|| Error::input(format!("{name}.{key} is missing; a number is accepted")))
    };
    let original = || -> Result<usize> {
        Ok(
            match (beside.original, number("original_max_position_embeddings")?) {
                (Some(outside), _) => outside,
                (None, Some(inside)) if inside >= 1.0 && inside.fract() == 0.0 => inside as usize,
                (None, Some(inside)) => {
                    return Err(Error::input(format!(
                        "{name}.original_max_position_embeddings is {inside}; accepted: a whole number above 0"
                    )));
                }
                (None, None) => beside.max_position_embeddings,
            },
        )
    };
    let kinds: &[&str] = if beside.long {
        &["default", "longrope", "su"]
    } else {
        &["default", "linear", "llama3", "longrope"]
    };
    let (scaling, own): (_, &[&str]) = match kind {
        None | Some("default") => (RopeScaling::None, &[]),
        Some("linear") if !beside.long => {
            let factor = needed("factor")?;
            (RopeScaling::Linear { factor }, &["factor"])
        }
        Some("llama3") if !beside.long => (
            RopeScaling::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original: original()?,
            },
            &[
                "factor",
                "low_freq_factor",
                "high_freq_factor",
                "original_max_position_embeddings",
            ],
        ),
        Some("longrope" | "su") => {
            let original = original()?;
            let ratio = number("factor")?
                .unwrap_or(beside.max_position_embeddings as f64 / original as f64);
            let usual = attention_factor_of(ratio, original);
            (
                RopeScaling::LongRope {
                    short_factor: list(name, keys, "short_factor")?,
                    long_factor: list(name, keys, "long_factor")?,
                    attention_factor: number("attention_factor")?.unwrap_or(usual),
                    original,
                },
                &[
                    "factor",
                    "short_factor",
                    "long_factor",
                    "attention_factor",
                    "original_max_position_embeddings",
                ],
            )
        }
        Some(kind) => {
            let kinds = kinds.join("\", \"");
            return Err(Error::input(format!(
                "{name} is of the type {kind:?}; accepted: null or one of the types \"{kinds}\""
            ))
            .hint(
                "other ways of stretching positions are not supported; use a model without them",
            ));
        }
    };
    for (key, value) in keys {
        let refused = match key.as_str() {
            "rope_theta" | "rope_type" | "type" => false,
            "partial_rotary_factor" => value.as_f64() != Some(1.0) && !is_off(value),
            key if own.contains(&key) => false,
            // A kind that does not read them makes nothing of them; without a kind, nobody can say what they are for.
            key if STRETCH.contains(&key) => kind.is_none() && !is_off(value),
            _ => !is_off(value),
        };
        if refused {
            return Err(Error::input(format!(
                "{name}.{key} is {value}; accepted: no such key in positions of the type {:?}",
                kind.unwrap_or("default")
            )));
        }
    }
    Ok(Rope {
        theta: number("rope_theta")?,
        scaling,
    })
}

fn kind<'a>(name: &str, keys: &'a Map<String, Value>) -> Result<Option<&'a str>> {
    let mut kinds = Vec::new();
    for key in ["rope_type", "type"] {
        match keys.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) => kinds.push(kind.as_str()),
            Some(other) => {
                return Err(Error::input(format!(
                    "{name}.{key} is {other}; accepted: a text, or null"
                )));
            }
        }
    }
    if let [first, second] = kinds[..]
        && first != second
    {
        return Err(Error::input(format!(
            "{name}.rope_type is {first:?} and {name}.type is {second:?}; accepted: the same"
        )));
    }
    Ok(kinds.first().copied())
}

fn list(name: &str, keys: &Map<String, Value>, key: &str) -> Result<Vec<f64>> {
    let found = keys.get(key).unwrap_or(&Value::Null);
    let values = found
        .as_array()
        .and_then(|values| values.iter().map(Value::as_f64).collect());
    values.ok_or_else(|| {
        Error::input(format!(
            "{name}.{key} is {found}; accepted: a list of numbers, one for each pair of channels"
        ))
    })
}

/// What the kinds of stretched positions read.
const STRETCH: [&str; 12] = [
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "short_factor",
    "long_factor",
    "low_freq_factor",
    "high_freq_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
];
