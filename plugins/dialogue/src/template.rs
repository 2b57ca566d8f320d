//! Prompts as minijinja files: ours, embedded, or a file that an option names.
//!
//! A file begins with the line `{# finegrain template KIND, version V #}` and has three blocks: `system`, `user`, and
//! `again`, the turn that follows an answer which cannot be used. Nothing but white space may stand outside of them. What
//! a template may ask for is in [`TemplateKind::variables`]; a name that is not there is an error when the file is loaded,
//! and so is a file that does not render a sample row. A template has no files beside it (no `include`, no `import`), and
//! its work and its output are limited, so that it ends.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write, sink};

use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use sha2::{Digest, Sha256};

pub use kind::TemplateKind;

use crate::marks::hex;

mod kind;

/// The largest template file, in bytes.
const MAX_SOURCE: u64 = 1 << 20;
/// The largest text of a block, in bytes.
const MAX_TEXT: usize = 16 << 20;
/// What a template may do for a row: instructions, and one more for every 64 bytes that it handles.
const FUEL: u64 = 2_000_000;
/// The blocks of a template.
const BLOCKS: [&str; 3] = ["system", "user", "again"];

/// Which template a question was made with; kept beside every answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub struct TemplateId {
    /// The kind of a built-in template, `edit-text` say, or the path of the file as the option has it.
    pub name: String,
    /// The version that its first line says.
    pub version: String,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
}

/// A question to a text model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The system message; never blank.
    pub system: String,
    /// The user's turn; never blank.
    pub user: String,
}

/// A prompt.
#[derive(Clone, Debug)]
pub struct Template {
    id: TemplateId,
    kind: TemplateKind,
    environment: Environment<'static>,
    uses: BTreeSet<String>,
}

impl Template {
    /// The built-in template of a kind, or the one in a file.
    ///
    /// # Errors
    /// [`finegrain_sdk::ErrorCode::INVALID_OPTIONS`] for a file that cannot be read, is larger than 1 MiB or is no UTF-8,
    /// and for everything that [`Template::parse`] refuses.
    pub fn load(kind: TemplateKind, path: Option<&str>) -> Result<Self> {
        let Some(path) = path else {
            return Self::parse(kind, kind.name(), kind.built_in());
        };
        let failed = |reason: &dyn std::fmt::Display| {
            Error::options(format!("the template {path}: {reason}"))
        };
        let file = File::open(path).map_err(|error| failed(&error))?;
        let mut source = String::new();
        file.take(MAX_SOURCE + 1)
            .read_to_string(&mut source)
            .map_err(|error| failed(&error))?;
        if source.len() as u64 > MAX_SOURCE {
            return Err(failed(&"the file is larger than 1 MiB"));
        }
        Self::parse(kind, path, &source)
    }

    /// The template of a text; `name` is what messages call it.
    ///
    /// # Errors
    /// [`finegrain_sdk::ErrorCode::INVALID_OPTIONS`] for another first line than the one of this kind, a missing block,
    /// text outside of the blocks, a variable that this kind does not have, one that it must use and does not, and whatever
    /// keeps a sample row from being rendered.
    pub fn parse(kind: TemplateKind, name: &str, source: &str) -> Result<Self> {
        let refused = |reason: String| Error::options(format!("the template {name}: {reason}"));
        let version = version(kind, source).map_err(refused)?;
        let sha256 = hex(&Sha256::digest(source));
        // The editor of some systems writes a byte order mark.
        let text = source.strip_prefix('\u{feff}').unwrap_or(source);
        let environment = environment(kind, text.to_owned())
            .map_err(|error| Error::options(explain(name, "", &error)))?;
        let uses = variables(kind, &environment);
        let template = Self {
            id: TemplateId {
                name: name.to_owned(),
                version,
                sha256,
            },
            kind,
            environment,
            uses,
        };
        template.check_variables().map_err(refused)?;
        for sample in kind.samples() {
            template
                .check_sample(&sample)
                .map_err(|error| Error::options(error.message))?;
        }
        Ok(template)
    }

    /// Name, version and hash.
    pub fn id(&self) -> &TemplateId {
        &self.id
    }

    /// Whether the template asks for a variable.
    pub(crate) fn uses(&self, variable: &str) -> bool {
        self.uses.contains(variable)
    }

    /// The question about a row.
    ///
    /// # Errors
    /// A row that the template cannot render, or that it renders to a blank text or to more than 16 MiB.
    pub(crate) fn question(&self, variables: &Value) -> Result<Question> {
        let [system, user] = self.blocks(["system", "user"], variables)?;
        Ok(Question { system, user })
    }

    /// The turn after an answer that cannot be used.
    ///
    /// # Errors
    /// As for [`Template::question`].
    pub(crate) fn again(&self, variables: &Value) -> Result<String> {
        let [again] = self.blocks(["again"], variables)?;
        Ok(again)
    }

