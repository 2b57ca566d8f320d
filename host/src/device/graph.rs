//! Work that is recorded once and queued many times: a step of decoding is hundreds of launches of a few microseconds each,
//! which a graph queues as one.

#![allow(
    unsafe_code,
    reason = "the launch of a graph on another stream than it was recorded on"
)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;

use cudarc::driver::{CudaGraph, result, sys};

use super::gpu::{Gpu, RECORDING, of_driver};
use crate::error::{Error, Result};

/// Recorded work. It reads and writes the memory that it was recorded with, which must outlive it.
pub struct Graph(CudaGraph);

impl Gpu {
    /// Records what `work` queues instead of running it. Everything that it launches must have been launched before (loading
    /// a kernel cannot be recorded), and it must not allocate.
    ///
    /// # Errors
    /// Those of `work`; what cannot be recorded.
    pub(crate) fn record(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let failed = |error| of_driver("record a graph", error);
        let _recording = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
        self.bind()?;
        let graph = self.on_recorder(|lane| {
            lane.stream
                .begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
                .map_err(failed)?;
            let done = catch_unwind(AssertUnwindSafe(work));
            // Ended whether or not the work failed: the stream is to be used again.
            let graph = lane.stream.end_capture(sys::CUgraphInstantiate_flags(0));
            done.unwrap_or_else(|panic| resume_unwind(panic))?;
            graph.map_err(failed)
        })?;
        let graph = graph.ok_or_else(|| Error::internal("the recorded graph is empty"))?;
        Ok(Graph(graph))
    }
}

impl Graph {
    /// Queues the work on the GPU that recorded it.
    ///
    /// # Errors
    /// A failing driver.
    pub(crate) fn launch(&self, gpu: &Gpu) -> Result<()> {
        gpu.bind()?;
        gpu.timed(
            || ("recorded graph".to_owned(), None),
            || {
                let stream = gpu.queue().cu_stream();
                // SAFETY: both are live; what the graph reads and writes is its owner's to keep.
                let launched = unsafe { result::graph::launch(self.0.cu_graph_exec(), stream) };
                launched.map_err(|error| of_driver("launch a graph", error))
            },
        )
    }
}
