//! Methods of Python's strings and lists that templates call and that the engine's own collection lacks, or takes without Python's
//! keywords. What is not here is asked there.

use minijinja::value::{Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Calls a method of a value.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => of_text(text, method, args)?,
        (ValueKind::Seq, _) if method == "index" => Some(position(value, args)?),
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => unknown_method_callback(state, value, method, args),
    }
}

/// `None` where the method is none of these.
fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "split" | "rsplit" => {
            let (separator, most, named): (Option<Value>, Option<Value>, Kwargs) = from_args(args)?;
            let separator = separator.or(named.get("sep")?);
            let most = most.or(named.get("maxsplit")?);
            named.assert_all_used()?;
            split(text, separator, most, method == "rsplit")?
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, method == "rpartition")?
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let found = if method == "index" {
                text.find(part)
            } else {
                text.rfind(part)
            };
            let at = found.ok_or_else(|| invalid("substring not found"))?;
            text[..at].chars().count().into()
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = match text.strip_prefix(['+', '-']) {
                Some(digits) => text.split_at(text.len() - digits.len()),
                None => ("", text),
            };
            let zeros = missing(text, width)?;
            format!("{sign}{}{digits}", "0".repeat(zeros)).into()
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let (all, fill) = (missing(text, width)?, fill.unwrap_or(' '));
            let left = match method {
                "ljust" => 0,
                "rjust" => all,
                // Python's: an odd rest goes to the left where the width is odd.
                _ => all / 2 + (all & width & 1),
            };
            let some = |count: usize| fill.to_string().repeat(count);
            format!("{}{text}{}", some(left), some(all - left)).into()
        }
        "casefold" => {
            let () = from_args(args)?;
            // The one letter of common use that folding and lower case treat differently.
            text.to_lowercase().replace('ß', "ss").into()
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swapped = text.chars().flat_map(|c| {
                let (lower, upper) = (c.to_lowercase(), c.to_uppercase());
                let turned: Vec<char> = if c.is_uppercase() {
                    lower.collect()
                } else {
                    upper.collect()
                };
                turned
            });
            swapped.collect::<String>().into()
        }
        _ => return Ok(None),
    }))
}

/// The most characters that a text is filled up to.
const WIDEST: usize = 1 << 20;

