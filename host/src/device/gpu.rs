//! One GPU: its context, the stream that everything is queued on, the handle for products, and how much memory is in use.
#![allow(
    unsafe_code,
    reason = "calls of the CUDA driver; every one has its safety comment"
)]

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublas::{CudaBlas, sys as blas};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError, result, sys};

use super::buffer::{Buffer, Real};
use super::config::{DeviceConfig, Dtype};
use super::kernels::Program;
use super::libraries::{Library, find};
use super::product::{Matrix, MatrixMut};
use super::profile::Profile;
use crate::error::{Error, Result};
use crate::ops::rope::cuda::DeviceTable;

/// Bytes of cuBLAS' workspace: what NVIDIA recommends for Hopper. Given rather than left to cuBLAS, so that products can be
/// captured in a graph and have the same bits from run to run.
pub(crate) const WORKSPACE: usize = 32 << 20;

thread_local! {
    /// Whether this thread records a graph.
    static RECORDS: Cell<bool> = const { Cell::new(false) };
}

/// A stream and what computes products on it.
pub(super) struct Lane {
    pub(super) stream: Arc<CudaStream>,
    pub(super) blas: CudaBlas,
    /// Held while a product is queued: it may be several kernels, which share the workspace.
    pub(super) products: Mutex<()>,
    /// cuBLAS' own memory.
    workspace: sys::CUdeviceptr,
}

/// An open GPU. Everything is queued on one stream, whichever thread asks for it.
pub struct Gpu {
    dtype: Dtype,
    pub(super) facts: Facts,
    pub(super) modules: Mutex<HashMap<Program, Arc<CudaModule>>>,
    pub(super) functions: Mutex<HashMap<(Program, &'static str), CudaFunction>>,
    /// Tables of rotations.
    pub(crate) tables: Mutex<Vec<DeviceTable>>,
    /// Where everything is queued.
    queue: Lane,
    /// Where graphs are recorded, so that other threads may go on meanwhile.
    recorder: Lane,
    pub(super) context: Arc<CudaContext>,
    pub(super) profile: Profile,
    in_use: AtomicUsize,
    peak: AtomicUsize,
}

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The driver's name of it.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (i32, i32),
    /// Bytes of memory.
    pub memory: usize,
    /// The newest CUDA that the driver knows: 13000 is 13.0.
    pub driver: i32,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu")
            .field("facts", &self.facts)
            .field("dtype", &self.dtype)
            .finish_non_exhaustive()
    }
}

/// Held by the thread that records a graph, and by one that opens a GPU: that waits for all of the device's streams, which the
/// driver refuses while one of them is recorded. A process has one device context, however often the GPU is opened.
pub(super) static RECORDING: Mutex<()> = Mutex::new(());

impl Gpu {
    pub(super) fn open(config: &DeviceConfig) -> Result<Arc<Self>> {
        Library::ALL
            .into_iter()
            .try_for_each(|l| find(l).map(drop))?;
        check_nvrtc()?;
        let count = CudaContext::device_count().map_err(|error| of_driver("find GPUs", error))?;
        if config.ordinal >= count.max(0) as usize {
            return Err(Error::input(format!(
                "device.ordinal: there is no GPU {}; the driver has {count}",
                config.ordinal
            ))
            .hint("GPUs are counted from 0; CUDA_VISIBLE_DEVICES hides some"));
        }
        let opening = |error| of_driver("open the GPU", error);
        let _nobody_records = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
        let context = CudaContext::new(config.ordinal).map_err(opening)?;
        let facts = facts(&context).map_err(opening)?;
        if facts.capability < (8, 0) {
            return Err(Error::input(format!(
                "{} has compute capability {}.{}; 8.0 (A100) or above is needed for bf16",
                facts.name, facts.capability.0, facts.capability.1
            )));
        }
        keep_freed_memory(&context).map_err(opening)?;
        let queue = Lane::open(&context)?;
        let gpu = Arc::new(Self {
            dtype: config.dtype,
            facts,
            modules: Mutex::default(),
            functions: Mutex::default(),
            tables: Mutex::default(),
            queue,
            recorder: Lane::open(&context)?,
            context,
            profile: Profile::default(),
            in_use: AtomicUsize::new(2 * WORKSPACE),
            peak: AtomicUsize::new(2 * WORKSPACE),
        });
        gpu.warm_up()?;
        Ok(gpu)
    }

