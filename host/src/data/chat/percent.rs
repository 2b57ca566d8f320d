//! Python's `'text' % values`. The engine has no such operator for texts; `source` writes it as a filter.

use minijinja::formatting::{FormatStyle, format as fill};
use minijinja::value::{Kwargs, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The filter's name, which no template has.
pub(super) const FILTER: &str = "percent_of_python";

/// The text with its places filled: by the items of a tuple, by the entries of a dictionary where it names them, else by the one
/// value.
pub(super) fn format(text: &Value, values: &Value) -> Result<Value, Error> {
    let text = text.as_str().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            "% stands behind what is no text",
        )
    })?;
    let arguments = if values.downcast_object_ref::<Tuple>().is_some() {
        values.try_iter()?.collect()
    } else if values.kind() == ValueKind::Map && text.contains("%(") {
        let entries = values.try_iter()?.map(|key| {
            let value = values.get_item(&key)?;
            Ok((key.to_string(), value))
        });
        vec![entries.collect::<Result<Kwargs, Error>>()?.into()]
    } else {
        vec![values.clone()]
    };
    fill(FormatStyle::Printf, text, &arguments).map(Value::from)
}
