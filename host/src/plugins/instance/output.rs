//! Output buffers: filled with one certain NaN before a call, so that an element the plugin forgot is told from one that it
//! wrote.

use finegrain_sdk::CallContext;

use crate::error::Result;
use crate::plugins::instance::Handle;

/// A quiet NaN that no arithmetic produces.
const UNWRITTEN: u32 = 0x7fc0_fe1d;

/// A buffer of `len` elements for a plugin to fill.
pub(super) fn unwritten(len: usize) -> Vec<f32> {
    vec![f32::from_bits(UNWRITTEN); len]
}

/// Refuses an output with an element that was left unwritten or is not finite. `offsets` says which elements are of which
/// row; without it an element is a row.
pub(super) fn check(
    handle: &Handle,
    context: &CallContext<'_>,
    what: &str,
    output: &[f32],
    offsets: Option<&[u64]>,
) -> Result<()> {
    let Some(at) = output.iter().position(|value| !value.is_finite()) else {
        return Ok(());
    };
    let (row, element) = match offsets {
        None => (at, String::new()),
        Some(offsets) => {
            let row = offsets.partition_point(|&offset| offset <= at as u64) - 1;
            (row, format!(" of token {}", at as u64 - offsets[row]))
        }
    };
    let fault = if output[at].to_bits() == UNWRITTEN {
        format!("{what}{element} was left unwritten")
    } else {
        format!(
            "{what}{element} is {}, and only finite numbers are accepted",
            output[at]
        )
    };
    Err(handle.broken(context, Some(row), &fault))
}
