//! Where a GPU's time goes: every operation that is queued between two events, their times added up by the operation's name.
//!
//! An event's time is when the GPU reaches it. So an operation's time includes what the GPU waits for it where the queue is
//! empty, which is the case where queueing takes longer than computing; the sum of all is then the host's time, not the GPU's.
#![allow(
    unsafe_code,
    reason = "events of the CUDA driver; every call has its safety comment"
)]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::{DriverError, result::event, sys};

use super::OperationTime;
use super::gpu::{Gpu, of_driver};
use crate::error::Result;

/// Operations that were queued while somebody wanted to know their times.
#[derive(Default)]
pub(super) struct Profile(Mutex<Option<Vec<Timed>>>);

struct Timed {
    name: String,
    flops: Option<f64>,
    start: sys::CUevent,
    end: sys::CUevent,
}

// SAFETY: events are handles that the driver takes from any thread.
unsafe impl Send for Timed {}

impl Drop for Timed {
    fn drop(&mut self) {
        for event in [self.start, self.end] {
            // SAFETY: it was made by `marked` and is destroyed once.
            let _ = unsafe { event::destroy(event) };
        }
    }
}

impl Gpu {
    /// Times every operation from now on.
    ///
    /// # Errors
    /// Work before it that failed.
    pub fn start_profile(&self) -> Result<()> {
        self.synchronize()?;
        *self.lock_profile() = Some(Vec::new());
        Ok(())
    }

    /// What was timed since [`Gpu::start_profile`], by name, the longest first; nothing is timed any more.
    ///
    /// # Errors
    /// Work that failed.
    pub fn take_profile(&self) -> Result<Vec<OperationTime>> {
        self.synchronize()?;
        let timed = self.lock_profile().take().unwrap_or_default();
        let mut by_name: HashMap<&str, OperationTime> = HashMap::new();
        for operation in &timed {
            // SAFETY: both were recorded on one stream, which has been waited for, and live until `timed` is dropped.
            let milliseconds = unsafe { event::elapsed(operation.start, operation.end) }
                .map_err(|error| of_driver("read the time of an operation", error))?;
            let name = operation.name.as_str();
            let sum = by_name.entry(name).or_insert_with(|| OperationTime {
                name: name.to_owned(),
                count: 0,
                seconds: 0.0,
                flops: None,
            });
            sum.count += 1;
            sum.seconds += f64::from(milliseconds) / 1e3;
            if let Some(flops) = operation.flops {
                *sum.flops.get_or_insert(0.0) += flops;
            }
        }
        let mut sums: Vec<_> = by_name.into_values().collect();
        sums.sort_by(|a, b| {
            let by_time = b.seconds.total_cmp(&a.seconds);
            by_time.then_with(|| a.name.cmp(&b.name))
        });
        Ok(sums)
    }

    /// Queues an operation by `work`, between two events where times are wanted: `what` has its name and, of a product, its
    /// floating-point operations. What is recorded in a graph is not timed by itself.
    pub(super) fn timed(
        &self,
        what: impl FnOnce() -> (String, Option<f64>),
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if Self::records() || self.lock_profile().is_none() {
            return work();
        }
        let failed = |error| of_driver("time an operation", error);
        let start = self.marked().map_err(failed)?;
        let done = work();
        let end = self.marked().map_err(failed)?;
        let (name, flops) = what();
        if let Some(timed) = &mut *self.lock_profile() {
            timed.push(Timed {
                name,
                flops,
                start,
                end,
            });
        }
        done
    }

    /// An event, queued.
    fn marked(&self) -> Result<sys::CUevent, DriverError> {
        let event = event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)?;
        // SAFETY: event and stream are live.
        unsafe { event::record(event, self.queue().cu_stream()) }.map(|()| event)
    }

    fn lock_profile(&self) -> std::sync::MutexGuard<'_, Option<Vec<Timed>>> {
        let Profile(timed) = &self.profile;
        timed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crate::device::{Buffer, Dtype, Matrix, MatrixMut, Real, testing};

    /// Products of one size are one line with the operations of all; what comes before and behind is not there.
    #[test]
    fn operations_are_counted_by_name_while_a_profile_is_taken() {
        let Some(gpu) = testing::own_gpu(Dtype::F32) else {
            return;
        };
        let a = gpu.zeros::<Real>(2 * 3).unwrap();
        let b = gpu.zeros::<Real>(3 * 5).unwrap();
        let mut out = Buffer::<f32>::new(&gpu, 2 * 5).unwrap();
        let mut multiply = || {
            let (a, b) = (Matrix::new(a.view(), 2, 3), Matrix::new(b.view(), 3, 5));
            let out = MatrixMut::new(out.view_mut(), 2, 5);
            gpu.multiply(out, a, b, 1.0, false).unwrap();
        };
        multiply();
        gpu.start_profile().unwrap();
        multiply();
        multiply();
        let profile = gpu.take_profile().unwrap();
        multiply();
        assert_eq!(profile.len(), 1, "{profile:?}");
        assert_eq!(profile[0].count, 2);
        assert_eq!(profile[0].flops, Some(2.0 * 2.0 * 2.0 * 3.0 * 5.0));
        assert!(profile[0].seconds > 0.0);
        assert!(gpu.take_profile().unwrap().is_empty());
    }
}
