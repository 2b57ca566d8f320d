//! What lies in the files that an instance reads, as hashes: a file edited in place makes another instance of it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::pipeline::store::sha256;
use crate::plugins::identity::Identity;

/// The SHA-256 of every path: of a file's bytes; of a folder's list of files with their hashes, in the order of their names.
pub(super) fn contents(identity: &Identity, paths: &[String]) -> Result<Value> {
    let hashes = paths.iter().map(|path| {
        let hash = of(Path::new(path)).map_err(|error| {
            error.context(format!(
                "{identity} depends on {path}, which cannot be read"
            ))
        })?;
        Ok((path.clone(), Value::from(hash)))
    });
    hashes.collect::<Result<Map<_, _>>>().map(Value::from)
}

fn of(path: &Path) -> Result<String> {
    let failed = |error| crate::error::Error::io("read", path, &error);
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(sha256(&fs::read(path).map_err(failed)?));
    }
    let mut names = fs::read_dir(path)
        .map_err(failed)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    names.sort();
    let mut list = Vec::new();
    for name in names {
        let hash = of(&path.join(&name))?;
        list.extend_from_slice(name.as_encoded_bytes());
        // No name has a 0 byte in it.
        list.push(0);
        list.extend_from_slice(hash.as_bytes());
    }
    Ok(sha256(&list))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use finegrain_sdk::info::Capabilities;
    use finegrain_sdk::kinds::{
        AdvantageEstimator, Advantages, Comparisons, EditRequests, EditSink, Editor, Judge,
        JudgeSink, RewardScheme, Rollouts, Trajectories,
    };
    use finegrain_sdk::schemars::{self, JsonSchema};
    use finegrain_sdk::{CallContext, Plugin, PluginInfo, register};
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use crate::plugins::Registry;

    #[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Options {
        files: Vec<String>,
    }

    /// A plugin of every kind that depends on files and does nothing.
    struct Reader(Options);

    impl Plugin for Reader {
        const NAME: &'static str = "test-reader";
        type Options = Options;

        fn info() -> PluginInfo {
            PluginInfo::default()
        }

        fn new(options: Options) -> finegrain_sdk::Result<Self> {
            Ok(Self(options))
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities {
                files: self.0.files.clone(),
                ..Capabilities::default()
            }
        }
    }

    impl Editor for Reader {
        fn edit(
            &self,
            _: &EditRequests<'_>,
            _: &mut dyn EditSink,
            _: &CallContext<'_>,
        ) -> finegrain_sdk::Result<()> {
            Ok(())
        }
    }

    impl RewardScheme for Reader {
        fn sequence_reward(
            &self,
            _: &Rollouts<'_>,
            _: &mut [f32],
            _: &CallContext<'_>,
        ) -> finegrain_sdk::Result<()> {
            Ok(())
        }

        fn token_rewards(
            &self,
            _: &Rollouts<'_>,
            _: &mut [f32],
            _: &CallContext<'_>,
        ) -> finegrain_sdk::Result<()> {
            Ok(())
        }
    }

    impl AdvantageEstimator for Reader {
        fn estimate(
            &self,
            _: &Trajectories<'_>,
            _: Advantages<'_>,
            _: &CallContext<'_>,
        ) -> finegrain_sdk::Result<()> {
            Ok(())
        }
    }

    impl Judge for Reader {
        fn compare(
            &self,
            _: &Comparisons<'_>,
            _: &mut dyn JudgeSink,
            _: &CallContext<'_>,
        ) -> finegrain_sdk::Result<()> {
            Ok(())
        }
    }

    register!(Editor, Reader);
    register!(RewardScheme, Reader);
    register!(AdvantageEstimator, Reader);
    register!(Judge, Reader);

    /// The fingerprints of all four kinds.
    fn fingerprints(files: &[&Path]) -> [Value; 4] {
        let registry = Registry::built_in().unwrap();
        let options = json!({ "files": files });
        let name = "test-reader";
        [
            registry.editor(name, &options).unwrap().fingerprint(),
            registry.reward(name, &options).unwrap().fingerprint(),
            registry.advantage(name, &options).unwrap().fingerprint(),
            registry.judge(name, &options).unwrap().fingerprint(),
        ]
        .map(Clone::clone)
    }

    #[test]
    fn the_fingerprint_of_every_kind_follows_the_bytes_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edits.jsonl");
        let folder = dir.path().join("model");
        let inner = folder.join("parts/b");
        fs::create_dir_all(inner.parent().unwrap()).unwrap();
        fs::write(&file, "abc").unwrap();
        fs::write(&inner, "1").unwrap();
        let paths = [file.as_path(), folder.as_path()];
        let first = fingerprints(&paths);
        // SHA-256 of "abc", FIPS 180-2 appendix B.1.
        assert_eq!(
            first[0]["files"][file.to_str().unwrap()],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(first, fingerprints(&paths), "nothing has changed");
        let differ = |before: &[Value; 4]| {
            let after = fingerprints(&paths);
            for (before, after) in before.iter().zip(&after) {
                assert_ne!(before, after);
            }
            after
        };
        fs::write(&file, "abd").unwrap();
        let changed = differ(&first);
        fs::write(&inner, "2").unwrap();
        let changed = differ(&changed);
        fs::rename(&inner, folder.join("parts/c")).unwrap();
        differ(&changed);
    }

    #[test]
    fn without_files_the_fingerprint_is_code_and_options() {
        for fingerprint in fingerprints(&[]) {
            assert!(fingerprint.get("files").is_none());
            assert_eq!(fingerprint["options"], json!({ "files": [] }));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_the_plugin() {
        let registry = Registry::built_in().unwrap();
        let options = json!({ "files": ["no/such/file"] });
        let error = registry.judge("test-reader", &options).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(
            message.contains("judge/test-reader") && message.contains("no/such/file"),
            "{message}"
        );
    }
}
