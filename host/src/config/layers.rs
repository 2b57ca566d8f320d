//! Files and their bases, merged into one table that remembers where every key came from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::sweep::SWEEP;
use crate::data::hub::dataset::is_address;
use crate::error::{Error, Result};

/// Keys that hold paths; in a file they are relative to that file.
const PATH_KEYS: [&str; 8] = [
    "model.path",
    "data.path",
    "data.demonstrations.path",
    "data.preferences.path",
    "data.prompts.path",
    "data.evaluation.path",
    "plugins.paths",
    "editor.options.path",
];

/// Files deeper than this in a chain of bases are taken for a mistake.
const MAX_BASES: usize = 16;

/// A merged table and the origin of each dotted key, as `file:line` or `--set`.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    /// The merged values.
    pub(super) table: Table,
    origins: BTreeMap<String, String>,
}

impl Layers {
    /// Reads `path` and everything it is based on.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut chain = Vec::new();
        let mut next = Some(path.to_path_buf());
        while let Some(file) = next {
            if chain.len() == MAX_BASES {
                return Err(Error::input(format!(
                    "{}: more than {MAX_BASES} bases in a row",
                    path.display()
                ))
                .hint("a file cannot be its own base"));
            }
            let (layer, base) = read_file(&file)?;
            next = base.map(|base| file.parent().unwrap_or(Path::new("")).join(base));
            chain.push(layer);
        }
        let mut merged = Self::default();
        for layer in chain.into_iter().rev() {
            merge(&mut merged.table, layer.table);
            merged.origins.extend(layer.origins);
        }
        Ok(merged)
    }

    /// Where a dotted key, or the nearest table above it, was written.
    pub(super) fn origin(&self, key: &str) -> Option<&str> {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return Some(origin);
            }
            key = &key[..key.rfind('.')?];
        }
    }

    /// Records that a key was set by `origin`.
    pub(super) fn set_origin(&mut self, key: &str, origin: &str) {
        self.origins.insert(key.to_owned(), origin.to_owned());
    }
}

/// Puts `above` on top of `below`: tables key by key, everything else whole. Who names another plugin (`use`) takes nothing of the
/// options of the one below, or of its panel.
pub(super) fn merge(below: &mut Table, above: Table) {
    let plugin = |table: &Table| table.get("use").cloned();
    if plugin(&above).is_some_and(|use_| plugin(below).is_some_and(|it| it != use_)) {
        below.remove("options");
        below.remove("panel");
    }
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn read_file(path: &Path) -> Result<(Layers, Option<PathBuf>)> {
    let text = fs::read_to_string(path).map_err(|error| Error::io("read", path, &error))?;
    let syntax = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        Error::input(format!("{}:{line}: {}", path.display(), error.message()))
    };
    let mut table: Table = toml::from_str(&text).map_err(syntax)?;
    let parsed = DeTable::parse(&text).map_err(syntax)?;
    let mut origins = BTreeMap::new();
    collect_origins(parsed.get_ref(), "", &mut |key, start| {
        origins.insert(key, format!("{}:{}", path.display(), line_of(&text, start)));
    });
    let base = match table.remove("base") {
        None => None,
        Some(Value::String(base)) => Some(PathBuf::from(base)),
        Some(other) => {
            let at = origins.get("base").cloned().unwrap_or_default();
            return Err(Error::input(format!(
                "{at}: base: found {}, expected the path of a file",
                other.type_str()
            )));
        }
    };
    anchor_paths(&mut table, path.parent().unwrap_or(Path::new("")));
    Ok((Layers { table, origins }, base))
}

fn collect_origins(table: &DeTable<'_>, prefix: &str, record: &mut impl FnMut(String, usize)) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        record(name.clone(), key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => collect_origins(inner, &format!("{name}."), record),
            DeValue::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        record(format!("{name}.{at}"), item.span().start);
                        collect_origins(inner, &format!("{name}.{at}."), record);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Makes the relative paths of a file relative to the folder of that file, in a grid over such keys as well.
fn anchor_paths(table: &mut Table, folder: &Path) {
    if let Some(Value::Table(sweep)) = table.get_mut(SWEEP) {
        anchor_paths(sweep, folder);
    }
    for key in PATH_KEYS {
        let mut parts = key.split('.');
        let found = if table.contains_key(key) {
            table.get_mut(key)
        } else {
            let first = parts.next().and_then(|part| table.get_mut(part));
            parts.fold(first, |value, part| value?.as_table_mut()?.get_mut(part))
        };
        match found {
            Some(Value::String(path)) => *path = anchored(path, folder),
            Some(Value::Array(paths)) => {
                for path in paths {
                    if let Value::String(path) = path {
                        *path = anchored(path, folder);
                    }
                }
            }
            _ => {}
        }
    }
}

fn anchored(path: &str, folder: &Path) -> String {
    // An empty text stands for a path that the command line has to give, and an address lies in no folder.
    if path.is_empty() || is_address(path) {
        return path.to_owned();
    }
    folder.join(path).to_string_lossy().into_owned()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(below: &str, above: &str) -> Table {
        let mut below: Table = toml::from_str(below).unwrap();
        merge(&mut below, toml::from_str(above).unwrap());
        below
    }

    #[test]
    fn another_plugin_takes_nothing_of_the_options_below() {
        let claude = "[judge]\nuse = \"claude\"\nmax_failed = 0.1\noptions = { model = \"m\" }";
        let panel = "[judge]\nuse = \"panel\"\npanel = [{ use = \"a\" }, { use = \"b\" }]";
        let both = merged(claude, panel);
        let judge = both["judge"].as_table().unwrap();
        assert!(!judge.contains_key("options") && judge.contains_key("panel"));
        assert_eq!(judge["max_failed"].as_float(), Some(0.1));
        let back = merged(panel, claude);
        let judge = back["judge"].as_table().unwrap();
        assert!(judge.contains_key("options") && !judge.contains_key("panel"));
        // The same plugin, or none that is named, adds to its options.
        for above in ["[judge]\nuse = \"claude\"", "[judge]"] {
            let above = format!("{above}\noptions = {{ tries = 3 }}");
            let options = merged(claude, &above)["judge"]["options"].clone();
            assert_eq!(options.as_table().unwrap().len(), 2, "{above}");
        }
    }
}
