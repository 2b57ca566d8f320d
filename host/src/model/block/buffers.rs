//! What a layer needs room for, each buffer with its width in one place: passes take their memory by it, chunks cut it by it, and
//! memory plans count it.
//!
//! Legend as in `block.rs`.

use crate::model::description::{Dimensions, NormPlace};

/// Which tokens a buffer has a row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// All n.
    All,
    /// The m that ask.
    Asking,
}

/// How wide a row of a buffer is; 0 where the family does without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width {
    pub(crate) tokens: Tokens,
    pub(crate) width: usize,
}

impl Width {
    /// Elements for n tokens of which m ask.
    pub(crate) fn len(self, n: usize, m: usize) -> usize {
        match self.tokens {
            Tokens::All => n * self.width,
            Tokens::Asking => m * self.width,
        }
    }
}

/// An adapter's part in one product: its rank, and which tokens it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) rank: usize,
    pub(crate) tokens: Tokens,
}

impl Slot {
    /// How wide A · x is.
    pub(crate) fn width(self) -> Width {
        Width {
            tokens: self.tokens,
            width: self.rank,
        }
    }
}

/// A struct of buffers of one kind, and what is done to all of them.
macro_rules! buffers {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct $name<V> {
            $($(#[$of])* pub(crate) $field: V,)*
        }

        #[allow(dead_code, reason = "not every struct of buffers has a use for all of them")]
        impl<V> $name<V> {
            /// Each turned into something else, where that works.
            pub(crate) fn try_map<U, E>(
                self,
                mut turn: impl FnMut(V) -> Result<U, E>,
            ) -> Result<$name<U>, E> {
                Ok($name { $($field: turn(self.$field)?,)* })
            }

            /// Each turned into something else.
            pub(crate) fn map<U>(self, mut turn: impl FnMut(V) -> U) -> $name<U> {
                $name { $($field: turn(self.$field),)* }
            }

            /// Each, to be changed.
            pub(crate) fn each_mut(&mut self) -> $name<&mut V> {
                $name { $($field: &mut self.$field,)* }
            }

            /// Each with its partner.
            pub(crate) fn zip<U>(self, other: $name<U>) -> $name<(V, U)> {
                $name { $($field: (self.$field, other.$field),)* }
            }
        }

        impl $name<Width> {
            /// Elements of all for n tokens of which m ask.
            pub(crate) fn len(self, n: usize, m: usize) -> usize {
                let mut sum = 0;
                self.map(|width| sum += width.len(n, m));
                sum
            }
        }
    };
}

buffers! {
    /// What a layer's way back needs besides its input x and the log-sums of its attention, (m, H).
    Activations {
        /// After norm and rotation, (m, H·D).
        query,
        /// Keys after norm and rotation, then values, (n, 2·K·D).
        key_value,
        /// Queries before their norm, where there is one, (m, H·D).
        raw_query,
        /// Keys before their norm, where there is one, then values, (n, 2·K·D).
        raw_key_value,
        /// The attention's result, (m, H·D).
        mixed,
        /// What attention adds before its norm, where there is one, (m, C).
        attended,
        /// The residual stream between attention and feed-forward, (m, C).
        middle,
        /// (m, 2·F).
        gate_up,
        /// What the feed-forward block adds before its norm, where there is one, (m, C).
        fed,
    }
}

buffers! {
    /// Room for what the forward pass needs on the way.
    Scratch {
        /// (n, C).
        normed,
        /// The rows of `normed` that ask, and later what is added to the stream, (m, C).
        aside,
        /// (m, F).
        activated,
        /// What adapters need, (n, r).
        low,
    }
}

buffers! {
    /// What a layer's way back leaves for the gradients of its weights. Beside these they are products of activations, of which
    /// `gate_up` has become its own gradient.
    Factors {
        /// act(gate) · up, (m, F).
        activated,
        /// The input of gate and up, (m, C).
        normed_post,
        /// The gradient of the residual stream between attention and feed-forward, (m, C).
        d_middle,
        /// (m, H·D).
        d_query,
        /// (n, 2·K·D).
        d_key_value,
        /// The input of queries, keys and values, (n, C).
        normed,
        /// The rows of `normed` that ask, (m, C); empty where all do.
        chosen,
        /// The gradient of what `W_o` gives, (m, C); empty where it is `d_middle`.
        d_attended,
        /// The gradient of what `W_down` gives, (m, C); empty where it is that of the layer's result.
        d_fed,
    }
}

buffers! {
    /// Room for what the way back needs on the way.
    ScratchBack {
        /// The gradient of a normed input, (n, C).
        grad,
        /// The gradient of the attention's result, (m, H·D).
        d_mixed,
        /// The gradient of the rows of a normed input that ask, (m, C); empty where all do.
        d_chosen,
    }
}

const fn all(width: usize) -> Width {
    Width {
        tokens: Tokens::All,
        width,
    }
}

const fn asking(width: usize) -> Width {
    Width {
        tokens: Tokens::Asking,
        width,
    }
}

/// `width` where it is wanted.
fn when(wanted: bool, width: Width) -> Width {
    Width {
        width: if wanted { width.width } else { 0 },
        ..width
    }
}

impl Activations<Width> {
    pub(crate) fn widths(of: &Dimensions) -> Self {
        let (q, kv) = (of.attention.query_width(), of.attention.key_value_width());
        Self {
            query: asking(q),
            key_value: all(kv),
            raw_query: when(of.has(NormPlace::Query), asking(q)),
            raw_key_value: when(of.has(NormPlace::Key), all(kv)),
            mixed: asking(q),
            attended: when(of.has(NormPlace::Attention), asking(of.channels)),
            middle: asking(of.channels),
            gate_up: asking(2 * of.feed_forward),
            fed: when(of.has(NormPlace::Last), asking(of.channels)),
        }
    }
}

impl Scratch<Width> {
    /// `rank` is the largest of the adapters'.
    pub(crate) fn widths(of: &Dimensions, pruned: bool, rank: usize) -> Self {
        let apart = of.finishes_apart(NormPlace::Attention) || of.finishes_apart(NormPlace::Last);
        Self {
            normed: all(of.channels),
            aside: when(pruned || apart, asking(of.channels)),
            activated: asking(of.feed_forward),
            low: all(rank),
        }
    }
}

impl Factors<Width> {
    pub(crate) fn widths(of: &Dimensions, pruned: bool) -> Self {
        let c = of.channels;
        Self {
            activated: asking(of.feed_forward),
            normed_post: asking(c),
            d_middle: asking(c),
            d_query: asking(of.attention.query_width()),
            d_key_value: all(of.attention.key_value_width()),
            normed: all(c),
            chosen: when(pruned, asking(c)),
            d_attended: when(of.finishes_apart(NormPlace::Attention), asking(c)),
            d_fed: when(of.finishes_apart(NormPlace::Last), asking(c)),
        }
    }
}

impl ScratchBack<Width> {
    pub(crate) fn widths(of: &Dimensions, pruned: bool) -> Self {
        Self {
            grad: all(of.channels),
            d_mixed: asking(of.attention.query_width()),
            d_chosen: when(pruned, asking(of.channels)),
        }
    }
}