/// How many characters a text lacks of a width.
fn missing(text: &str, width: usize) -> Result<usize, Error> {
    if width > WIDEST {
        return Err(invalid("a text of more than a million characters"));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// Python's `split` and `rsplit`: at a separator, or at white space where there is none; at most `most` times.
fn split(
    text: &str,
    separator: Option<Value>,
    most: Option<Value>,
    from_the_right: bool,
) -> Result<Value, Error> {
    let most = match most.filter(|value| !value.is_none()) {
        None => usize::MAX,
        Some(value) => usize::try_from(i64::try_from(value)?).unwrap_or(usize::MAX),
    };
    let pieces = most.saturating_add(1);
    let separator = separator.filter(|value| !value.is_none());
    let mut parts: Vec<&str> = match &separator {
        Some(separator) => {
            let separator = separator
                .as_str()
                .filter(|text| !text.is_empty())
                .ok_or_else(|| invalid("split takes a text that is not empty"))?;
            if from_the_right {
                text.rsplitn(pieces, separator).collect()
            } else {
                text.splitn(pieces, separator).collect()
            }
        }
        None => at_white_space(text, most, from_the_right),
    };
    if from_the_right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// The words of a text in the order in which they are cut off; what is left after `most` cuts comes last.
fn at_white_space(text: &str, most: usize, from_the_right: bool) -> Vec<&str> {
    let trimmed = |text: &str| -> usize {
        if from_the_right {
            text.trim_end().len()
        } else {
            text.len() - text.trim_start().len()
        }
    };
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = if from_the_right {
            &rest[..trimmed(rest)]
        } else {
            &rest[trimmed(rest)..]
        };
        if rest.is_empty() {
            return parts;
        }
        let cut = if from_the_right {
            rest.rfind(char::is_whitespace).map(|at| {
                let space = rest[at..].chars().next().map_or(1, char::len_utf8);
                (&rest[at + space..], &rest[..at])
            })
        } else {
            rest.find(char::is_whitespace)
                .map(|at| (&rest[..at], &rest[at..]))
        };
        let Some((word, left)) = cut.filter(|_| parts.len() < most) else {
            parts.push(rest);
            return parts;
        };
        parts.push(word);
        rest = left;
    }
}

fn partition(text: &str, separator: &str, from_the_right: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let parts = if from_the_right {
        text.rsplit_once(separator)
            .map_or(["", "", text], |(before, after)| [before, separator, after])
    } else {
        text.split_once(separator)
            .map_or([text, "", ""], |(before, after)| [before, separator, after])
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// The place of the first item that equals the argument.
fn position(list: &Value, args: &[Value]) -> Result<Value, Error> {
    let (wanted,): (&Value,) = from_args(args)?;
    let found = list.try_iter()?.position(|item| item == *wanted);
    let at = found.ok_or_else(|| invalid("the list has no such item"))?;
    Ok(Value::from(at))
}

#[cfg(test)]
mod tests {
    use super::super::ChatTemplate;

    fn render(code: &str) -> String {
        ChatTemplate::new(format!("{{{{ {code} }}}}"))
            .render(&[], [], false)
            .unwrap_or_else(|error| panic!("{code}: {error}"))
    }

    /// Expected: Python 3.11.
    #[test]
    fn methods_give_what_pythons_give() {
        for (code, value) in [
            ("'a</t>b</t>c'.rsplit('</t>', 1)[-1]", "c"),
            ("'a</t>b</t>c'.rsplit('</t>', 1)[0]", "a</t>b"),
            ("'a</t>b</t>c'.split('</t>', maxsplit=1)[-1]", "b</t>c"),
            ("'abc'.rsplit('x')|tojson", "[\"abc\"]"),
            ("' a b  c '.split()|tojson", "[\"a\", \"b\", \"c\"]"),
            ("' a b  c '.split(none, 1)|tojson", "[\"a\", \"b  c \"]"),
            ("' a b  c '.rsplit(none, 1)|tojson", "[\" a b\", \"c\"]"),
            ("' a b  c '.rsplit(maxsplit=0)|tojson", "[\" a b  c\"]"),
            ("'a,b,c'.split(',', -1)|tojson", "[\"a\", \"b\", \"c\"]"),
            ("''.split()|tojson", "[]"),
            ("'<a>'.removeprefix('<').removesuffix('>')", "a"),
            ("'a'.removeprefix('b')", "a"),
            ("'k=v=w'.partition('=')|tojson", "[\"k\", \"=\", \"v=w\"]"),
            ("'k=v=w'.rpartition('=')|tojson", "[\"k=v\", \"=\", \"w\"]"),
            ("'k'.partition('=')|tojson", "[\"k\", \"\", \"\"]"),
            ("'k'.rpartition('=')|tojson", "[\"\", \"\", \"k\"]"),
            ("'-7'.zfill(4)", "-007"),
            ("'äbä'.index('b')", "1"),
            ("'äbäb'.rindex('b')", "3"),
            ("['x', 'y'].index('y')", "1"),
            ("'ab'.center(5, '*')", "**ab*"),
            ("'abc'.center(6, '*')", "*abc**"),
            ("'ab'.ljust(4) ~ '|'", "ab  |"),
            ("'ab'.rjust(4)", "  ab"),
            ("'Straße'.casefold()", "strasse"),
            ("'aB'.swapcase()", "Ab"),
            ("'a'.upper()", "A"),
        ] {
            assert_eq!(render(code), value, "{code}");
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for code in [
            "'a'.index('b')",
            "['a'].index('b')",
            "'a'.split('')",
            "'a'.partition('')",
            "'a'.split(of=1)",
        ] {
            let template = ChatTemplate::new(format!("{{{{ {code} }}}}"));
            assert!(template.render(&[], [], false).is_err(), "{code}");
        }
    }
}
