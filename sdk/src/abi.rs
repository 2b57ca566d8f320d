//! What crosses between the host and a plugin: the only `repr(C)` of the project. Authors of plugins need none of it.
//!
//! Each kind has one file with three parts: the trait object that crosses, the adapter that puts an author's type behind
//! it (plugin side), and the object that the host calls with the author's own types (host side).
//!
//! How this may grow without orphaning plugins that are already built:
//! 1. [`root::PluginMod`] and the traits are prefix types; `last_prefix_field` was set in the first release and never moves.
//! 2. A method is appended with a default body; a field of the root module is appended and read as an `Option`.
//! 3. A new kind is a new field of the root module.
//! 4. Codes are numbers, not enums; an unknown number is legal.
//! 5. What is likely to grow (metadata, options, capabilities) crosses as JSON; what is hot crosses as slices.

#![expect(
    unsafe_code,
    non_local_definitions,
    clippy::used_underscore_binding,
    clippy::expl_impl_clone_on_copy,
    reason = "the trait objects that abi_stable's macros write"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "exclusive slices are handed on, as in the author's traits"
)]

pub mod advantage;
pub mod batch;
pub mod context;
pub mod editor;
pub mod entry;
pub mod error;
pub mod guard;
pub mod judge;
mod origin;
pub mod reward;
pub mod root;

pub use abi_stable;

#[cfg(test)]
mod layout;