    /// A product on either stream: what cuBLAS prepares at the first one cannot be recorded.
    fn warm_up(self: &Arc<Self>) -> Result<()> {
        const SIDE: usize = 16;
        let a = self.zeros::<Real>(SIDE * SIDE)?;
        let mut real = Buffer::<Real>::new(self, SIDE * SIDE)?;
        let mut f32 = Buffer::<f32>::new(self, SIDE * SIDE)?;
        let mut multiply = || {
            let a = Matrix::new(a.view(), SIDE, SIDE);
            let out = MatrixMut::new(real.view_mut(), SIDE, SIDE);
            self.multiply(out, a, a.t(), 1.0, false)?;
            let out = MatrixMut::new(f32.view_mut(), SIDE, SIDE);
            self.multiply(out, a, a.t(), 1.0, false)
        };
        multiply()?;
        self.synchronize()?;
        self.on_recorder(|lane| {
            multiply()?;
            let done = lane.stream.synchronize();
            done.map_err(|error| of_driver("compute", error))
        })
    }

    /// Where this thread's work goes.
    pub(super) fn lane(&self) -> &Lane {
        if RECORDS.get() {
            &self.recorder
        } else {
            &self.queue
        }
    }

    /// Whether this thread records a graph.
    pub(super) fn records() -> bool {
        RECORDS.get()
    }

    /// Sends what `work` queues to the recorder.
    pub(super) fn on_recorder<T>(&self, work: impl FnOnce(&Lane) -> T) -> T {
        /// Unset also where the work panics.
        struct Recording;
        impl Drop for Recording {
            fn drop(&mut self) {
                RECORDS.set(false);
            }
        }
        RECORDS.set(true);
        let _recording = Recording;
        work(&self.recorder)
    }

    /// The stream that everything is queued on.
    pub(super) fn queue(&self) -> &Arc<CudaStream> {
        &self.queue.stream
    }

    /// What it is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The dtype of weights and activations.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes of memory that nobody holds; what this process has freed and its pool keeps is not among them.
    pub fn free_memory(&self) -> Result<usize> {
        let (free, _) = self
            .context
            .mem_get_info()
            .map_err(|error| of_driver("ask for the GPU's memory", error))?;
        Ok(free)
    }

    /// Bytes that buffers of this process hold.
    pub fn bytes_in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// The most that they ever held since the last call, which starts counting anew.
    pub fn take_peak(&self) -> usize {
        self.peak.swap(self.bytes_in_use(), Ordering::Relaxed)
    }

    /// Waits for everything that is queued.
    ///
    /// # Errors
    /// Work that failed.
    pub fn synchronize(&self) -> Result<()> {
        self.queue
            .stream
            .synchronize()
            .map_err(|error| of_driver("compute", error))
    }

    /// Makes this GPU the calling thread's.
    pub(super) fn bind(&self) -> Result<()> {
        self.context
            .bind_to_thread()
            .map_err(|error| of_driver("use the GPU", error))
    }

    /// Device memory of any content, in stream order.
    pub(super) fn allocate(&self, bytes: usize) -> Result<sys::CUdeviceptr> {
        if RECORDS.get() {
            return Err(Error::internal(
                "memory cannot be allocated while a graph is recorded",
            ));
        }
        self.bind()?;
        // SAFETY: the stream is live; the memory is written before it is read, which is the callers' to see to.
        let pointer = unsafe { result::malloc_async(self.queue.stream.cu_stream(), bytes) };
        let pointer = pointer.map_err(|error| self.cannot_allocate(bytes, error))?;
        let now = self.in_use.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
        Ok(pointer)
    }

