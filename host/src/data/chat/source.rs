//! A template's text as Jinja2 reads it, rewritten for an engine that reads it otherwise: line ends are `\n`, literals have Python's
//! escapes, `'text' % values` is a filter, and `{% generation %}` is a condition that always holds.

use minijinja::{Error, ErrorKind};

use super::percent;

/// The text to compile. Lines stay where they are, so that errors name them.
///
/// # Errors
/// An escape that Python refuses, or one that is not read here (`\N{…}`).
pub(super) fn prepared(source: &str) -> Result<String, Error> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some((start, end)) = opening(rest) {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(length) = (if end == "#}" {
            tag.find(end)
        } else {
            code_length(&tag[2..], end).map(|length| length + 2)
        }) else {
            // The engine says what is missing.
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(length);
        rest = after;
        if end == "#}" {
            out.push_str(tag);
            continue;
        }
        let name = tag[2..].trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match name {
            "generation" if end == "%}" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" if end == "%}" => {
                out.push_str(&tag.replacen("endgeneration", "endif", 1));
            }
            "raw" if end == "%}" => {
                // What stands inside is text.
                let inside = end_of_raw(rest);
                out.push_str(tag);
                out.push_str(&rest[..inside]);
                rest = &rest[inside..];
            }
            _ => {
                out.push_str(&tag[..2]);
                code(&tag[2..], &mut out)?;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the next tag begins, and what ends it.
fn opening(text: &str) -> Option<(usize, &'static str)> {
    let tags = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")];
    let found = tags
        .iter()
        .filter_map(|(start, end)| Some((text.find(start)?, *end)));
    found.min_by_key(|(at, _)| *at)
}

/// Where the tag `{% endraw %}` begins; the end of the text where there is none.
fn end_of_raw(text: &str) -> usize {
    let mut tags = text.match_indices("{%").map(|(at, _)| at);
    let ends = |at: &usize| {
        let inner = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        inner.starts_with("endraw")
    };
    tags.find(ends).unwrap_or(text.len())
}

/// The length of the code before `end`, which counts outside of literals and brackets alone.
fn code_length(text: &str, end: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        let here = &text[at..];
        if depth == 0 && here.starts_with(end) {
            return Some(at);
        }
        let c = here.chars().next()?;
        at += match c {
            '\'' | '"' => literal_length(here)?,
            _ => c.len_utf8(),
        };
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The length of the literal that a text begins with, quotes included.
fn literal_length(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()?),
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Writes the code of a tag with its literals rewritten.
fn code(text: &str, out: &mut String) -> Result<(), Error> {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let Some(length) = matches!(c, '\'' | '"')
            .then(|| literal_length(rest))
            .flatten()
        else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        literal(&rest[..length], out)?;
        rest = &rest[length..];
        let Some(operand) = rest.trim_start().strip_prefix('%') else {
            continue;
        };
        // A text has no remainder: what stands behind it fills its places.
        let gap = operand.len() - operand.trim_start().len();
        let (space, operand) = operand.split_at(gap);
        let length = operand_length(operand);
        out.extend(["|", percent::FILTER, "("]);
        out.push_str(space);
        code(&operand[..length], out)?;
        out.push(')');
        rest = &operand[length..];
    }
    Ok(())
}

/// The length of an operand: a literal, a name, a number or brackets, with what is called, taken or filtered of it.
fn operand_length(text: &str) -> usize {
    let bracket = |at: usize| {
        let close = match text[at..].chars().next() {
            Some('(') => ")",
            Some('[') => "]",
            Some('{') => "}",
            _ => return None,
        };
        Some(at + 1 + code_length(&text[at + 1..], close)? + 1)
    };
    let word = |at: usize| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        at + end.unwrap_or(rest.len())
    };
    let mut at = match text.chars().next() {
        Some('\'' | '"') => literal_length(text).unwrap_or(text.len()),
        _ => bracket(0).unwrap_or_else(|| word(0)),
    };
    loop {
        let gap = text[at..].len() - text[at..].trim_start().len();
        let next = at + gap;
        at = match text[next..].chars().next() {
            Some('.' | '|') => {
                let name = next + 1;
                let gap = text[name..].len() - text[name..].trim_start().len();
                word(name + gap)
            }
            Some('(' | '[') => match bracket(next) {
                Some(end) => end,
                None => return text.len(),
            },
            _ => return at,
        };
    }
}

/// Writes a literal of Python's as one of the engine's that has the same value.
///
/// Jinja2 turns a literal into ASCII with what is beyond escaped, and reads that as Python's `unicode_escape`.
fn literal(text: &str, out: &mut String) -> Result<(), Error> {
    if !text.contains('\\') {
        out.push_str(text);
        return Ok(());
    }
    let refused = |what: &str| {
        Error::new(
            ErrorKind::SyntaxError,
            format!("the literal {text} holds {what}"),
        )
    };
    let mut lines = 0;
    let put = |out: &mut String, c: char| match c {
        '"' | '\\' => {
            out.push('\\');
            out.push(c);
        }
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        c => out.push(c),
    };
    out.push('"');
    let mut rest = &text[1..text.len() - 1];
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '\n' {
            // A line of its own, so that the lines of errors stay right.
            out.push('\n');
            continue;
        }
        if c != '\\' {
            put(out, c);
            continue;
        }
        let Some(escaped) = rest.chars().next() else {
            return Err(refused("a backslash at its end"));
        };
        rest = &rest[escaped.len_utf8()..];
        match escaped {
            '\n' => lines += 1,
            '\\' | '\'' | '"' => put(out, escaped),
            'a' => put(out, '\x07'),
            'b' => put(out, '\x08'),
            'f' => put(out, '\x0C'),
            'n' => put(out, '\n'),
            'r' => put(out, '\r'),
            't' => put(out, '\t'),
            'v' => put(out, '\x0B'),
            '0'..='7' => {
                let more = rest
                    .bytes()
                    .take(2)
                    .take_while(|b| (b'0'..=b'7').contains(b));
                let more = more.count();
                let digits = format!("{escaped}{}", &rest[..more]);
                rest = &rest[more..];
                let value = u32::from_str_radix(&digits, 8).ok();
                let value = value.and_then(char::from_u32);
                put(
                    out,
                    value.ok_or_else(|| refused("an escape of no character"))?,
                );
            }
            'x' | 'u' | 'U' => {
                let length = match escaped {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let (value, after) = code_point(rest, length).ok_or_else(|| {
                    refused(&format!("\\{escaped} without the digits of a character"))
                })?;
                put(out, value);
                rest = after;
            }
            'N' => {
                return Err(refused(
                    "\\N, a character by its name; write the character itself",
                ));
            }
            other if other.is_ascii() => {
                put(out, '\\');
                put(out, other);
            }
            // What `backslashreplace` makes of it stands behind a backslash, and so for itself.
            other => {
                let code = u32::from(other);
                let spelled = match code {
                    0..=0xFF => format!("\\x{code:02x}"),
                    0x100..=0xFFFF => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
                spelled.chars().for_each(|c| put(out, c));
            }
        }
    }
    out.push('"');
    out.extend(std::iter::repeat_n('\n', lines));
    Ok(())
}

/// The character of so many hexadecimal digits, and what follows; two halves of a pair are one character.
fn code_point(text: &str, length: usize) -> Option<(char, &str)> {
    let number = |text: &str| {
        let digits = text.get(..length)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        all.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    let first = number(text)?;
    let rest = &text[length..];
    if let Some(value) = char::from_u32(first) {
        return Some((value, rest));
    }
    let second = rest.strip_prefix("\\u")?;
    let low = number(second)?;
    let pair = [u16::try_from(first).ok()?, u16::try_from(low).ok()?];
    let value = char::decode_utf16(pair).next()?.ok()?;
    Some((value, &second[length..]))
}

#[cfg(test)]
mod tests;
