//! The plugins of a run: the built-in ones and those of the libraries that were found, by kind and name.

use std::collections::BTreeMap;

use finegrain_sdk::ErrorCode;
use finegrain_sdk::abi::advantage::{AdvantageBox, AdvantageObject};
use finegrain_sdk::abi::editor::{EditorBox, EditorObject};
use finegrain_sdk::abi::entry::EntryAbi;
use finegrain_sdk::abi::judge::{JudgeBox, JudgeObject};
use finegrain_sdk::abi::reward::{RewardBox, RewardObject};
use finegrain_sdk::abi::root::Contents;
use finegrain_sdk::descriptor::Descriptor;
use serde_json::Value;

use crate::builtins;
use crate::error::{Error, Result};
use crate::plugins::discover::PluginSearch;
use crate::plugins::identity::{Identity, PluginKind, Source};
use crate::plugins::instance::{
    AdvantageInstance, EditorInstance, Handle, JudgeInstance, RewardInstance,
};
use crate::plugins::load;
use crate::plugins::options;
use crate::plugins::stamp::Stamp;
use crate::plugins::trust::{TrustPolicy, TrustedFile};

/// A plugin that can be used: which one it is, and what it says about itself.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Listed {
    /// Which plugin it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Summary, capabilities, options.
    pub descriptor: Descriptor,
}

/// The plugins of one kind by name.
type Providers<O> = BTreeMap<String, (Listed, EntryAbi<O>)>;

/// All plugins of a run.
#[derive(Default)]
pub struct Registry {
    editors: Providers<EditorBox>,
    rewards: Providers<RewardBox>,
    advantages: Providers<AdvantageBox>,
    judges: Providers<JudgeBox>,
}

impl Registry {
    /// The built-in plugins alone.
    ///
    /// # Errors
    /// A built-in plugin that cannot describe itself, or two of one name.
    pub fn built_in() -> Result<Self> {
        let mut registry = Self::default();
        let contents = Contents::built_in()
            .map_err(|error| Error::internal(format!("the built-in plugins: {error}")))?;
        registry.add(contents, &Source::BuiltIn, None)?;
        Ok(registry)
    }

    /// The built-in plugins and those of every library that is found.
    ///
    /// # Errors
    /// As [`Registry::built_in`] and [`Registry::add_libraries`].
    pub fn load(search: &PluginSearch) -> Result<Self> {
        let mut registry = Self::built_in()?;
        registry.add_libraries(search)?;
        Ok(registry)
    }

    /// Adds the plugins of every library that is found; to `Registry::default()`, those of the libraries alone.
    ///
    /// # Errors
    /// A library that is missing or refused, or that offers a name which another provider has.
    pub fn add_libraries(&mut self, search: &PluginSearch) -> Result<()> {
        let policy = TrustPolicy::new(search.allow.as_deref())?;
        let mut hashes = Vec::new();
        for path in search.files()? {
            let file = TrustedFile::read(&path, &policy)?;
            // A copy of a library that is already there adds nothing.
            if hashes.contains(&file.sha256) {
                continue;
            }
            let stamps = Stamp::read(&path, &file.bytes)?;
            let module = load::load(&file, &stamps)?;
            let contents =
                Contents::read(module).map_err(|error| load::unreadable(&file, &error))?;
            self.add(contents, &Source::Library(path), Some(&file.sha256))?;
            hashes.push(file.sha256);
        }
        Ok(())
    }

    fn add(&mut self, contents: Contents, source: &Source, sha256: Option<&str>) -> Result<()> {
        add(
            &mut self.editors,
            contents.editors,
            PluginKind::Editor,
            source,
            sha256,
        )?;
        add(
            &mut self.rewards,
            contents.rewards,
            PluginKind::Reward,
            source,
            sha256,
        )?;
        add(
            &mut self.advantages,
            contents.advantages,
            PluginKind::Advantage,
            source,
            sha256,
        )?;
        add(
            &mut self.judges,
            contents.judges,
            PluginKind::Judge,
            source,
            sha256,
        )
    }

    /// Every plugin, by kind in the order of the pipeline, then by name.
    pub fn list(&self) -> Vec<&Listed> {
        fn of<O>(providers: &Providers<O>) -> impl Iterator<Item = &Listed> {
            providers.values().map(|(listed, _)| listed)
        }
        of(&self.editors)
            .chain(of(&self.rewards))
            .chain(of(&self.advantages))
            .chain(of(&self.judges))
            .collect()
    }

