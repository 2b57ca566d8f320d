//! The root module of a plugin library: one function per kind.

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::RVec;

use crate::abi::advantage::AdvantageBox;
use crate::abi::editor::EditorBox;
use crate::abi::entry::EntryAbi;
use crate::abi::error::{ResultAbi, received};
use crate::abi::guard::guarded;
use crate::abi::judge::JudgeBox;
use crate::abi::reward::RewardBox;
use crate::error::Result;
use crate::export::{Make, Registration};

/// The entries of one kind.
type Entries<O> = extern "C" fn() -> ResultAbi<RVec<EntryAbi<O>>>;

/// What a library offers. A new kind is a new field below the last one, read as an `Option`.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModRef, prefix_fields = PluginModFields)))]
pub struct PluginMod {
    /// Its editors.
    pub editors: extern "C" fn() -> ResultAbi<RVec<EntryAbi<EditorBox>>>,
    /// Its reward schemes.
    pub rewards: extern "C" fn() -> ResultAbi<RVec<EntryAbi<RewardBox>>>,
    /// Its advantage estimators.
    pub advantages: extern "C" fn() -> ResultAbi<RVec<EntryAbi<AdvantageBox>>>,
    /// Its judges.
    #[sabi(last_prefix_field)]
    pub judges: extern "C" fn() -> ResultAbi<RVec<EntryAbi<JudgeBox>>>,
}

impl RootModule for PluginModRef {
    abi_stable::declare_root_module_statics! {PluginModRef}
    const BASE_NAME: &'static str = "finegrain_plugin";
    const NAME: &'static str = "finegrain_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// The root module over everything that this binary or library registered.
pub fn root_module() -> PluginModRef {
    PluginMod {
        editors,
        rewards,
        advantages,
        judges,
    }
    .leak_into_prefix()
}

fn collect<O>(
    one: impl Fn(&Registration) -> Option<Result<EntryAbi<O>>>,
) -> ResultAbi<RVec<EntryAbi<O>>> {
    guarded(|| {
        inventory::iter::<Registration>
            .into_iter()
            .filter_map(one)
            .collect()
    })
}

extern "C" fn editors() -> ResultAbi<RVec<EntryAbi<EditorBox>>> {
    collect(|registration| match registration.make {
        Make::Editor(make) => Some(make(&registration.package)),
        _ => None,
    })
}

extern "C" fn rewards() -> ResultAbi<RVec<EntryAbi<RewardBox>>> {
    collect(|registration| match registration.make {
        Make::Reward(make) => Some(make(&registration.package)),
        _ => None,
    })
}

extern "C" fn advantages() -> ResultAbi<RVec<EntryAbi<AdvantageBox>>> {
    collect(|registration| match registration.make {
        Make::Advantage(make) => Some(make(&registration.package)),
        _ => None,
    })
}

extern "C" fn judges() -> ResultAbi<RVec<EntryAbi<JudgeBox>>> {
    collect(|registration| match registration.make {
        Make::Judge(make) => Some(make(&registration.package)),
        _ => None,
    })
}

/// Host side: the plugins of one library.
pub struct Contents {
    /// Its editors.
    pub editors: Vec<EntryAbi<EditorBox>>,
    /// Its reward schemes.
    pub rewards: Vec<EntryAbi<RewardBox>>,
    /// Its advantage estimators.
    pub advantages: Vec<EntryAbi<AdvantageBox>>,
    /// Its judges.
    pub judges: Vec<EntryAbi<JudgeBox>>,
}

impl Contents {
    /// Asks a library what it offers.
    ///
    /// # Errors
    /// A plugin whose description panics or is no JSON.
    pub fn read(module: PluginModRef) -> Result<Self> {
        fn entries<O>(of_kind: Entries<O>) -> Result<Vec<EntryAbi<O>>> {
            Ok(received(of_kind())?.into_vec())
        }
        Ok(Self {
            editors: entries(module.editors())?,
            rewards: entries(module.rewards())?,
            advantages: entries(module.advantages())?,
            judges: entries(module.judges())?,
        })
    }

    /// The plugins that are linked into this binary, through the same functions.
    ///
    /// # Errors
    /// As [`Contents::read`].
    pub fn built_in() -> Result<Self> {
        Self::read(root_module())
    }
}
