//! Buffers that are used again: a training step asks for the same sizes every time, and fresh memory would be cleared by
//! the system page by page before every use.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Free memory is kept up to this share of the most that was ever in use at once.
const SPARE: f64 = 0.5;

/// Buffers that are lent out again and again. Copies of a model share one pool.
pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Buffers that nobody uses, the one that was given back last at the end.
    free: Vec<Vec<T>>,
    /// Elements of `free`.
    free_len: usize,
    /// Elements on loan, and the most that ever were.
    lent: usize,
    most_lent: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                free: Vec::new(),
                free_len: 0,
                lent: 0,
                most_lent: 0,
            }),
        }
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl<T: Copy + Default> Pool<T> {
    /// `len` elements of any content: the smallest free buffer that holds them and is not twice as large, or a new one.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Pooled<T> {
        let values = if len == 0 {
            Vec::new()
        } else {
            let found = self.lock().take(len);
            found.unwrap_or_else(|| vec![T::default(); rounded(len)])
        };
        Pooled {
            pool: self.clone(),
            values,
            len,
        }
    }
}

impl<T> Pool<T> {
    /// The most elements that were on loan at once.
    #[cfg(test)]
    pub(crate) fn most_lent(&self) -> usize {
        self.lock().most_lent
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up by at most a quarter, so that batches of nearly the same size find each other's buffers.
fn rounded(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 8).max(256))
}

impl<T> State<T> {
    /// A free buffer for `len` elements; where there is none, makes room for a new one.
    fn take(&mut self, len: usize) -> Option<Vec<T>> {
        let rounded = rounded(len);
        let fits = |values: &Vec<T>| (len..2 * rounded).contains(&values.len());
        let fitting = self.free.iter().enumerate().filter(|(_, v)| fits(v));
        let found = fitting.min_by_key(|(_, v)| v.len()).map(|(at, _)| at);
        let found = found.map(|at| self.free.remove(at));
        self.free_len -= found.as_ref().map_or(0, Vec::len);
        self.lent += found.as_ref().map_or(rounded, Vec::len);
        self.most_lent = self.most_lent.max(self.lent);
        if found.is_none() {
            let spare = (SPARE * self.most_lent as f64) as usize;
            while self.free_len > 0 && self.free_len + self.lent > self.most_lent + spare {
                self.free_len -= self.free.remove(0).len();
            }
        }
        found
    }

    fn give_back(&mut self, values: Vec<T>) {
        self.lent -= values.len();
        self.free_len += values.len();
        self.free.push(values);
    }
}

/// A buffer on loan; dropping it gives it back.
pub(crate) struct Pooled<T> {
    pool: Arc<Pool<T>>,
    values: Vec<T>,
    len: usize,
}

impl<T> Deref for Pooled<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        if !self.values.is_empty() {
            let values = std::mem::take(&mut self.values);
            self.pool.lock().give_back(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_finds_the_buffers_of_the_step_before() {
        let pool = Arc::<Pool<f32>>::default();
        let step = |factor: usize| {
            let long: Vec<_> = (0..3).map(|_| pool.take(9000 * factor)).collect();
            let short: Vec<_> = (0..5).map(|_| pool.take(700 * factor)).collect();
            let places = long.iter().chain(&short).map(|b| b.as_ptr());
            places.collect::<std::collections::BTreeSet<_>>()
        };
        let first = step(1);
        assert_eq!(first.len(), 8);
        assert_eq!(step(1), first);
    }

    #[test]
    fn changing_sizes_do_not_pile_up() {
        let pool = Arc::<Pool<f32>>::default();
        for round in 0..40 {
            let len = 5000 + 7919 * round % 60_000;
            assert_eq!(pool.take(len).len(), len);
        }
        let state = pool.lock();
        assert_eq!(state.lent, 0);
        assert_eq!(
            state.free_len,
            state.free.iter().map(Vec::len).sum::<usize>()
        );
        assert!(state.free_len <= state.most_lent + state.most_lent / 2);
    }

    #[test]
    fn buffers_in_use_are_apart() {
        let pool = Arc::<Pool<f32>>::default();
        let (mut a, mut b) = (pool.take(3), pool.take(3));
        a.fill(1.0);
        b.fill(2.0);
        assert_eq!((a[0], b[0]), (1.0, 2.0));
        assert!(pool.take(0).is_empty());
    }
}
