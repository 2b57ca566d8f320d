//! The key of an account: where it is, and that it goes nowhere but into one header.

use std::borrow::Cow;
use std::env::{self, VarError};

use finegrain_sdk::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use ureq::http::HeaderValue;

/// What stands where a key stood.
const BLOTTED: &str = "[key]";

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySource {
    /// The environment variable; `None` where no key is sent.
    variable: Option<String>,
}

impl KeySource {
    /// The variable that the options name; where they name none, the API's usual one at its own address, and no key
    /// elsewhere.
    pub(crate) fn new(named: &str, usual: &str, at_own_address: bool) -> Self {
        let variable = match named.trim() {
            "" => at_own_address.then_some(usual),
            named => Some(named),
        };
        Self {
            variable: variable.map(str::to_owned),
        }
    }

    /// Reads the key.
    ///
    /// # Errors
    /// The variable is not set, is empty, or holds what no header can.
    pub(crate) fn read(&self) -> Result<Key> {
        let Some(variable) = &self.variable else {
            return Ok(Key(None));
        };
        let refuse = |what: &str| {
            Error::options(format!(
                "the environment variable {variable} {what}; it must hold the server's key (api_key_env names the variable)"
            ))
        };
        let text = match env::var(variable) {
            Ok(text) => SecretString::from(text),
            Err(VarError::NotPresent) => return Err(refuse("is not set")),
            Err(VarError::NotUnicode(_)) => return Err(refuse("is no text")),
        };
        // Files and shells leave a line break at the end.
        let key = SecretString::from(text.expose_secret().trim());
        if key.expose_secret().is_empty() {
            return Err(refuse("is empty"));
        }
        if !key
            .expose_secret()
            .bytes()
            .all(|byte| byte.is_ascii_graphic())
        {
            return Err(refuse("holds characters that no key has"));
        }
        Ok(Key(Some(key)))
    }
}

/// A key, or that there is none. It is wiped from memory when it is dropped, and prints as nothing.
pub(crate) struct Key(Option<SecretString>);

impl Key {
    /// The header's value, marked as not to be printed; `None` where no key is sent.
    ///
    /// # Errors
    /// Never for a key that was read: its characters were checked.
    pub(crate) fn header(&self, before: &str) -> Result<Option<HeaderValue>> {
        let Some(key) = &self.0 else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(&format!("{before}{}", key.expose_secret()))
            .map_err(|_| Error::options("the key holds characters that no header takes"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// A text without the key, for servers that repeat it.
    pub(crate) fn blot<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.0 {
            Some(key) if text.contains(key.expose_secret()) => {
                Cow::Owned(text.replace(key.expose_secret(), BLOTTED))
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// The same for the value of a header, some of which go into messages and records.
    pub(crate) fn blot_header(&self, value: &mut HeaderValue) {
        if let Ok(text) = value.to_str()
            && let Cow::Owned(blotted) = self.blot(text)
        {
            // A header's text with other ASCII in a part of it is a header's text.
            *value = HeaderValue::from_str(&blotted)
                .unwrap_or_else(|_| HeaderValue::from_static(BLOTTED));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_only_where_it_was_meant_for() {
        assert_eq!(KeySource::new("", "USUAL", false).variable, None);
        let own = KeySource::new("", "USUAL", true);
        assert_eq!(own.variable.as_deref(), Some("USUAL"));
        let named = KeySource::new("MINE", "USUAL", false);
        assert_eq!(named.variable.as_deref(), Some("MINE"));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let source = KeySource::new("FINEGRAIN_NO_SUCH_KEY", "USUAL", false);
        let error = source.read().err().unwrap();
        assert!(error.message.contains("FINEGRAIN_NO_SUCH_KEY is not set"));
    }

    #[test]
    fn a_key_that_a_server_repeats_is_blotted_out() {
        let key = Key(Some(SecretString::from("sk-very-secret")));
        assert_eq!(key.blot("wrong key sk-very-secret!"), "wrong key [key]!");
        assert_eq!(key.blot("nothing"), "nothing");
        let mut repeated = HeaderValue::from_static("id sk-very-secret");
        key.blot_header(&mut repeated);
        assert_eq!(repeated, "id [key]");
        let header = key.header("Bearer ").unwrap().unwrap();
        assert!(!format!("{header:?}").contains("secret"));
    }
}
