//! `register!` and `export_plugin!`: how a type becomes a plugin, whether its crate is linked in or loaded.
//!
//! `register!` puts the type into a list that the linker collects, one list per binary: the host's own list holds the
//! built-in plugins, a shared library's list holds what that library offers. `export_plugin!` makes the library loadable:
//! a header under a symbol of the crate's own name, and a stamp that the host reads before it runs any code of the library.

use crate::abi::advantage::AdvantageBox;
use crate::abi::editor::EditorBox;
use crate::abi::entry::EntryAbi;
use crate::abi::judge::JudgeBox;
use crate::abi::reward::RewardBox;
use crate::abi::{advantage, editor, judge, reward};
use crate::descriptor::Descriptor;
use crate::error::Result;
use crate::kinds::{AdvantageEstimator, Editor, Judge, RewardScheme};

/// First line of a stamp: what it is, and the version of its format.
pub const STAMP_MAGIC: &str = "finegrain-plugin 1";

/// Name of the ELF section that holds the stamp.
pub const STAMP_SECTION: &str = ".finegrain.plugin";

/// The crate that registers a plugin.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// `CARGO_PKG_NAME`.
    pub name: &'static str,
    /// `CARGO_PKG_VERSION`.
    pub version: &'static str,
}

/// Makes the entry of one kind.
pub(crate) type MakeEntry<O> = fn(&Package) -> Result<EntryAbi<O>>;

/// A registered plugin's kind, and the function that makes its entry.
#[derive(Clone, Copy)]
pub(crate) enum Make {
    Editor(MakeEntry<EditorBox>),
    Reward(MakeEntry<RewardBox>),
    Advantage(MakeEntry<AdvantageBox>),
    Judge(MakeEntry<JudgeBox>),
}

/// A line of [`register!`](crate::register).
pub struct Registration {
    pub(crate) package: Package,
    pub(crate) make: Make,
}

inventory::collect!(Registration);

impl Registration {
    /// An editor.
    pub const fn editor<T: Editor>(package: Package) -> Self {
        let make = Make::Editor(|package| editor::entry::<T>(&Descriptor::of::<T>(package)?));
        Self { package, make }
    }

    /// A reward scheme.
    pub const fn reward<T: RewardScheme>(package: Package) -> Self {
        let make = Make::Reward(|package| reward::entry::<T>(&Descriptor::of::<T>(package)?));
        Self { package, make }
    }

    /// An advantage estimator.
    pub const fn advantage<T: AdvantageEstimator>(package: Package) -> Self {
        let make = Make::Advantage(|package| advantage::entry::<T>(&Descriptor::of::<T>(package)?));
        Self { package, make }
    }

    /// A judge.
    pub const fn judge<T: Judge>(package: Package) -> Self {
        let make = Make::Judge(|package| judge::entry::<T>(&Descriptor::of::<T>(package)?));
        Self { package, make }
    }
}

/// Registers a type as a plugin: `register!(RewardScheme, MyScheme);`, once per type. The kind is the name of its trait:
/// `Editor`, `RewardScheme`, `AdvantageEstimator` or `Judge`.
#[macro_export]
macro_rules! register {
    (Editor, $plugin:ty) => {
        $crate::register!(@submit editor, $plugin);
    };
    (RewardScheme, $plugin:ty) => {
        $crate::register!(@submit reward, $plugin);
    };
    (AdvantageEstimator, $plugin:ty) => {
        $crate::register!(@submit advantage, $plugin);
    };
    (Judge, $plugin:ty) => {
        $crate::register!(@submit judge, $plugin);
    };
    (@submit $kind:ident, $plugin:ty) => {
        $crate::inventory::submit! {
            $crate::export::Registration::$kind::<$plugin>($crate::export::Package {
                name: ::core::env!("CARGO_PKG_NAME"),
                version: ::core::env!("CARGO_PKG_VERSION"),
            })
        }
    };
}

/// Makes the crate loadable as a shared library: one `export_plugin!();` a crate, however many plugins it registers.
///
/// The crate's `Cargo.toml` says `crate-type = ["cdylib"]`, or `["cdylib", "rlib"]` where it is linked in as well.
#[macro_export]
macro_rules! export_plugin {
    () => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin is built with panic = \"unwind\": with \"abort\", its first panic would end the host's process"
        );

        const _: () = {
            extern "C" fn root() -> $crate::abi::abi_stable::library::RootModuleResult {
                $crate::abi::abi_stable::library::__call_root_module_loader(
                    $crate::abi::root::root_module,
                )
            }

            // The crate's name is part of the symbol: several plugin crates may be linked into one binary.
            #[unsafe(export_name = ::core::concat!("finegrain_plugin_v1__", ::core::env!("CARGO_CRATE_NAME")))]
            static HEADER: $crate::abi::abi_stable::library::LibHeader = unsafe {
                $crate::abi::abi_stable::library::LibHeader::from_constructor::<
                    $crate::abi::root::PluginModRef,
                >(root, $crate::abi::abi_stable::library::CheckTypeLayout::Yes)
            };

            const STAMP: &[&str] = &[
                $crate::export::STAMP_MAGIC,
                "\nentry=finegrain_plugin_v1__",
                ::core::env!("CARGO_CRATE_NAME"),
                "\nversion=",
                ::core::env!("CARGO_PKG_VERSION"),
                "\nsdk=",
                $crate::VERSION,
                "\n\0",
            ];

            #[used]
            #[unsafe(link_section = ".finegrain.plugin")]
            static STAMP_BYTES: [u8; $crate::export::joined_len(STAMP)] =
                $crate::export::joined(STAMP);
        };
    };
}

/// How many bytes [`joined`] has.
#[doc(hidden)]
pub const fn joined_len(parts: &[&str]) -> usize {
    let mut len = 0;
    let mut part = 0;
    while part < parts.len() {
        len += parts[part].len();
        part += 1;
    }
    len
}

/// The parts one after the other, as constants can be joined.
#[doc(hidden)]
pub const fn joined<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut bytes = [0; N];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        let text = parts[part].as_bytes();
        let mut i = 0;
        while i < text.len() {
            bytes[at] = text[i];
            (at, i) = (at + 1, i + 1);
        }
        part += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_in_order() {
        const PARTS: &[&str] = &["ab", "", "c\n"];
        const JOINED: [u8; joined_len(PARTS)] = joined(PARTS);
        assert_eq!(&JOINED, b"abc\n");
    }
}