    /// Some blocks, rendered.
    fn blocks<const N: usize>(
        &self,
        names: [&'static str; N],
        variables: &Value,
    ) -> Result<[String; N]> {
        let name = self.id.name.as_str();
        let failed = |block: &str, error: &minijinja::Error| {
            Error::input(explain(name, &format!(", block {block}"), error))
        };
        let mut state = self
            .environment
            .get_template(self.kind.name())
            .and_then(|template| template.render_captured_to(variables.clone(), sink()))
            .map_err(|error| Error::input(explain(name, "", &error)))?;
        let mut texts = [const { String::new() }; N];
        for (text, block) in texts.iter_mut().zip(names) {
            let mut out = Limited(Vec::new());
            state
                .with_state_mut(|state| state.render_block_to_write(block, &mut out))
                .map_err(|error| failed(block, &error))?;
            *text = String::from_utf8(out.0).map_err(|error| {
                Error::input(format!("the template {name}, block {block}: {error}"))
            })?;
            if text.trim().is_empty() {
                return Err(Error::input(format!(
                    "the template {name}, block {block}: the text is blank"
                )));
            }
        }
        Ok(texts)
    }

    /// Whether all variables are known, and all that must be there are used.
    fn check_variables(&self) -> Result<(), String> {
        let known = self.kind.variables();
        if let Some(unknown) = self.uses.iter().find(|name| !known.contains(&&***name)) {
            return Err(format!(
                "there is no variable `{unknown}`; a template {} has {}",
                self.kind.name(),
                known.join(", ")
            ));
        }
        for missing in self.kind.required() {
            if !self.uses(missing) {
                return Err(format!("the variable `{missing}` is not used"));
            }
        }
        if self.uses("open") != self.uses("close") {
            return Err("`open` and `close` go together, and only one of them is used".to_owned());
        }
        Ok(())
    }

    /// Renders a sample, and finds text outside of the blocks.
    fn check_sample(&self, sample: &Value) -> Result<()> {
        let name = self.id.name.as_str();
        let blocks = self.blocks(BLOCKS, sample)?;
        let whole = self
            .environment
            .get_template(self.kind.name())
            .and_then(|template| template.render(sample.clone()))
            .map_err(|error| Error::input(explain(name, "", &error)))?;
        let inked = |text: &str| text.chars().filter(|char| !char.is_whitespace()).count();
        let inside: usize = blocks.iter().map(|block| inked(block)).sum();
        if inked(&whole) == inside {
            return Ok(());
        }
        Err(Error::input(format!(
            "the template {name}: text stands outside of the blocks {}, and would be lost",
            BLOCKS.join(", ")
        )))
    }
}

/// The version in the first line.
fn version(kind: TemplateKind, source: &str) -> Result<String, String> {
    let wanted = format!("{{# finegrain template {}, version 1 #}}", kind.name());
    let first = source.lines().next().unwrap_or_default();
    let version = first
        .trim_start_matches('\u{feff}')
        .trim()
        .strip_prefix("{# finegrain template ")
        .and_then(|rest| rest.strip_suffix(" #}"))
        .and_then(|rest| rest.split_once(", version "));
    let good =
        |version: &str| (1..=40).contains(&version.len()) && !version.contains(char::is_whitespace);
    match version {
        Some((found, version)) if found == kind.name() && good(version) => Ok(version.to_owned()),
        Some((found, _)) if found != kind.name() => Err(format!(
            "this is a template {found}, and {} is asked for",
            kind.name()
        )),
        _ => Err(format!(
            "the first line must be like `{wanted}`, with a version of your own"
        )),
    }
}

fn environment(
    kind: TemplateKind,
    source: String,
) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(false);
    environment.add_template_owned(kind.name(), source)?;
    Ok(environment)
}

/// The names that a template asks for, without those that minijinja has itself.
fn variables(kind: TemplateKind, environment: &Environment<'static>) -> BTreeSet<String> {
    let globals: BTreeSet<&str> = environment.globals().map(|(name, _)| name).collect();
    let Ok(template) = environment.get_template(kind.name()) else {
        return BTreeSet::new();
    };
    let names = template.undeclared_variables(false);
    names
        .into_iter()
        .filter(|name| !globals.contains(name.as_str()))
        .collect()
}

/// An error of minijinja with the template's name, the place and the reason; without the texts of the row.
fn explain(name: &str, place: &str, error: &minijinja::Error) -> String {
    let line = error
        .line()
        .map_or_else(String::new, |line| format!(", line {line}"));
    let reason = match (error.kind(), error.detail()) {
        (minijinja::ErrorKind::OutOfFuel, _) => {
            "the template does too much work for one row".to_owned()
        }
        (minijinja::ErrorKind::WriteFailure, _) => {
            format!("the text is longer than {} MiB", MAX_TEXT >> 20)
        }
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    format!("the template {name}{place}{line}: {reason}")
}

/// A text that does not grow beyond [`MAX_TEXT`].
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
