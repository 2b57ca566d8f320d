//! The address of a server, in one spelling: it is a part of the key.

use finegrain_sdk::{Error, Result};
use ureq::http::Uri;

/// Scheme, host, port and path; no user, no query, no slash at the end, and no port that the scheme implies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    host: String,
    encrypted: bool,
}

impl Address {
    /// The address that a text names.
    ///
    /// # Errors
    /// A text that is no address with `http` or `https`, or one with a user, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |what: &str| {
            // The text is not shown where it may hold a password.
            let shown = if text.contains('@') { "(hidden)" } else { text };
            Error::options(format!(
                "base_url {shown}: {what}; accepted is http(s)://HOST[:PORT][/PATH]"
            ))
        };
        let uri: Uri = text.parse().map_err(|_| refuse("no address"))?;
        let scheme = uri.scheme_str().ok_or_else(|| refuse("no scheme"))?;
        let implied = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(refuse("another scheme than http and https")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("a user in it"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(refuse("a query or a fragment in it"));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(refuse("no host"));
        }
        let port = match authority.port_u16() {
            Some(port) if port != implied => format!(":{port}"),
            _ => String::new(),
        };
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            text: format!("{scheme}://{host}{port}{path}"),
            host,
            encrypted: scheme == "https",
        })
    }

    /// The one spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the server is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether whoever is on the way can read what is sent.
    pub fn is_readable(&self) -> bool {
        !self.encrypted && !self.is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_spelling() {
        for (given, one) in [
            (
                "HTTPS://API.Example.com:443/v1/",
                "https://api.example.com/v1",
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://host:80/", "http://host"),
            ("http://[::1]:9/v1", "http://[::1]:9/v1"),
        ] {
            assert_eq!(Address::parse(given).unwrap().as_str(), one, "{given}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_a_password() {
        for given in [
            "",
            "host",
            "ftp://host",
            "http://",
            "http://h/?a=1",
            "http://h/#a",
        ] {
            assert!(Address::parse(given).is_err(), "{given}");
        }
        let error = Address::parse("http://me:secret@host").unwrap_err();
        assert!(!error.message.contains("secret"), "{error}");
    }

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for (given, is) in [
            ("http://localhost:1", true),
            ("http://127.8.0.1", true),
            ("http://[::1]", true),
            ("http://10.0.0.1", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(Address::parse(given).unwrap().is_loopback(), is, "{given}");
        }
    }
}