    fn cannot_allocate(&self, bytes: usize, error: DriverError) -> Error {
        if error.0 != sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return of_driver("allocate memory", error);
        }
        let mib = |bytes: usize| bytes as f64 / (1u64 << 20) as f64;
        Error::input(format!(
            "the GPU is out of memory: {:.0} MiB more were needed beside {:.0} MiB in use; {} has {:.0} MiB",
            mib(bytes),
            mib(self.bytes_in_use()),
            self.facts.name,
            mib(self.facts.memory),
        ))
        .hint("`finegrain plan CONFIG` says what takes the memory and what would fit")
    }

    /// Frees memory behind what is queued.
    pub(super) fn free(&self, pointer: sys::CUdeviceptr, bytes: usize) {
        self.in_use.fetch_sub(bytes, Ordering::Relaxed);
        // A failure here follows one that was reported, and the driver frees everything with the context.
        if self.bind().is_ok() {
            // SAFETY: the pointer came from `allocate` on this stream and is given back once.
            let _ = unsafe { result::free_async(pointer, self.queue.stream.cu_stream()) };
        }
    }

    /// A buffer of `len` zeros.
    pub fn zeros<T: super::Stored>(self: &Arc<Self>, len: usize) -> Result<Buffer<T>> {
        let mut buffer = Buffer::new(self, len)?;
        buffer.view_mut().clear(self)?;
        Ok(buffer)
    }
}

impl Lane {
    fn open(context: &Arc<CudaContext>) -> Result<Self> {
        let opening = |error| of_driver("open the GPU", error);
        let cublas = |error| Error::internal(format!("cuBLAS: {error}"));
        let stream = context.new_stream().map_err(opening)?;
        let blas = CudaBlas::new(stream.clone()).map_err(cublas)?;
        // SAFETY: the context is bound, for a stream was just made in it; the memory is freed with the lane.
        let workspace = unsafe { result::malloc_sync(WORKSPACE) }.map_err(opening)?;
        let handle = *blas.handle();
        // SAFETY: the handle is live, and the memory is this long.
        let given = unsafe {
            let memory = workspace as *mut std::ffi::c_void;
            blas::cublasSetWorkspace_v2(handle, memory, WORKSPACE)
                .result()
                .and_then(|()| {
                    // Partial sums of a product stay f32.
                    blas::cublasSetMathMode(
                        handle,
                        blas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION,
                    )
                    .result()
                })
        };
        given.map_err(cublas)?;
        Ok(Self {
            stream,
            blas,
            products: Mutex::new(()),
            workspace,
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
        // SAFETY: it came from `malloc_sync`, and nothing is under way that uses it.
        let _ = unsafe { result::free_sync(self.workspace) };
    }
}

/// Refuses another NVRTC than the one that was found: a library of the same name without a version comes first.
fn check_nvrtc() -> Result<()> {
    let found = find(Library::Nvrtc)?;
    let version = super::kernels::version()?;
    let name = found.to_string_lossy();
    let major = name.rsplit_once(".so.").map_or("", |(_, rest)| rest);
    if version.split('.').next() == major.split('.').next() {
        return Ok(());
    }
    Err(Error::input(format!(
        "{name} was found, but the NVRTC that answers has version {version}"
    ))
    .hint("another CUDA toolkit stands first on the loader's path; take it out of LD_LIBRARY_PATH"))
}

pub(super) fn facts(context: &CudaContext) -> Result<Facts, DriverError> {
    let mut driver = 0;
    // SAFETY: the pointer is valid for the call.
    unsafe { sys::cuDriverGetVersion(&raw mut driver) }.result()?;
    Ok(Facts {
        name: context.name()?,
        capability: context.compute_capability()?,
        memory: context.total_mem()?,
        driver,
    })
}

/// Tells the driver's pool to keep memory that is freed, up to all of it: the next step asks for the same again.
fn keep_freed_memory(context: &CudaContext) -> Result<(), DriverError> {
    let mut threshold = u64::MAX;
    // SAFETY: the device is the context's, and the attribute is a u64.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast(),
        )
    }
}

/// The driver's error, with what was being done.
pub(super) fn of_driver(what: &str, error: DriverError) -> Error {
    let text = match (error.error_name(), error.error_string()) {
        (Ok(name), Ok(text)) => format!("{} ({})", text.to_string_lossy(), name.to_string_lossy()),
        _ => format!("{error:?}"),
    };
    match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE | sys::CUresult::CUDA_ERROR_INVALID_DEVICE => {
            Error::input(format!("cannot {what}: {text}")).hint(
                "`finegrain doctor` says what this machine has; --set device.kind=cpu needs no GPU",
            )
        }
        _ => Error::internal(format!("cannot {what}: {text}")),
    }
}
