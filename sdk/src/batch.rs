//! Ragged batches: flat `values` and `offsets`, checked once, then safe rows.
//!
//! Row `i` is `values[offsets[i]..offsets[i + 1]]`. There is no padding and so no mask.

use crate::error::{Error, Result};

/// A borrowed ragged batch of `T`. Offsets are checked when it is made, so that [`Ragged::row`] cannot fail on a row
/// below [`Ragged::rows`].
#[derive(Clone, Copy, Debug)]
pub struct Ragged<'a, T> {
    values: &'a [T],
    offsets: &'a [u64],
}

/// Refuses offsets that are not `0 = o₀ ≤ o₁ ≤ … ≤ oₙ = len`.
fn check_offsets(offsets: &[u64], len: usize) -> Result<()> {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return Err(Error::input(
            "offsets are empty; a batch of no rows has the offsets [0]",
        ));
    };
    if first != 0 {
        return Err(Error::input(format!("offsets start at {first}, not at 0")));
    }
    if let Some(row) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
        return Err(Error::input(format!(
            "offsets fall from {} to {}",
            offsets[row],
            offsets[row + 1]
        ))
        .at_row(row));
    }
    if last != len as u64 {
        return Err(Error::input(format!(
            "offsets end at {last}, but there are {len} values"
        )));
    }
    Ok(())
}

impl<'a, T> Ragged<'a, T> {
    /// A batch over `values` (flat) and `offsets` (rows + 1).
    ///
    /// # Errors
    /// Offsets that do not start at 0, that fall, or that do not end at `values.len()`.
    pub fn new(values: &'a [T], offsets: &'a [u64]) -> Result<Self> {
        check_offsets(offsets, values.len())?;
        Ok(Self { values, offsets })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Row `i`. Panics where `i` is not below [`Ragged::rows`].
    pub fn row(&self, i: usize) -> &'a [T] {
        &self.values[self.range(i)]
    }

    /// Where row `i` lies in [`Ragged::values`].
    pub fn range(&self, i: usize) -> std::ops::Range<usize> {
        self.offsets[i] as usize..self.offsets[i + 1] as usize
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let (values, offsets) = (self.values, self.offsets);
        offsets
            .windows(2)
            .map(move |pair| &values[pair[0] as usize..pair[1] as usize])
    }

    /// All values, row after row.
    pub fn values(&self) -> &'a [T] {
        self.values
    }

    /// The offsets, rows + 1 of them.
    pub fn offsets(&self) -> &'a [u64] {
        self.offsets
    }
}

/// A borrowed batch of texts: UTF-8 bytes and offsets.
#[derive(Clone, Copy, Debug)]
pub struct TextBatch<'a> {
    text: &'a str,
    offsets: &'a [u64],
}

impl<'a> TextBatch<'a> {
    /// A batch over concatenated texts and their offsets in bytes.
    ///
    /// # Errors
    /// Offsets as in [`Ragged::new`], bytes that are not UTF-8, or an offset inside a character.
    pub fn new(bytes: &'a [u8], offsets: &'a [u64]) -> Result<Self> {
        check_offsets(offsets, bytes.len())?;
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Error::input(format!("texts are not UTF-8: {error}")))?;
        if let Some(row) = offsets
            .iter()
            .position(|&at| !text.is_char_boundary(at as usize))
        {
            return Err(Error::input("an offset lies inside a character").at_row(row));
        }
        Ok(Self { text, offsets })
    }

    /// How many texts.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Text `i`. Panics where `i` is not below [`TextBatch::rows`].
    pub fn row(&self, i: usize) -> &'a str {
        &self.text[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }

    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (text, offsets) = (self.text, self.offsets);
        offsets
            .windows(2)
            .map(move |pair| &text[pair[0] as usize..pair[1] as usize])
    }

    /// All texts, one after the other, as bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The offsets in bytes, rows + 1 of them.
    pub fn offsets(&self) -> &'a [u64] {
        self.offsets
    }
}
