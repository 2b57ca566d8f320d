//! From the sources of kernels to launches: NVRTC compiles CUDA C++ for this GPU's architecture, dtype and head size, the
//! result is kept on disk by the hash of everything that determines it, and launches go by name.
#![allow(
    unsafe_code,
    reason = "NVRTC and kernel launches; launchers check every length before"
)]

use std::ffi::{CStr, CString, c_void};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use cudarc::driver::{CudaFunction, CudaModule, result, sys as driver};
use cudarc::nvrtc::{Ptx, result as nvrtc, sys};
use sha2::{Digest as _, Sha256};

use super::buffer::{View, ViewMut};
use super::config::Dtype;
use super::gpu::{Gpu, of_driver};
use super::libraries::{Library, find};
use crate::error::{Context as _, Error, Result};
use crate::pipeline::atomic::write_atomic;
use crate::pipeline::store::hexadecimal;

/// A set of kernels that are compiled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// What does not depend on the size of a head.
    Common,
    /// What does: attention, rotations and the KV cache, for heads of this size.
    Heads(usize),
    /// Attention alone, where its scores are capped, or its queries see a window of tokens.
    Scores {
        /// Channels of a head.
        size: usize,
        /// Whether scores are capped.
        capped: bool,
        /// Whether queries see a window.
        windowed: bool,
    },
}

const PRELUDE: &str = include_str!("../ops/cuda/prelude.cuh");

const COMMON: &[&str] = &[
    include_str!("../ops/cuda/rows.cu"),
    include_str!("../ops/rms_norm/rms_norm.cu"),
    include_str!("../ops/gated/gated.cu"),
    include_str!("../ops/bias/bias.cu"),
    include_str!("../ops/pointwise/pointwise.cu"),
    include_str!("../ops/embedding/embedding.cu"),
    include_str!("../ops/log_prob/log_prob.cu"),
    include_str!("../train/adamw/adamw.cu"),
    include_str!("../model/cuda/scalar_head.cu"),
    include_str!("../model/cuda/sample.cu"),
];

const ATTENTION: &[&str] = &[
    include_str!("../ops/attention/common.cuh"),
    include_str!("../ops/attention/tensor.cuh"),
    include_str!("../ops/attention/plain.cuh"),
    include_str!("../ops/attention/forward.cu"),
    include_str!("../ops/attention/backward.cu"),
    include_str!("../ops/attention/decode.cu"),
];

/// Beside attention.
const HEADS: &[&str] = &[
    include_str!("../ops/rope/rope.cu"),
    include_str!("../model/cuda/kv_cache.cu"),
];

impl Program {
    /// The sources, one after the other.
    pub fn source(self) -> String {
        let parts = match self {
            Self::Common => COMMON.to_vec(),
            Self::Heads(_) => [ATTENTION, HEADS].concat(),
            Self::Scores { .. } => ATTENTION.to_vec(),
        };
        [&[PRELUDE], &parts[..]].concat().join("\n")
    }

    /// The options of the compiler, for an architecture such as 90.
    pub fn options(self, dtype: Dtype, architecture: i32) -> Vec<String> {
        let size = match self {
            Self::Common => 0,
            Self::Heads(size) | Self::Scores { size, .. } => size,
        };
        let (capped, windowed) = match self {
            Self::Scores {
                capped, windowed, ..
            } => (capped, windowed),
            Self::Common | Self::Heads(_) => (false, false),
        };
        vec![
            format!("--gpu-architecture=sm_{architecture}"),
            "--std=c++17".into(),
            "--ptxas-options=-v".into(),
            format!("-DREAL_BF16={}", u8::from(dtype == Dtype::Bf16)),
            format!("-DHEAD_DIM={size}"),
            format!("-DCAPPED={}", u8::from(capped)),
            format!("-DWINDOWED={}", u8::from(windowed)),
        ]
    }

