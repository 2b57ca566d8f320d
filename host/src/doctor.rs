//! What this machine has of what finegrain needs: what `finegrain doctor` prints. A look changes nothing but the cache of
//! compiled kernels.

#[cfg(feature = "cuda")]
mod cuda;
mod machine;

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use crate::plugins::{PluginSearch, Registry, Source};

/// How something that was looked at is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Fine,
    /// Needed, and missing or broken.
    Failed,
    /// Missing, and not needed on the processor.
    Absent,
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Fine => "✓",
            Self::Failed => "✗",
            Self::Absent => "–",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is, in a word or two.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// What was found, or why not.
    pub found: String,
    /// What to do where something is missing.
    pub hint: Option<String>,
}

impl Finding {
    fn fine(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: Status::Fine,
            found: found.into(),
            hint: None,
        }
    }

    fn not(status: Status, name: impl Into<String>, error: &Error) -> Self {
        Self {
            name: name.into(),
            status,
            found: error.to_string(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

/// All that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// What every run needs.
    pub processor: Vec<Finding>,
    /// What `device.kind = "cuda"` needs.
    pub cuda: Vec<Finding>,
    /// Whether runs on the processor work.
    pub processor_works: bool,
    /// Whether runs on a GPU work.
    pub cuda_works: bool,
}

/// Looks at the machine, at the plugins that `search` finds and at the store in the folder `store`. `needs_cuda` says
/// whether what CUDA misses is a failure.
pub fn examine(search: &PluginSearch, store: &Path, needs_cuda: bool) -> Findings {
    let missing = if needs_cuda {
        Status::Failed
    } else {
        Status::Absent
    };
    let processor = vec![
        Finding::fine("finegrain", version()),
        machine::processor(),
        machine::memory(),
        plugins(search),
        writable(store),
    ];
    let cuda = cuda_findings(missing);
    let all_fine = |findings: &[Finding]| {
        findings
            .iter()
            .all(|finding| finding.status == Status::Fine)
    };
    Findings {
        processor_works: all_fine(&processor),
        cuda_works: all_fine(&cuda),
        processor,
        cuda,
    }
}

fn version() -> String {
    let features = if cfg!(feature = "cuda") {
        "with the feature cuda"
    } else {
        "without the feature cuda"
    };
    let build = if cfg!(debug_assertions) {
        ", a debug build: models are slow"
    } else {
        ""
    };
    format!("{}, {features}{build}", env!("CARGO_PKG_VERSION"))
}

fn plugins(search: &PluginSearch) -> Finding {
    match Registry::load(search) {
        Ok(registry) => {
            let listed = registry.list();
            let built_in = listed
                .iter()
                .filter(|one| matches!(one.identity.source, Source::BuiltIn))
                .count();
            let loaded = listed.len() - built_in;
            Finding::fine(
                "plugins",
                format!("{built_in} built in and {loaded} from libraries load"),
            )
        }
        Err(error) => Finding::not(Status::Failed, "plugins", &error),
    }
}

/// Whether the store, or the folder that it would be made in, can be written.
fn writable(store: &Path) -> Finding {
    let folder = store.ancestors().find(|folder| folder.exists());
    let folder = match folder {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let tried = if fs::metadata(folder).is_ok_and(|found| found.is_dir()) {
        tempfile::tempfile_in(folder).map(drop)
    } else {
        Err(std::io::ErrorKind::NotADirectory.into())
    };
    match tried {
        Ok(()) if folder == store => {
            Finding::fine("store", format!("{} can be written", store.display()))
        }
        Ok(()) => Finding::fine(
            "store",
            format!("{} does not exist yet and can be made", store.display()),
        ),
        Err(error) => Finding {
            hint: Some("--store names another folder, of `run` and `compare` as well".into()),
            ..Finding::not(
                Status::Failed,
                "store",
                &Error::io("write into", folder, &error),
            )
        },
    }
}

#[cfg(feature = "cuda")]
fn cuda_findings(missing: Status) -> Vec<Finding> {
    cuda::examine(missing)
}

#[cfg(not(feature = "cuda"))]
fn cuda_findings(missing: Status) -> Vec<Finding> {
    let error = Error::input("this binary was built without the feature \"cuda\"")
        .hint("cargo build --release, without --no-default-features");
    vec![Finding::not(missing, "CUDA", &error)]
}

impl Findings {
    /// What failed, as an error; `None` where nothing did.
    pub fn failure(&self) -> Option<Error> {
        let failed: Vec<&Finding> = [&self.processor, &self.cuda]
            .into_iter()
            .flatten()
            .filter(|finding| finding.status == Status::Failed)
            .collect();
        let first = failed.first()?;
        let names: Vec<&str> = failed.iter().map(|finding| finding.name.as_str()).collect();
        let error = Error::input(format!("not as it should be: {}", names.join(", ")));
        Some(match &first.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        })
    }
}

impl fmt::Display for Findings {
    /// A line each, and a line below it where there is something to do.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || [&self.processor, &self.cuda].into_iter().flatten();
        let width = all().map(|finding| finding.name.chars().count()).max();
        let width = width.unwrap_or(0);
        for finding in all() {
            let Finding {
                name,
                status,
                found,
                hint,
            } = finding;
            // A compiler's log has many lines; its beginning says what is wrong.
            let found = found.lines().take(6).collect::<Vec<_>>().join("\n    ");
            writeln!(out, "{status} {name:width$}  {found}")?;
            if let Some(hint) = hint {
                writeln!(out, "  {:width$}  hint: {hint}", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_missing_can_be_made_and_one_that_is_a_file_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let found = writable(folder.path());
        assert_eq!(found.status, Status::Fine, "{found:?}");
        let missing = folder.path().join("a/b");
        let found = writable(&missing);
        assert!(found.status == Status::Fine && found.found.contains("can be made"));
        assert!(!missing.exists());
        fs::write(folder.path().join("file"), "").unwrap();
        let found = writable(&folder.path().join("file/store"));
        assert_eq!(found.status, Status::Failed, "{found:?}");
        assert!(found.hint.unwrap().contains("--store"));
    }

    #[test]
    fn a_plugin_that_is_not_there_is_named_and_fails() {
        let search = PluginSearch {
            paths: vec!["no/such/plugin.so".into()],
            ..PluginSearch::built_in()
        };
        let folder = tempfile::tempdir().unwrap();
        let findings = examine(&search, folder.path(), false);
        assert!(!findings.processor_works);
        let error = findings.failure().unwrap();
        assert!(error.to_string().contains("plugins"), "{error}");
        assert!(findings.to_string().contains("✗ plugins"), "{findings}");
        let findings = examine(&PluginSearch::built_in(), folder.path(), false);
        assert!(findings.processor_works && findings.failure().is_none());
    }
}