    /// One plugin by kind and name.
    ///
    /// # Errors
    /// Wrong input: a name that is not known.
    pub fn info(&self, kind: PluginKind, name: &str) -> Result<&Listed> {
        match kind {
            PluginKind::Editor => self.find(&self.editors, kind, name).map(|found| &found.0),
            PluginKind::Reward => self.find(&self.rewards, kind, name).map(|found| &found.0),
            PluginKind::Advantage => self
                .find(&self.advantages, kind, name)
                .map(|found| &found.0),
            PluginKind::Judge => self.find(&self.judges, kind, name).map(|found| &found.0),
        }
    }

    /// One plugin by its id, `kind/name`, or by its name where only one kind has it.
    ///
    /// # Errors
    /// Wrong input: an id that is not known, a name that several kinds have.
    pub fn by_id(&self, id: &str) -> Result<&Listed> {
        if let Some((kind, name)) = id.split_once('/') {
            return self.info(kind.parse()?, name);
        }
        let listed = self.list();
        let same: Vec<&Listed> = listed
            .iter()
            .copied()
            .filter(|listed| listed.identity.name == id)
            .collect();
        match same[..] {
            [one] => Ok(one),
            [] => {
                let known = listed
                    .iter()
                    .map(|one| one.identity.name.as_str())
                    .collect();
                Err(Error::input(format!(
                    "no plugin is called {id}; {}",
                    options::nearest(id, known)
                ))
                .hint("finegrain plugin list shows all"))
            }
            _ => {
                let ids: Vec<String> = same.iter().map(|one| one.identity.id()).collect();
                Err(Error::input(format!(
                    "{id} is the name of several plugins: {}",
                    ids.join(", ")
                )))
            }
        }
    }

    /// An editor with these options (a JSON object, or null for the defaults).
    ///
    /// # Errors
    /// Wrong input: an unknown name, options that the plugin does not accept. A plugin's failure: a panic in its constructor.
    pub fn editor(&self, name: &str, options: &Value) -> Result<EditorInstance> {
        let provider = self.find(&self.editors, PluginKind::Editor, name)?;
        let object = EditorObject(construct(provider, options)?);
        let handle = Handle::new(provider.0.identity.clone(), options, object.capabilities())?;
        Ok(EditorInstance::new(handle, object))
    }

    /// A reward scheme with these options.
    ///
    /// # Errors
    /// As [`Registry::editor`].
    pub fn reward(&self, name: &str, options: &Value) -> Result<RewardInstance> {
        let provider = self.find(&self.rewards, PluginKind::Reward, name)?;
        let object = RewardObject(construct(provider, options)?);
        let handle = Handle::new(provider.0.identity.clone(), options, object.capabilities())?;
        Ok(RewardInstance::new(handle, object))
    }

    /// An advantage estimator with these options.
    ///
    /// # Errors
    /// As [`Registry::editor`].
    pub fn advantage(&self, name: &str, options: &Value) -> Result<AdvantageInstance> {
        let provider = self.find(&self.advantages, PluginKind::Advantage, name)?;
        let object = AdvantageObject(construct(provider, options)?);
        let handle = Handle::new(provider.0.identity.clone(), options, object.capabilities())?;
        Ok(AdvantageInstance::new(handle, object))
    }

    /// A judge with these options.
    ///
    /// # Errors
    /// As [`Registry::editor`].
    pub fn judge(&self, name: &str, options: &Value) -> Result<JudgeInstance> {
        let provider = self.find(&self.judges, PluginKind::Judge, name)?;
        let object = JudgeObject(construct(provider, options)?);
        let handle = Handle::new(provider.0.identity.clone(), options, object.capabilities())?;
        Ok(JudgeInstance::new(handle, object))
    }

    fn find<'a, O>(
        &self,
        providers: &'a Providers<O>,
        kind: PluginKind,
        name: &str,
    ) -> Result<&'a (Listed, EntryAbi<O>)> {
        providers.get(name).ok_or_else(|| {
            let known = providers.keys().map(String::as_str).collect();
            let elsewhere = self
                .list()
                .into_iter()
                .find(|listed| listed.identity.name == name)
                .map(|listed| format!(" ({} is another kind)", listed.identity.id()))
                .unwrap_or_default();
            Error::input(format!(
                "no {kind} plugin is called {name}{elsewhere}; {}",
                options::nearest(name, known)
            ))
            .hint("finegrain plugin list shows all")
        })
    }
}

