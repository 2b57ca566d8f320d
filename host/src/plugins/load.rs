//! Opens a library that passed the checks, and compares its types with the host's before it calls anything.
//!
//! Libraries are never unloaded: `abi_stable` keeps references into them, and destructors of thread-locals run at any time.

#![expect(
    unsafe_code,
    reason = "the loader: dlopen, and the cast after the layout check"
)]

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use finegrain_sdk::abi::abi_stable::StableAbi;
use finegrain_sdk::abi::abi_stable::abi_stability::abi_checking::{
    AbiInstabilityErrors, check_layout_compatibility,
};
use finegrain_sdk::abi::abi_stable::library::{AbiHeaderRef, LibHeader};
use finegrain_sdk::abi::abi_stable::type_layout::TypeLayout;
use finegrain_sdk::abi::root::PluginModRef;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::error::{Error, Result, said_by_loader};
use crate::plugins::stamp::{Stamp, rebuild};
use crate::plugins::trust::{TrustedFile, refused};

/// The libraries of this process by their hash: the same bytes are opened once.
static LOADED: Mutex<BTreeMap<String, PluginModRef>> = Mutex::new(BTreeMap::new());

/// The root module of a library.
///
/// # Errors
/// A library that the system does not open, or whose types are laid out differently from the host's.
pub(super) fn load(file: &TrustedFile, stamps: &[Stamp]) -> Result<PluginModRef> {
    // A panic while loading leaves at worst a library that is not in the map.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = loaded.get(&file.sha256) {
        return Ok(*module);
    }
    let header = open(file, stamps)?;
    let theirs = header
        .layout()
        .ok_or_else(|| refused(&file.path, "it does not describe its types").hint(rebuild()))?;
    check_layout(theirs).map_err(|difference| {
        let built_with = &stamps[0].sdk;
        refused(
            &file.path,
            &format!(
                "built with finegrain-sdk {built_with}, its types differ from those of this finegrain (finegrain-sdk {}): {difference}",
                finegrain_sdk::VERSION
            ),
        )
        .hint(rebuild())
    })?;
    // SAFETY: the layout of the library's root module was compared with that of `PluginModRef` just above.
    let module = unsafe { header.unchecked_layout::<PluginModRef>() }
        .map_err(|error| refused(&file.path, &format!("it does not start: {error}")))?;
    loaded.insert(file.sha256.clone(), module);
    Ok(module)
}

fn open(file: &TrustedFile, stamps: &[Stamp]) -> Result<&'static LibHeader> {
    let memory = file.seal()?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    // The loader takes two libraries of the same path for one, so the descriptor's number must never be used again.
    std::mem::forget(memory);
    // SAFETY: opening runs the library's constructors. The file was checked and its stamp says that it is a plugin; beyond
    // that the user who names a plugin trusts its code with everything that this process may do.
    let library =
        unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
            let said = said_by_loader(&error);
            refused(&file.path, &format!("it does not open: {said}"))
        })?;
    let library: &'static Library = Box::leak(Box::new(library));
    let header = stamps
        .iter()
        .find_map(|stamp| {
            // SAFETY: `export_plugin!` is what writes a stamp, and the symbol that the stamp names is a `LibHeader`, which
            // begins with the `AbiHeader` that the reference points to.
            unsafe { library.get::<AbiHeaderRef>(stamp.entry.as_bytes()) }.ok()
        })
        .ok_or_else(|| {
            let entry = &stamps[0].entry;
            refused(
                &file.path,
                &format!("it has no symbol {entry}, which its stamp names"),
            )
            .hint("do not strip dynamic symbols (strip --strip-unneeded keeps them)")
        })?;
    header.upgrade().map_err(|_| {
        refused(
            &file.path,
            "it was built with another version of abi_stable",
        )
        .hint(rebuild())
    })
}

/// Accepts an older and a newer plugin: the check allows appended methods and fields on one side only.
fn check_layout(theirs: &'static TypeLayout) -> Result<(), String> {
    let ours = <PluginModRef as StableAbi>::LAYOUT;
    match check_layout_compatibility(ours, theirs) {
        Ok(()) => Ok(()),
        Err(errors) => {
            check_layout_compatibility(theirs, ours).map_err(|_| first_difference(&errors))
        }
    }
}

/// The deepest field that differs. The full text of the errors runs to hundreds of lines.
fn first_difference(errors: &AbiInstabilityErrors) -> String {
    let deepest = errors
        .errors
        .iter()
        .filter(|error| !error.errs.is_empty())
        .max_by_key(|error| error.stack_trace.len());
    let Some(error) = deepest else {
        return "in a way that the check does not name".to_owned();
    };
    // The type of a place has no public name; its text has one line per property.
    let property = |place: &dyn Display, key: &str| -> Option<String> {
        let text = place.to_string();
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.map(ToOwned::to_owned)
    };
    let path: Vec<String> = error
        .stack_trace
        .iter()
        .filter_map(|place| property(&place.expected, "field_name:"))
        .filter(|name| !is_wrapping(name))
        .collect();
    let mut text = path.join(".");
    if let Some(place) = error.stack_trace.last() {
        let ours = property(&place.expected, "type:");
        let theirs = property(&place.found, "type:");
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            let _ = write!(text, " is {theirs} there and {ours} here");
        }
    }
    text
}

/// Whether a step on the way to a field is `abi_stable`'s own and says nothing to a reader.
fn is_wrapping(field: &str) -> bool {
    let own = ["__returns", "buffer", "obj", "vtable"];
    own.contains(&field) || field.starts_with("field_") || field.parse::<u32>().is_ok()
}

/// What a library that loads says about itself does not reach the host.
pub(super) fn unreadable(file: &TrustedFile, error: &finegrain_sdk::Error) -> Error {
    refused(
        &file.path,
        &format!("it cannot say what it offers: {error}"),
    )
    .hint("this is a defect of the plugin; tell its author")
}
