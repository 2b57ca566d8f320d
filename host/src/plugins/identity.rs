//! Which plugin it is: kind, name, version, and the bytes it came from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// The four kinds of plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// Makes minimal edits that better a response.
    Editor,
    /// Trains a score per token and rewards every token.
    Reward,
    /// Turns rewards and values into advantages and returns.
    Advantage,
    /// Says which of two responses is better.
    Judge,
}

impl PluginKind {
    /// All kinds, in the order of the pipeline.
    pub const ALL: [Self; 4] = [Self::Editor, Self::Reward, Self::Advantage, Self::Judge];

    /// The kind as configurations and qualified names write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Editor => "editor",
            Self::Reward => "reward",
            Self::Advantage => "advantage",
            Self::Judge => "judge",
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PluginKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                Error::input(format!(
                    "{text} is no kind of plugin; the kinds are editor, reward, advantage and judge"
                ))
            })
    }
}

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Linked into finegrain.
    BuiltIn,
    /// A shared library.
    Library(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::Library(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which plugin it is; a run records the identity of every plugin it used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Its kind.
    pub kind: PluginKind,
    /// Its name, unique within the kind.
    pub name: String,
    /// The version of its crate.
    pub version: String,
    /// Where it comes from.
    pub source: Source,
    /// SHA-256 of the library's bytes in lower-case hexadecimal; `None` for a built-in plugin.
    pub sha256: Option<String>,
    /// SHA-256 of the sources of a built-in plugin, those of the SDK and of other crates it builds on included, in
    /// lower-case hexadecimal; `None` for a library.
    pub sources: Option<String>,
}

impl Identity {
    /// `kind/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// What decides the plugin's results, for cache keys: the library's bytes, or the sources of a built-in plugin. The path
    /// does not count.
    pub fn fingerprint(&self) -> String {
        let id = self.id();
        match (&self.sha256, &self.sources) {
            (Some(sha256), _) => format!("{id}@sha256:{sha256}"),
            (None, Some(sources)) => format!("{id}@sources:{sources}"),
            // Registered by the host itself, which only its tests do.
            (None, None) => format!("{id}@{}", self.version),
        }
    }
}

/// As messages name a plugin: `plugin reward/mine (libmine.so, sha256 1e33d2ab…)`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}/{} (", self.kind, self.name)?;
        match &self.source {
            Source::BuiltIn => f.write_str("built-in")?,
            Source::Library(path) => f.write_str(&file_name(path))?,
        }
        if let Some(sha256) = &self.sha256 {
            write!(f, ", sha256 {}…", &sha256[..8.min(sha256.len())])?;
        }
        f.write_str(")")
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded() -> Identity {
        Identity {
            kind: PluginKind::Reward,
            name: "mine".into(),
            version: "0.3.0".into(),
            source: Source::Library("/plugins/libmine.so".into()),
            sha256: Some("1e33d2ab77".repeat(4)),
            sources: None,
        }
    }

    #[test]
    fn messages_name_file_and_short_hash() {
        assert_eq!(
            loaded().to_string(),
            "plugin reward/mine (libmine.so, sha256 1e33d2ab…)"
        );
    }

    #[test]
    fn the_path_is_no_part_of_the_fingerprint() {
        let mut moved = loaded();
        moved.source = Source::Library("/elsewhere/lib.so".into());
        assert_eq!(moved.fingerprint(), loaded().fingerprint());
        let built_in = Identity {
            source: Source::BuiltIn,
            sha256: None,
            sources: Some("77".repeat(32)),
            ..loaded()
        };
        assert_eq!(
            built_in.fingerprint(),
            format!("reward/mine@sources:{}", "77".repeat(32))
        );
    }

    #[test]
    fn serialises_for_the_run_manifest() {
        let json = serde_json::to_value(loaded()).unwrap();
        assert_eq!(json["kind"], "reward");
        assert_eq!(json["source"], "/plugins/libmine.so");
    }

    #[test]
    fn kinds_round_trip_and_others_are_refused() {
        for kind in PluginKind::ALL {
            assert_eq!(kind.as_str().parse::<PluginKind>().unwrap(), kind);
        }
        let error = "rewards".parse::<PluginKind>().unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
