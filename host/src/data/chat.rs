//! Chat templates: a model's own Jinja text around the turns of a conversation, rendered as transformers renders it.
//!
//! What templates use beyond Jinja: `raise_exception`, `strftime_now`, `tojson` as Python's `json.dumps`, the methods of
//! Python's strings, lists and dictionaries, `%` behind a text, `break` and `continue`, and `{% generation %}` (which marks, and
//! prints nothing). Source: transformers' documentation, "Writing a chat template".

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, context};
use minijinja_contrib::add_to_environment;
use serde::Serialize;

mod methods;
mod percent;
mod source;

use super::python_json;
use crate::error::{Error, Result};

/// The name of the one template of an environment; error messages show it.
const NAME: &str = "chat_template";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

impl Message {
    /// A turn of a role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// A chat template. One that cannot be parsed says so when it is used: a model is of use without it.
pub struct ChatTemplate {
    source: String,
    /// The compiled text.
    compiled: Result<Environment<'static>, minijinja::Error>,
}

impl ChatTemplate {
    /// The template of this text.
    pub fn new(source: impl Into<String>) -> Self {
        let source = source.into();
        let compiled = parse(&source);
        Self { source, compiled }
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation. `special` are the names of special tokens (`bos_token`, …) and their texts;
    /// `add_generation_prompt` closes with what stands in front of an answer.
    ///
    /// # Errors
    /// A text that is no Jinja template, what the template itself refuses (a system message, say), what it uses that is
    /// not known here.
    pub fn render<'a>(
        &self,
        messages: &[Message],
        special: impl IntoIterator<Item = (&'a str, &'a str)>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let special: BTreeMap<&str, &str> = special.into_iter().collect();
        let variables = context! {
            messages => Value::from(Serde(messages)),
            // transformers passes both, and templates ask whether they are none.
            tools => Value::from(()),
            documents => Value::from(()),
            add_generation_prompt,
            ..Value::from(Serde(special))
        };
        let environment = self.compiled.as_ref().map_err(failed)?;
        environment
            .get_template(NAME)
            .and_then(|template| template.render(variables))
            .map_err(|error| failed(&error))
    }
}

fn parse(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    add_to_environment(&mut environment);
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter(percent::FILTER, percent::format);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment.add_template_owned(NAME, source::prepared(source)?)?;
    Ok(environment)
}

fn failed(error: &minijinja::Error) -> Error {
    let reason = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    let line = error
        .line()
        .map_or_else(String::new, |line| format!(", line {line}"));
    Error::input(format!("the chat template{line}: {reason}"))
}

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(
        ErrorKind::InvalidOperation,
        message.to_owned(),
    ))
}

/// The local time in a format of C's `strftime`.
fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(format, &jiff::ZonedDateTime::now()).map_err(|error| {
        minijinja::Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now: {error}"),
        )
    })
}

/// Python's `json.dumps(value, ensure_ascii=False)`, with its `indent`; Jinja's own filter would escape `<` and `&`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja hands options over by value"
)]
fn tojson(value: &Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let text = python_json::dumps(value, indent, ascii.unwrap_or(false)).map_err(|error| {
        minijinja::Error::new(ErrorKind::BadSerialization, format!("tojson: {error}"))
    })?;
    Ok(Value::from_safe_string(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> Vec<Message> {
        vec![
            Message::new(Role::System, " Be brief. "),
            Message::new(Role::User, "Is 1 < 2?"),
            Message::new(Role::Assistant, "Yes"),
            Message::new(Role::User, "{{ 7 * 6 }}"),
        ]
    }

    fn render(source: &str, generation: bool) -> Result<String> {
        let special = [("bos_token", "<s>"), ("eos_token", "</s>")];
        ChatTemplate::new(source).render(&talk(), special, generation)
    }

    /// Blocks on lines of their own, loop variables, Python's methods and slices, `tojson`, `break`, `generation`.
    const RICH: &str = r"{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'].strip() %}
    {%- set rest = messages[1:] %}
{%- endif %}
{{- '[' + system.upper() + ']\n' }}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {% if message.role == 'user' %}
{{ loop.index }}:{{ message['content'] | tojson }}
    {%- else %}{% generation %}{{ message['content'].replace('Y', 'y') + eos_token }}{% endgeneration %}
    {% endif %}
    {% if loop.index == 9 %}{% break %}{% endif %}
{% endfor %}
{% if add_generation_prompt and tools is none %}
{{ 'answer:' if messages | length > 2 else '' }}
{% endif %}
";

    /// Expected: transformers 5.23.0, `tests/scripts/chat.py` (jinja2 3.1.6) on the same template and conversation.
    #[test]
    fn a_rich_template_renders_as_in_transformers() -> Result<()> {
        assert_eq!(render(RICH, true)?, EXPECTED);
        Ok(())
    }

    const EXPECTED: &str = "<s>[BE BRIEF.]\n1:\"Is 1 < 2?\"yes</s>3:\"{{ 7 * 6 }}\"answer:\n";

    #[test]
    fn what_the_conversation_says_is_not_a_template() -> Result<()> {
        let text = render("{% for m in messages %}{{ m.content }}|{% endfor %}", false)?;
        assert_eq!(text, " Be brief. |Is 1 < 2?|Yes|{{ 7 * 6 }}|");
        Ok(())
    }

    #[test]
    fn the_date_is_today() -> Result<()> {
        let text = render("{{ strftime_now('%Y') }}", false)?;
        let year: i32 = text.parse().expect("a year");
        assert!((2024..2200).contains(&year), "{year}");
        Ok(())
    }

    #[test]
    fn refusals_say_line_and_reason() {
        let refused = |source: &str| {
            let error = render(source, true).expect_err("refused");
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        let text = refused("\n{{ raise_exception('System role not supported') }}");
        assert!(
            text.contains("line 2") && text.contains("System role not supported"),
            "{text}"
        );
        let text = refused("{% for %}");
        assert!(text.contains("the chat template, line 1"), "{text}");
        let text = refused("{{ unheard_of() }}");
        assert!(text.contains("unheard_of"), "{text}");
    }
}
