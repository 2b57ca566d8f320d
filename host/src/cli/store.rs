//! Arguments of `finegrain store`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo};

use super::DEFAULT_STORE;

/// `finegrain store`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List the artifacts, oldest first: size, age, the seconds it took, and which runs use it.
    #[command(after_help = "Examples:\n  finegrain store list\n  finegrain store list --json")]
    List(StoreArgs),
    /// Show an artifact: what determined it, what it was made from, its files.
    #[command(
        after_help = "Examples:\n  finegrain store show 3f9a\n  finegrain store show sft/3f --json"
    )]
    Show {
        /// The beginning of the artifact's hash, with or without its stage in front (sft/3f9a).
        hash: String,
        /// Shared flags.
        #[command(flatten)]
        args: StoreArgs,
    },
    /// Read every file of artifacts and compare its hash; exit code 1 where one is damaged.
    #[command(
        after_help = "Examples:\n  finegrain store verify\n  finegrain store verify 3f9a ppo/0 --set-aside"
    )]
    Verify {
        /// The beginnings of hashes; all artifacts where absent.
        hashes: Vec<String>,
        /// Set damaged artifacts aside, so that their stages are computed again.
        #[arg(long)]
        set_aside: bool,
        /// Shared flags.
        #[command(flatten)]
        args: StoreArgs,
    },
    /// Remove artifacts that no existing run directory uses, damaged ones, and what killed processes left.
    #[command(
        after_help = "Examples:\n  finegrain store gc --dry-run\n  finegrain store gc --older-than 7d"
    )]
    Gc {
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// Remove nothing younger than this: 7d, 12h, 2w, "1d 12h".
        #[arg(long, value_name = "AGE", value_parser = age)]
        older_than: Option<Duration>,
        /// The store.
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
        store: PathBuf,
    },
}

/// What the verbs of the store share.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The store.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
    pub store: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A length of time such as `7d` or `1d 12h`; a day has 24 hours.
fn age(text: &str) -> Result<Duration, String> {
    let accepted =
        "accepted: weeks, days, hours, minutes and seconds, such as 7d, 12h or \"1d 12h\"";
    let span: Span = text
        .parse()
        .map_err(|error| format!("{error}; {accepted}"))?;
    let length = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|error| format!("{error}; {accepted}"))?;
    Duration::try_from(length).map_err(|_| format!("an age is not negative; {accepted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_lengths_of_time_that_are_not_negative() {
        for (text, seconds) in [
            ("7d", 604_800),
            ("12h", 43_200),
            ("2w", 1_209_600),
            ("1d 12h", 129_600),
            ("90s", 90),
            ("0s", 0),
        ] {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "7", "7 parsecs", "-1d", "1mo"] {
            let error = age(text).unwrap_err();
            assert!(error.contains("accepted: weeks, days"), "{text}: {error}");
        }
    }
}
