//! Random numbers as a tree of names: every draw is a function of (seed, path), and there is no state to save.
//!
//! `Stream::new(seed).child("ppo").index(step).index(row).rng()` is the same generator in every process, at every
//! thread count and after every resume. Keys are mixed with SHA-256; the generator is `ChaCha8`.

use rand::SeedableRng;
pub use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A place in the tree of random streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u8; 32],
}

impl Stream {
    /// The root of a run.
    pub fn new(seed: u64) -> Self {
        Self {
            key: digest(&[b"finegrain/seed", &seed.to_le_bytes()]),
        }
    }

    /// The stream below this one with a name.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self {
            key: digest(&[&self.key, b"/name", name.as_bytes()]),
        }
    }

    /// The stream below this one with a number.
    #[must_use]
    pub fn index(&self, index: u64) -> Self {
        Self {
            key: digest(&[&self.key, b"/index", &index.to_le_bytes()]),
        }
    }

    /// A seed derived from this place, for what takes a number.
    pub fn seed(&self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.key[i]))
    }

    /// The generator at this place.
    pub fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.key)
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
