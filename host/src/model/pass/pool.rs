//! Buffers that are used again: a training step asks for the same sizes every time, and fresh memory would be cleared by
//! the system page by page before every use.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers that nobody uses at the moment. Copies of a model share one.
pub(crate) struct Pool<T> {
    free: Mutex<Vec<Vec<T>>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            free: Mutex::new(Vec::new()),
        }
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl<T: Copy + Default> Pool<T> {
    /// `len` elements of any content. The smallest buffer that is large enough; where there is none, a new one takes the
    /// place of the largest of those that are too small, so that growing batches do not pile up buffers.
    pub(crate) fn take(&self, len: usize) -> Pooled<'_, T> {
        // Rounded up by at most an eighth: batches of nearly the same size find each other's buffers.
        let step = (len.next_power_of_two() / 16).max(1024);
        let capacity = len.next_multiple_of(step);
        let mut values = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = free.iter().enumerate().filter(|(_, v)| v.len() >= len);
            let fitting = fitting.min_by_key(|(_, v)| v.len());
            match fitting.map(|(at, found)| (at, found.len())) {
                // A much larger one would be missing where it is needed.
                Some((at, found)) if found <= 2 * capacity => free.swap_remove(at),
                _ => {
                    let smaller = free.iter().enumerate().filter(|(_, v)| v.len() < len);
                    if let Some((at, _)) = smaller.max_by_key(|(_, v)| v.len()) {
                        free.swap_remove(at);
                    }
                    Vec::new()
                }
            }
        };
        if values.is_empty() && capacity > 0 {
            values = vec![T::default(); capacity];
        }
        Pooled {
            pool: self,
            values,
            len,
        }
    }
}

/// A buffer on loan; dropping it gives it back.
pub(crate) struct Pooled<'p, T> {
    pool: &'p Pool<T>,
    values: Vec<T>,
    len: usize,
}

impl<T> Deref for Pooled<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T> DerefMut for Pooled<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

impl<T> Drop for Pooled<'_, T> {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut free = self
            .pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        free.push(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_and_growing_sizes_do_not_pile_up() {
        let pool = Pool::<f32>::default();
        let first = pool.take(5000).as_ptr();
        assert_eq!(pool.take(4990).as_ptr(), first, "nearly the same size");
        for len in (5000..50_000).step_by(3000) {
            assert_eq!(pool.take(len).len(), len);
        }
        let free = pool.free.lock().unwrap();
        assert_eq!(free.len(), 1);
    }

    #[test]
    fn buffers_in_use_are_apart() {
        let pool = Pool::<f32>::default();
        let (mut a, mut b) = (pool.take(3), pool.take(3));
        a.fill(1.0);
        b.fill(2.0);
        assert_eq!((a[0], b[0]), (1.0, 2.0));
        assert!(pool.take(0).is_empty());
    }
}