/// Adds the plugins of one kind that one provider offers.
fn add<O>(
    providers: &mut Providers<O>,
    entries: Vec<EntryAbi<O>>,
    kind: PluginKind,
    source: &Source,
    sha256: Option<&str>,
) -> Result<()> {
    for entry in entries {
        let refused =
            |what: String| Error::plugin(format!("a {kind} plugin of {source} is refused: {what}"));
        let descriptor = entry
            .descriptor()
            .map_err(|error| refused(error.to_string()))?;
        if !is_name(&descriptor.name) {
            return Err(refused(format!(
                "it is called \"{}\", and only lower-case letters, digits and hyphens are accepted",
                descriptor.name
            )));
        }
        let identity = Identity {
            kind,
            name: descriptor.name.clone(),
            version: descriptor.version.clone(),
            source: source.clone(),
            sha256: sha256.map(ToOwned::to_owned),
            sources: match source {
                Source::BuiltIn => builtins::sources(&descriptor.package).map(ToOwned::to_owned),
                Source::Library(_) => None,
            },
        };
        if let Some((other, _)) = providers.get(&descriptor.name) {
            return Err(Error::plugin(format!(
                "two plugins are called {}: one of {} and one of {}",
                identity.id(),
                provider(&other.identity),
                provider(&identity),
            ))
            .hint("rename one of them, or leave one of the libraries out"));
        }
        let listed = Listed {
            identity,
            descriptor,
        };
        providers.insert(listed.identity.name.clone(), (listed, entry));
    }
    Ok(())
}

fn provider(identity: &Identity) -> String {
    match &identity.source {
        Source::BuiltIn => "finegrain itself".to_owned(),
        Source::Library(path) => path.display().to_string(),
    }
}

/// Whether a plugin may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty()
        && name.bytes().all(|byte| lower(byte) || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn construct<O>((listed, entry): &(Listed, EntryAbi<O>), options: &Value) -> Result<O> {
    let identity = &listed.identity;
    let options = options::check(identity, &listed.descriptor, options)?;
    entry
        .construct(&options.to_string())
        .map_err(|error| match error.code {
            ErrorCode::INVALID_OPTIONS | ErrorCode::INVALID_INPUT => {
                Error::input(format!("{identity} refused its options: {}", error.message)).hint(
                    format!("finegrain plugin info {} lists the options", identity.id()),
                )
            }
            _ => Error::plugin(format!("{identity} cannot be made: {}", error.message)),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_name_is_wrong_input_and_the_nearest_is_told() {
        let registry = Registry::built_in().unwrap();
        let error = registry.reward("test-wrnog", &json!({})).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(message.starts_with("no reward plugin is called test-wrnog; nearest: test-wrong"));
        assert_eq!(error.hint_text(), Some("finegrain plugin list shows all"));
    }

    #[test]
    fn a_name_of_another_kind_is_told() {
        let registry = Registry::built_in().unwrap();
        let error = registry.advantage("test-wrong", &Value::Null).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("(editor/test-wrong is another kind)")
        );
    }

    #[test]
    fn ids_and_unambiguous_names_are_found() {
        let registry = Registry::built_in().unwrap();
        let found = registry.by_id("judge/test-wrong").unwrap();
        assert_eq!(found.identity.id(), "judge/test-wrong");
        let error = registry.by_id("test-wrong").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("several plugins: editor/test-wrong, reward/test-wrong")
        );
        assert_eq!(registry.by_id("judges/x").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn two_plugins_of_one_name_are_refused_with_both_providers() {
        let mut registry = Registry::built_in().unwrap();
        let again = Contents::built_in().unwrap();
        let source = Source::Library("/plugins/libcopy.so".into());
        let error = registry.add(again, &source, Some("00")).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(
            error
                .to_string()
                .ends_with(": one of finegrain itself and one of /plugins/libcopy.so")
        );
    }

    #[test]
    fn names_are_lower_case_with_hyphens() {
        assert!(is_name("token-average"));
        for name in ["", "Mine", "-x", "x-", "a b", "a/b", "ä"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
