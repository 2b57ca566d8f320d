//! What `finegrain plugin list` and `finegrain plugin info` print: text for a terminal, JSON for a program.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, TableStyle};
use finegrain_sdk::info::Capabilities;
use serde_json::{Value, json};

use crate::plugins::identity::PluginKind;
use crate::plugins::options;
use crate::plugins::registry::{Listed, Registry};
use crate::report::tables::ruled;

/// Every plugin, one a line, in `width` columns.
pub fn list(registry: &Registry, width: u16) -> String {
    let rows = registry.list().into_iter().map(|listed| {
        let identity = &listed.identity;
        [
            identity.id(),
            identity.version.clone(),
            identity.source.to_string(),
            listed.descriptor.info.summary.clone(),
        ]
    });
    let header = ["plugin", "version", "source", "summary"];
    ruled(&header, rows, width, 1, |_| false) + "\n"
}

/// Every plugin as JSON: a list of what [`info_json`] gives.
pub fn list_json(registry: &Registry) -> Value {
    registry.list().into_iter().map(info_json).collect()
}

/// One plugin: what it does, what it needs, its options, its papers, and where it comes from.
pub fn info(listed: &Listed, width: u16) -> String {
    let (identity, descriptor) = (&listed.identity, &listed.descriptor);
    let info = &descriptor.info;
    let mut text = format!("{}: {}\n", identity.id(), info.summary);
    if !info.description.is_empty() {
        let _ = write!(text, "\n{}\n", wrapped(&info.description, width));
    }
    let options = option_rows(&descriptor.options_schema, &descriptor.options_defaults);
    if options.is_empty() {
        text.push_str("\nIt has no options.\n");
    } else {
        let header = ["option", "default", "accepted", "meaning"];
        let table = ruled(&header, options, width, 1, |_| false);
        let _ = writeln!(text, "\n{table}");
    }
    let _ = write!(
        text,
        "\nNeeds and promises: {}\n",
        capabilities(identity.kind, &info.capabilities).join(", ")
    );
    for example in &info.examples {
        let _ = write!(text, "\nExample:\n");
        for line in example.trim().lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    if !info.references.is_empty() {
        text.push_str("\nReferences:\n");
        for reference in &info.references {
            let _ = writeln!(text, "    {} ({})", reference.title, reference.url);
        }
    }
    let _ = write!(
        text,
        "\nFrom: {}, crate {} {}, finegrain-sdk {}\n",
        identity.source, descriptor.package, descriptor.version, descriptor.sdk
    );
    if let Some(sha256) = &identity.sha256 {
        let _ = writeln!(text, "SHA-256: {sha256}");
    }
    if let Some(sources) = &identity.sources {
        let _ = writeln!(text, "SHA-256 of its sources: {sources}");
    }
    text
}

/// One plugin as JSON: kind, name, version, source and sha256, then the descriptor.
pub fn info_json(listed: &Listed) -> Value {
    json!(listed)
}

/// What the host has to provide for a plugin of this kind, and what it may assume, in words.
fn capabilities(kind: PluginKind, capabilities: &Capabilities) -> Vec<String> {
    // "a" or "no" in front of what may be needed.
    let needs = |needed: bool, what: &str| format!("{} {what}", if needed { "a" } else { "no" });
    let mut words = Vec::new();
    match kind {
        PluginKind::Reward => words.push(needs(capabilities.needs_reward_model, "reward model")),
        PluginKind::Advantage => {
            words.push(needs(capabilities.needs_critic, "critic"));
            if capabilities.samples_per_prompt > 1 {
                words.push(format!(
                    "at least {} samples per prompt",
                    capabilities.samples_per_prompt
                ));
            }
        }
        PluginKind::Editor | PluginKind::Judge => {}
    }
    let not = if capabilities.deterministic {
        ""
    } else {
        "not "
    };
    words.push(format!("{not}deterministic"));
    if capabilities.network {
        words.push("talks to other machines".to_owned());
    }
    words
}

/// One row an option: its key, default, accepted values and meaning. Options of a table follow with the table's key in front.
fn option_rows(schema: &Value, defaults: &Value) -> Vec<[String; 4]> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for (name, property) in properties {
        let default = defaults.get(name).unwrap_or(&Value::Null);
        let inner = option_rows(property, default);
        if !inner.is_empty() {
            rows.extend(inner.into_iter().map(|[key, default, accepted, meaning]| {
                [format!("{name}.{key}"), default, accepted, meaning]
            }));
            continue;
        }
        let default = match default {
            Value::Null => "none".to_owned(),
            default => default.to_string(),
        };
        let meaning = property
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        rows.push([
            name.clone(),
            default,
            options::accepted(property),
            meaning.replace('\n', " "),
        ]);
    }
    rows
}

fn wrapped(text: &str, width: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .add_rows(text.trim().lines().map(|line| [line]));
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::info::Reference;

    use super::*;
    use crate::plugins::identity::{Identity, Source};

    fn example() -> Listed {
        let mut info = finegrain_sdk::PluginInfo {
            summary: "mean reward".into(),
            description: "R = (1/T) Σ r_t".into(),
            references: vec![Reference {
                title: "Some paper, eq. 1".into(),
                url: "arXiv:0000.00000".into(),
            }],
            examples: vec!["[reward]\nuse = \"mean\"".into()],
            ..finegrain_sdk::PluginInfo::default()
        };
        info.capabilities.network = true;
        Listed {
            identity: Identity {
                kind: PluginKind::Reward,
                name: "mean".into(),
                version: "0.2.0".into(),
                source: Source::BuiltIn,
                sha256: None,
                sources: None,
            },
            descriptor: finegrain_sdk::descriptor::Descriptor {
                name: "mean".into(),
                package: "a-crate".into(),
                version: "0.2.0".into(),
                sdk: "0.1.0".into(),
                info,
                options_schema: json!({"properties": {
                    "scale": {"description": "What each\ntoken gets.", "oneOf": [{"const": "none"}, {"const": "mean"}]},
                    "clip": {"properties": {"low": {"type": ["number", "null"], "minimum": 0.0}}},
                }}),
                options_defaults: json!({"scale": "none", "clip": {"low": null}}),
            },
        }
    }

    #[test]
    fn info_shows_everything_a_user_needs() {
        let expected = "\
reward/mean: mean reward

R = (1/T) Σ r_t

option    default  accepted                        meaning
─────────────────────────────────────────────────────────────────────────
scale     \"none\"   \"none\" or \"mean\"                What each token gets.
clip.low  none     a number at least 0 or nothing

Needs and promises: a reward model, deterministic, talks to other machines

Example:
    [reward]
    use = \"mean\"

References:
    Some paper, eq. 1 (arXiv:0000.00000)

From: built-in, crate a-crate 0.2.0, finegrain-sdk 0.1.0
";
        let text = info(&example(), 100);
        assert_eq!(text, expected, "found:\n{text}");
    }

    #[test]
    fn json_puts_the_identity_first() {
        let json = info_json(&example());
        assert_eq!(json["kind"], "reward");
        assert_eq!(json["source"], "built-in");
        assert_eq!(json["descriptor"]["options_defaults"]["scale"], "none");
    }

    #[test]
    fn the_list_has_a_line_a_plugin() {
        let registry = Registry::built_in().unwrap();
        // Wide enough that nothing wraps.
        let text = list(&registry, 400);
        assert!(text.starts_with("plugin"), "{text}");
        assert_eq!(text.lines().count(), 2 + registry.list().len());
        assert_eq!(
            list_json(&registry).as_array().unwrap().len(),
            registry.list().len()
        );
    }
}
