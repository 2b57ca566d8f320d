//! Requests of one batch, as many as a batch may have.

use finegrain_sdk::serde_json::Value;

use super::super::form::Form;
use crate::answers::custom_id;
use crate::budget::Reservation;

/// The most requests that a batch may have.
const MOST: usize = 100_000;
/// The most bytes that a batch may have: 256 MB, with room for what stands around the requests.
const MOST_BYTES: usize = 250_000_000;

/// The body of a batch that is filled.
#[derive(Default)]
pub(super) struct Pack<'a> {
    text: String,
    keys: Vec<String>,
    reservations: Vec<Option<Reservation<'a>>>,
}

impl<'a> Pack<'a> {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a question still fits.
    pub(super) fn takes(&self, form: &Form) -> bool {
        self.fits(form, MOST, MOST_BYTES)
    }

    fn fits(&self, form: &Form, most: usize, most_bytes: usize) -> bool {
        // A request beside its parameters: names, quotes and the custom id.
        const AROUND: usize = 100;
        self.keys.len() < most && self.text.len() + form.body.text.len() + AROUND <= most_bytes
    }

    /// Adds a question.
    pub(super) fn push(&mut self, form: &Form, reservation: Reservation<'a>) {
        self.text += if self.is_empty() {
            "{\"requests\":["
        } else {
            ","
        };
        self.text += "{\"custom_id\":";
        self.text += &Value::from(custom_id(&form.key)).to_string();
        self.text += ",\"params\":";
        // The bytes that a single request would have.
        self.text += &form.body.text;
        self.text.push('}');
        self.keys.push(form.key.clone());
        self.reservations.push(Some(reservation));
    }

    /// The body, the keys, and what is set aside for each.
    pub(super) fn into_parts(mut self) -> (String, Vec<String>, Vec<Option<Reservation<'a>>>) {
        self.text += "]}";
        (self.text, self.keys, self.reservations)
    }
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::serde_json::{self, json};

    use super::*;
    use crate::api::Body;
    use crate::budget::Budget;
    use crate::usd::Usd;

    fn form(key: char) -> Form {
        let json = json!({"model": "m", "messages": []});
        Form {
            key: key.to_string().repeat(64),
            body: Body {
                text: json.to_string(),
                json,
                structured: false,
                max_tokens: 1,
            },
        }
    }

    #[test]
    fn a_batch_is_one_object_whose_requests_are_named_by_their_keys() {
        let budget = Budget::new(None, Usd::ZERO);
        let mut pack = Pack::default();
        for key in ['a', 'b'] {
            pack.push(&form(key), budget.reserve(Usd::ZERO, || true).unwrap());
        }
        let (text, keys, reservations) = pack.into_parts();
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["requests"][1]["custom_id"], "b".repeat(32));
        assert_eq!(body["requests"][1]["params"]["model"], "m");
        assert_eq!((keys.len(), reservations.len()), (2, 2));
    }

    #[test]
    fn a_full_batch_takes_no_more() {
        let budget = Budget::new(None, Usd::ZERO);
        let mut pack = Pack::default();
        assert!(pack.fits(&form('a'), 1, 1000));
        pack.push(&form('a'), budget.reserve(Usd::ZERO, || true).unwrap());
        assert!(!pack.fits(&form('b'), 1, 1000));
        assert!(pack.fits(&form('b'), 2, 1000));
        assert!(!pack.fits(&form('b'), 2, 200));
    }
}
