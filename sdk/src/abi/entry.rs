//! One plugin of a library: its description as JSON, and the function that makes an instance.

use std::mem::ManuallyDrop;

use abi_stable::StableAbi;
use abi_stable::std_types::{RStr, RString};

use crate::abi::error::{ResultAbi, received};
use crate::abi::guard::guard;
use crate::descriptor::Descriptor;
use crate::error::{Error, Result};

/// One plugin; `O` is the trait object of its kind.
#[repr(C)]
#[derive(StableAbi)]
pub struct EntryAbi<O> {
    /// A [`Descriptor`] as JSON.
    descriptor: RString,
    /// Makes an instance from options as JSON.
    construct: extern "C" fn(options: RStr<'_>) -> ResultAbi<O>,
}

impl<O> EntryAbi<O> {
    /// An entry from its parts.
    pub(crate) fn new(
        descriptor: &Descriptor,
        construct: extern "C" fn(options: RStr<'_>) -> ResultAbi<O>,
    ) -> Result<Self> {
        let descriptor = serde_json::to_string(descriptor)
            .map_err(|error| Error::plugin(format!("its description is no JSON: {error}")))?;
        Ok(Self {
            descriptor: descriptor.into(),
            construct,
        })
    }

    /// Host side: the description.
    ///
    /// # Errors
    /// A description that does not parse.
    pub fn descriptor(&self) -> Result<Descriptor> {
        serde_json::from_str(&self.descriptor)
            .map_err(|error| Error::plugin(format!("its description does not parse: {error}")))
    }

    /// Host side: an instance with these options (a JSON object).
    ///
    /// # Errors
    /// What the plugin says about the options, and a panic.
    pub fn construct(&self, options: &str) -> Result<O> {
        received((self.construct)(options.into()))
    }
}

/// Plugin side: an author's instance. Its destructor runs under the guard, for a panic in it would end the process.
pub(crate) struct Instance<T>(ManuallyDrop<T>);

impl<T> Instance<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T> std::ops::Deref for Instance<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Instance<T> {
    fn drop(&mut self) {
        let _ = guard(|| {
            // SAFETY: this is the only place that drops the value, and it runs once.
            unsafe {
                ManuallyDrop::drop(&mut self.0);
            }
            Ok(())
        });
    }
}