    fn name(self) -> String {
        match self {
            Self::Common => "common".into(),
            Self::Heads(size) => format!("heads-{size}"),
            Self::Scores { size, .. } => format!("scores-{size}"),
        }
    }
}

/// How many blocks of how many threads run a kernel, with how many bytes of shared memory each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y and z.
    pub blocks: [usize; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

impl Launch {
    /// Blocks along x, without shared memory.
    pub fn new(blocks: usize, threads: u32) -> Self {
        Self {
            blocks: [blocks, 1, 1],
            threads,
            shared: 0,
        }
    }

    /// So many threads for `count` elements, each of which takes several where there are very many.
    pub fn flat(count: usize) -> Self {
        const THREADS: usize = 256;
        /// Enough to fill any GPU several times over.
        const MOST: usize = 8192;
        Self::new(count.div_ceil(THREADS).min(MOST), THREADS as u32)
    }

    /// Blocks along y.
    #[must_use]
    pub fn by(mut self, blocks: usize) -> Self {
        self.blocks[1] = blocks;
        self
    }

    /// Bytes of dynamic shared memory.
    #[must_use]
    pub fn shared(mut self, bytes: usize) -> Self {
        self.shared = bytes;
        self
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// Device memory, or none.
    Pointer(driver::CUdeviceptr),
    /// `int`.
    Int(i32),
    /// `long long`.
    Long(i64),
    /// `float`.
    Float(f32),
}

impl<T> From<View<'_, T>> for Arg {
    fn from(view: View<'_, T>) -> Self {
        Self::Pointer(view.pointer())
    }
}

impl<T> From<&mut ViewMut<'_, T>> for Arg {
    fn from(view: &mut ViewMut<'_, T>) -> Self {
        Self::Pointer(view.pointer())
    }
}

impl<T> From<Option<View<'_, T>>> for Arg {
    fn from(view: Option<View<'_, T>>) -> Self {
        Self::Pointer(view.map_or(0, |view| view.pointer()))
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

/// Sizes are `int` in kernels.
impl From<usize> for Arg {
    fn from(value: usize) -> Self {
        Self::Int(i32::try_from(value).expect("invariant: sizes of kernels fit 31 bits"))
    }
}

impl Gpu {
    /// Queues a kernel. Its arguments are the callers' to get right: each kernel has one launcher, which checks lengths.
    ///
    /// # Errors
    /// Sources that do not compile; a launch that the driver refuses.
    pub(crate) fn launch(
        &self,
        program: Program,
        name: &'static str,
        launch: Launch,
        args: &[Arg],
    ) -> Result<()> {
        if launch.blocks.contains(&0) {
            return Ok(());
        }
        let function = self.function(program, name)?;
        self.bind()?;
        let mut pointers: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Pointer(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Arg::Int(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Arg::Long(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Arg::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
            })
            .collect();
        let [x, y, z] = launch.blocks.map(|count| count as u32);
        let launch_it = || {
            // SAFETY: the function belongs to a live module of this context; the arguments live through the call, which copies
            // them, and are those that the kernel's launcher checked.
            let launched = unsafe {
                result::launch_kernel(
                    function.cu_function(),
                    (x, y, z),
                    (launch.threads, 1, 1),
                    launch.shared as u32,
                    self.lane().stream.cu_stream(),
                    &mut pointers,
                )
            };
            launched.map_err(|error| of_driver(&format!("launch {name} as {launch:?}"), error))
        };
        self.timed(|| (name.to_owned(), None), launch_it)
    }

    fn function(&self, program: Program, name: &'static str) -> Result<CudaFunction> {
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&(program, name)) {
            return Ok(function.clone());
        }
        let module = self.module(program)?;
        let loading = |error| of_driver(&format!("load the kernel {name}"), error);
        let function = module.load_function(name).map_err(loading)?;
        // More shared memory than 48 KiB is given to those who ask.
        let most =
            driver::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let most = self.context.attribute(most).map_err(loading)?;
        let fixed = function.shared_size_bytes().map_err(loading)?;
        let dynamic = driver::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function
            .set_attribute(dynamic, most - fixed)
            .map_err(loading)?;
        functions.insert((program, name), function.clone());
        Ok(function)
    }

    fn module(&self, program: Program) -> Result<Arc<CudaModule>> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(&program) {
            return Ok(module.clone());
        }
        let module = self.load(program)?;
        modules.insert(program, module.clone());
        Ok(module)
    }

    /// Machine code from disk where the same was compiled before, or compiled now.
    fn load(&self, program: Program) -> Result<Arc<CudaModule>> {
        let (major, minor) = self.facts.capability;
        let options = program.options(self.dtype(), 10 * major + minor);
        let source = program.source();
        let mut hash = Sha256::new();
        let version = version()?;
        for part in [&self.facts.name, &version, &options.join(" "), &source] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest = hexadecimal(&hash.finalize()[..16]);
        let path = cache_folder().map(|folder| folder.join(format!("{}-{digest}", program.name())));
        if let Some(image) = path.as_ref().and_then(|path| std::fs::read(path).ok())
            && let Ok(module) = self.context.load_module(Ptx::from_binary(image))
        {
            return Ok(module);
        }
        let image = compile_source(&source, &options)
            .map_err(Error::internal)
            .context(format!("the kernels {}", program.name()))?
            .image;
        if let Some(path) = path {
            // A cache that cannot be written costs a few seconds the next time.
            let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            drop(folder.map(|()| write_atomic(&path, &image)));
        }
        let loaded = self.context.load_module(Ptx::from_binary(image));
        loaded.map_err(|error| of_driver(&format!("load the kernels {}", program.name()), error))
    }
}

