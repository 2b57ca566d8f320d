//! Where an outcome came from: what was asked for it, who answered, and what that took.

use serde::{Deserialize, Serialize};

/// Where an outcome of an editor or the verdict of a judge came from, for plugins that ask a server.
///
/// It says the same whether the answers were asked for by this call or kept from an earlier one, so that a replay brings the
/// same bits. It decides nothing: no key and no later stage depends on it.
///
/// As JSON, in files and across the boundary: `{"model", "requests", "input_tokens", "output_tokens", "usd", "tries",
/// "rejected"}`; what is absent has its default, and what is not known to the reader is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The model that gave the last answer, in the server's words: of an alias, the model behind it.
    pub model: String,
    /// The server's ids of the requests that were answered, oldest first; a server may name none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<String>,
    /// Tokens that were read, over all answers; `None` where the server has not counted those of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens that were written, over all answers, thinking included; `None` where the server has not counted those of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// What all answers cost when they were asked for, in picodollars (10⁻¹² US dollars); `None` where the price of one is not
    /// known. In JSON this is `usd`, in dollars: up to 4,000 dollars the nearest number is the same amount again.
    #[serde(
        rename = "usd",
        with = "dollars",
        skip_serializing_if = "Option::is_none"
    )]
    pub picodollars: Option<u64>,
    /// How many answers there were: 1, and one more for every answer that could not be used and was asked about again.
    pub tries: u32,
    /// Why the answers that could not be used could not, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<String>,
}

/// An amount of picodollars as a number of dollars.
mod dollars {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Picodollars in a dollar.
    const PER_DOLLAR: f64 = 1e12;

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(super) fn serialize<S: Serializer>(
        picodollars: &Option<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let dollars = picodollars.map(|picodollars| picodollars as f64 / PER_DOLLAR);
        dollars.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        match Option::<f64>::deserialize(deserializer)? {
            // A cast from a float saturates.
            Some(dollars) if dollars >= 0.0 => Ok(Some((dollars * PER_DOLLAR).round() as u64)),
            Some(dollars) => Err(D::Error::custom(format!(
                "usd is {dollars}; accepted: a number of dollars, at least 0"
            ))),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fields_have_the_names_that_files_have() {
        let origin = Origin {
            model: "m-1".into(),
            requests: vec!["r1".into(), "r2".into()],
            input_tokens: Some(10),
            output_tokens: Some(20),
            picodollars: Some(1_500_000),
            tries: 2,
            rejected: vec!["json: no JSON".into()],
        };
        let json = serde_json::to_string(&origin).unwrap();
        assert_eq!(
            json,
            r#"{"model":"m-1","requests":["r1","r2"],"input_tokens":10,"output_tokens":20,"usd":1.5e-6,"tries":2,"rejected":["json: no JSON"]}"#
        );
        assert_eq!(serde_json::from_str::<Origin>(&json).unwrap(), origin);
        let bare = serde_json::to_string(&Origin::default()).unwrap();
        assert_eq!(bare, r#"{"model":"","tries":0}"#);
        assert_eq!(
            serde_json::from_str::<Origin>(r#"{"added_later": 1}"#).unwrap(),
            Origin::default()
        );
    }

    #[test]
    fn an_amount_that_is_none_is_refused() {
        let error = serde_json::from_str::<Origin>(r#"{"usd": -1}"#).unwrap_err();
        assert!(error.to_string().contains("usd is -1"), "{error}");
    }

    proptest! {
        #[test]
        fn every_amount_comes_back(picodollars in 0_u64..4_000_000_000_000_000) {
            let origin = Origin { picodollars: Some(picodollars), ..Origin::default() };
            let json = serde_json::to_string(&origin).unwrap();
            prop_assert_eq!(serde_json::from_str::<Origin>(&json).unwrap(), origin);
        }
    }
}
