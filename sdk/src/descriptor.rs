//! The description of a registered plugin, as the host reads it.

use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::export::Package;
use crate::info::PluginInfo;
use crate::kinds::Plugin;
use crate::options;

/// Everything about a plugin that can be known without making an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The name that a configuration uses, unique within a kind.
    pub name: String,
    /// The crate that registered it.
    pub package: String,
    /// The crate's version.
    pub version: String,
    /// Version of the SDK that it was built with.
    pub sdk: String,
    /// Summary, papers, capabilities, examples.
    pub info: PluginInfo,
    /// JSON schema of the options, without references.
    pub options_schema: Value,
    /// The options as they are where the configuration says nothing.
    pub options_defaults: Value,
}

impl Descriptor {
    /// The description of `T`, registered by `package`.
    pub(crate) fn of<T: Plugin>(package: &Package) -> Result<Self> {
        // Inlined, so that whoever reads the schema finds each option's type at its place.
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        Ok(Self {
            name: T::NAME.to_owned(),
            package: package.name.to_owned(),
            version: package.version.to_owned(),
            sdk: crate::VERSION.to_owned(),
            info: T::info(),
            options_schema: settings
                .into_generator()
                .into_root_schema_for::<T::Options>()
                .to_value(),
            options_defaults: options::defaults::<T::Options>()?,
        })
    }
}