/// Where compiled kernels are kept: `$XDG_CACHE_HOME/finegrain/kernels`, or under `~/.cache`.
fn cache_folder() -> Option<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    Some(cache.join("finegrain").join("kernels"))
}

pub(super) fn version() -> Result<String> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are valid for the call.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
        .result()
        .map_err(|error| Error::internal(format!("NVRTC: {error:?}")))?;
    Ok(format!("{major}.{minor}"))
}

/// Machine code and what the compiler said.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// A cubin.
    pub image: Vec<u8>,
    /// Registers, stack and spills of every kernel, and warnings.
    pub log: String,
}

/// Compiles a program for an architecture such as 90. No GPU is needed.
///
/// # Errors
/// No NVRTC; sources that do not compile, with the compiler's log.
pub fn compile(program: Program, dtype: Dtype, architecture: i32) -> Result<Compiled> {
    find(Library::Nvrtc)?;
    let options = program.options(dtype, architecture);
    compile_source(&program.source(), &options).map_err(Error::internal)
}

fn compile_source(source: &str, options: &[String]) -> Result<Compiled, String> {
    let failed = |error| format!("NVRTC: {error:?}");
    let source = CString::new(source).map_err(|error| error.to_string())?;
    let program = nvrtc::create_program(&source, None).map_err(failed)?;
    // SAFETY: the program is live until it is destroyed below, once.
    unsafe {
        let compiled = nvrtc::compile_program(program, options);
        let log = nvrtc::get_program_log(program).map_err(failed)?;
        let log = CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned();
        let image = compiled.map_err(|error| format!("NVRTC: {error:?}\n{log}"));
        let image = image.and_then(|()| cubin(program).map_err(failed));
        nvrtc::destroy_program(program).map_err(failed)?;
        Ok(Compiled { image: image?, log })
    }
}

/// # Safety
/// The program was compiled and is live.
unsafe fn cubin(program: sys::nvrtcProgram) -> Result<Vec<u8>, nvrtc::NvrtcError> {
    let mut size = 0;
    // SAFETY: the program is the caller's; the buffer is as long as the library says.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &raw mut size).result()?;
        let mut image = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()).result()?;
        Ok(image)
    }
}
