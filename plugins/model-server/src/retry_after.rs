//! How long a server says to wait, in all the ways that servers say it.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use ureq::http::HeaderMap;

/// What servers limit, as their headers name it.
const LIMITED: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// How long to wait after a refusal, seen at `now`: `retry-after-ms`, `retry-after` in seconds or as a date, or the latest
/// reset of a limit that is used up.
pub(crate) fn wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    milliseconds(headers)
        .or_else(|| retry_after(headers, now))
        .or_else(|| exhausted(headers, now))
}

/// How long until the limits that are used up are full again; `None` where none is. Answers say so too, and whoever
/// heeds it is not refused.
pub(crate) fn exhausted(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    LIMITED
        .iter()
        .flat_map(|what| {
            [
                (
                    format!("anthropic-ratelimit-{what}-remaining"),
                    format!("anthropic-ratelimit-{what}-reset"),
                ),
                (
                    format!("x-ratelimit-remaining-{what}"),
                    format!("x-ratelimit-reset-{what}"),
                ),
            ]
        })
        .filter(|(remaining, _)| text(headers, remaining) == Some("0"))
        .filter_map(|(_, reset)| reset_in(text(headers, &reset)?, now))
        .max()
}

/// The value of a header, where it is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn milliseconds(headers: &HeaderMap) -> Option<Duration> {
    let value: f64 = text(headers, "retry-after-ms")?.parse().ok()?;
    Duration::try_from_secs_f64(value / 1000.0).ok()
}

fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, "retry-after")?;
    match value.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => Some(until(httpdate::parse_http_date(value).ok()?, now)),
    }
}

/// A reset as a moment (RFC 3339) or as a span (`1s`, `6m0s`, `20ms`, `1h2m`).
fn reset_in(value: &str, now: SystemTime) -> Option<Duration> {
    match value.parse::<Timestamp>() {
        Ok(moment) => {
            let since = Duration::try_from(moment.as_duration()).ok()?;
            Some(until(SystemTime::UNIX_EPOCH + since, now))
        }
        Err(_) => span(value),
    }
}

/// The time from now on; none where the moment has passed.
fn until(moment: SystemTime, now: SystemTime) -> Duration {
    moment.duration_since(now).unwrap_or(Duration::ZERO)
}

/// A span of hours, minutes, seconds and milliseconds, or of seconds without a unit.
fn span(value: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |length| digits + length);
        total += number
            * match &rest[digits..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" | "" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::{HeaderName, HeaderValue};

    /// Headers, and the seconds that they mean.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<f64>);

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<HeaderName>().unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn every_way_to_say_it_is_understood() {
        // 1994-11-06 08:49:37 UTC.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let cases: [Case<'_>; 12] = [
            (&[("retry-after", "7")], Some(7.0)),
            (&[("retry-after", "0.5")], Some(0.5)),
            (
                &[("retry-after-ms", "250"), ("retry-after", "9")],
                Some(0.25),
            ),
            (
                &[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")],
                Some(10.0),
            ),
            (
                &[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")],
                Some(0.0),
            ),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-3")], None),
            (
                &[
                    ("anthropic-ratelimit-tokens-remaining", "0"),
                    ("anthropic-ratelimit-tokens-reset", "1994-11-06T08:50:07Z"),
                ],
                Some(30.0),
            ),
            (
                &[
                    ("anthropic-ratelimit-tokens-remaining", "5"),
                    ("anthropic-ratelimit-tokens-reset", "1994-11-06T08:50:07Z"),
                ],
                None,
            ),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                Some(360.0),
            ),
            (
                &[
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "120ms"),
                ],
                Some(0.12),
            ),
            (&[], None),
        ];
        for (pairs, seconds) in cases {
            assert_eq!(
                wait(&headers(pairs), now),
                seconds.map(Duration::from_secs_f64),
                "{pairs:?}"
            );
        }
    }
}
