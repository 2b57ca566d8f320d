//! JSON with the white space and the escapes of Python's `json.dumps`, as chat templates expect it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};

/// The text of `json.dumps(value, indent=indent, ensure_ascii=ascii)`.
///
/// # Errors
/// A value that JSON has no form for.
pub(super) fn dumps(
    value: &impl Serialize,
    indent: Option<usize>,
    ascii: bool,
) -> serde_json::Result<String> {
    let spaces = " ".repeat(indent.unwrap_or(0));
    let pretty = indent.map(|_| PrettyFormatter::with_indent(spaces.as_bytes()));
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(
        &mut bytes,
        Python { pretty, ascii },
    ))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One line with `", "` and `": "`, or indented lines.
struct Python<'a> {
    pretty: Option<PrettyFormatter<'a>>,
    ascii: bool,
}

/// Hands a method to the indenting formatter where there is one, and else writes `$text` where `$when` holds.
macro_rules! separated {
    ($($method:ident($($argument:ident: $kind:ty)?) $when:expr, $text:literal;)*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $kind)?) -> io::Result<()> {
            match &mut self.pretty {
                Some(pretty) => pretty.$method(writer $(, $argument)?),
                None if $when => writer.write_all($text),
                None => Ok(()),
            }
        }
    )*};
}

impl Formatter for Python<'_> {
    separated! {
        begin_array() true, b"[";
        end_array() true, b"]";
        begin_array_value(first: bool) !first, b", ";
        end_array_value() false, b"";
        begin_object() true, b"{";
        end_object() true, b"}";
        begin_object_key(first: bool) !first, b", ";
        begin_object_value() true, b": ";
        end_object_value() false, b"";
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let text: &[u8] = match escape {
            CharEscape::Quote => b"\\\"",
            CharEscape::ReverseSolidus => b"\\\\",
            CharEscape::Solidus => b"/",
            CharEscape::Backspace => b"\\b",
            CharEscape::FormFeed => b"\\f",
            CharEscape::LineFeed => b"\\n",
            CharEscape::CarriageReturn => b"\\r",
            CharEscape::Tab => b"\\t",
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        };
        writer.write_all(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Expected texts: `json.dumps` of Python 3.11.
    #[test]
    fn white_space_and_escapes_are_those_of_python() -> serde_json::Result<()> {
        let value = json!({"a": [1, 2.5, null, true], "b": {}, "c": "é<&'\"\n\u{1}😀", "d": []});
        assert_eq!(
            dumps(&value, None, false)?,
            r#"{"a": [1, 2.5, null, true], "b": {}, "c": "é<&'\"\n\u0001😀", "d": []}"#
        );
        assert_eq!(
            dumps(&value, None, true)?,
            r#"{"a": [1, 2.5, null, true], "b": {}, "c": "\u00e9<&'\"\n\u0001\ud83d\ude00", "d": []}"#
        );
        assert_eq!(
            dumps(&json!({"a": [1, {"b": 2}], "c": []}), Some(2), false)?,
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"c\": []\n}"
        );
        Ok(())
    }
}
