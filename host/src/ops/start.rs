//! What a result is added to.

/// What the result of an operation is added to. A result that is wanted on top of something else is written once, instead of
/// copied there first and added to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a, T> {
    /// Nothing: it replaces what is there.
    Zero,
    /// What is there.
    Result,
    /// These, which lie as the result does.
    Of(&'a [T]),
}

impl<T> Start<'_, T> {
    /// The same for the part of the result from element `first` on.
    #[must_use]
    pub(crate) fn from(self, first: usize) -> Self {
        match self {
            Self::Of(values) => Self::Of(values.get(first..).unwrap_or_default()),
            same => same,
        }
    }
}
