//! A little of CUDA's driver, NVRTC and cuBLAS by hand-declared functions, as much as the tests need.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    path::PathBuf,
    ptr,
};

use libloading::Library;

/// Calls a C function: `call!(library, name(value => type, …))` is the status that it returns.
macro_rules! call {
    ($library:expr, $name:ident($($value:expr => $kind:ty),* $(,)?)) => {{
        // SAFETY: the emulator's function of this name takes these types and returns a status; what the pointers among
        // the values point to lives as long as the call.
        unsafe {
            let function = $library.get::<unsafe extern "C" fn($($kind),*) -> c_int>(stringify!($name)).unwrap();
            function($($value),*)
        }
    }};
}

pub(crate) use call;

/// CUDA's numbers of errors that the tests expect.
pub(crate) const INVALID_VALUE: c_int = 1;
pub(crate) const OUT_OF_MEMORY: c_int = 2;
pub(crate) const ILLEGAL_ADDRESS: c_int = 700;
pub(crate) const OUT_OF_RESOURCES: c_int = 701;
pub(crate) const LAUNCH_FAILED: c_int = 719;
pub(crate) const CAPTURE_UNSUPPORTED: c_int = 900;
pub(crate) const CAPTURE_INVALIDATED: c_int = 901;

/// The emulated device, with a stream.
pub(crate) struct Gpu {
    pub(crate) cuda: Library,
    pub(crate) nvrtc: Library,
    pub(crate) cublas: Library,
    pub(crate) stream: *mut c_void,
    pub(crate) folder: PathBuf,
}

/// The device, or nothing, with the reason printed, where no compiler is installed.
pub(crate) fn gpu() -> Option<Gpu> {
    if let Err(reason) = finegrain_cuda_emulator::compiler() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let folder = finegrain_cuda_emulator::libraries().unwrap();
    // SAFETY: the libraries' initialisers only set up their own tables.
    let [cuda, nvrtc, cublas] = ["libcuda.so.1", "libnvrtc.so.13", "libcublas.so.13"]
        .map(|name| unsafe { Library::new(folder.join(name)).unwrap() });
    assert_eq!(call!(cuda, cuInit(0 => c_uint)), 0);
    let mut context = ptr::null_mut();
    assert_eq!(
        call!(cuda, cuDevicePrimaryCtxRetain(&raw mut context => *mut *mut c_void, 0 => c_int)),
        0
    );
    assert_eq!(call!(cuda, cuCtxSetCurrent(context => *mut c_void)), 0);
    let mut stream = ptr::null_mut();
    assert_eq!(
        call!(cuda, cuStreamCreate(&raw mut stream => *mut *mut c_void, 1 => c_uint)),
        0
    );
    Some(Gpu {
        cuda,
        nvrtc,
        cublas,
        stream,
        folder,
    })
}

/// A kernel's argument: its bytes.
pub(crate) trait Argument {
    fn bytes(&self) -> Vec<u8>;
}
macro_rules! arguments {
    ($($kind:ty),*) => { $(impl Argument for $kind { fn bytes(&self) -> Vec<u8> { self.to_ne_bytes().to_vec() } })* };
}
arguments!(i32, u32, i64, u64, f32, f64);

/// A grid of blocks of threads, along x, and the bytes of dynamic shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Shape(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Gpu {
    /// Compiles: the status, the log, and the image for `sm_90`.
    pub(crate) fn compile(&self, source: &str, options: &[&str]) -> (c_int, String, Vec<u8>) {
        let source = CString::new(source).unwrap();
        let options = options
            .iter()
            .map(|option| CString::new(*option).unwrap())
            .collect::<Vec<_>>();
        let options = options
            .iter()
            .map(|option| option.as_ptr())
            .collect::<Vec<_>>();
        let mut program = ptr::null_mut();
        let none = ptr::null::<*const c_char>();
        let created = call!(self.nvrtc, nvrtcCreateProgram(
            &raw mut program => *mut *mut c_void, source.as_ptr() => *const c_char, c"test.cu".as_ptr() => *const c_char,
            0 => c_int, none => *const *const c_char, none => *const *const c_char));
        assert_eq!(created, 0);
        let count = options.len() as c_int;
        let status = call!(self.nvrtc, nvrtcCompileProgram(program => *mut c_void, count => c_int, options.as_ptr() => *const *const c_char));
        let mut size = 0_usize;
        assert_eq!(
            call!(self.nvrtc, nvrtcGetProgramLogSize(program => *mut c_void, &raw mut size => *mut usize)),
            0
        );
        let mut log = vec![0_u8; size];
        assert_eq!(
            call!(self.nvrtc, nvrtcGetProgramLog(program => *mut c_void, log.as_mut_ptr() => *mut u8)),
            0
        );
        let log = CStr::from_bytes_until_nul(&log)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let mut image = Vec::new();
        if status == 0 {
            assert_eq!(
                call!(self.nvrtc, nvrtcGetCUBINSize(program => *mut c_void, &raw mut size => *mut usize)),
                0
            );
            image = vec![0_u8; size];
            assert_eq!(
                call!(self.nvrtc, nvrtcGetCUBIN(program => *mut c_void, image.as_mut_ptr() => *mut u8)),
                0
            );
        }
        assert_eq!(
            call!(self.nvrtc, nvrtcDestroyProgram(&raw mut program => *mut *mut c_void)),
            0
        );
        (status, log, image)
    }

    /// A kernel of a source.
    pub(crate) fn kernel(&self, source: &str, name: &str) -> *mut c_void {
        let (status, log, image) =
            self.compile(source, &["--gpu-architecture=sm_90", "--std=c++17"]);
        assert_eq!(status, 0, "{log}");
        let mut module = ptr::null_mut();
        assert_eq!(
            call!(self.cuda, cuModuleLoadData(&raw mut module => *mut *mut c_void, image.as_ptr() => *const u8)),
            0
        );
        let name = CString::new(name).unwrap();
        let mut function = ptr::null_mut();
        let found = call!(self.cuda, cuModuleGetFunction(&raw mut function => *mut *mut c_void, module => *mut c_void, name.as_ptr() => *const c_char));
        assert_eq!(found, 0);
        function
    }

    pub(crate) fn launch(
        &self,
        function: *mut c_void,
        Shape(grid, block, shared): Shape,
        arguments: &[&dyn Argument],
    ) -> c_int {
        let mut bytes = arguments
            .iter()
            .map(|argument| argument.bytes())
            .collect::<Vec<_>>();
        let mut pointers = bytes.iter_mut().map(Vec::as_mut_ptr).collect::<Vec<_>>();
        call!(self.cuda, cuLaunchKernel(
            function => *mut c_void, grid => c_uint, 1 => c_uint, 1 => c_uint, block => c_uint, 1 => c_uint, 1 => c_uint,
            shared => c_uint, self.stream => *mut c_void, pointers.as_mut_ptr() => *mut *mut u8, ptr::null_mut() => *mut *mut c_void))
    }

    pub(crate) fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0;
        assert_eq!(
            call!(self.cuda, cuMemAllocAsync(&raw mut address => *mut u64, bytes => usize, self.stream => *mut c_void)),
            0
        );
        address
    }

    pub(crate) fn free(&self, address: u64) {
        assert_eq!(
            call!(self.cuda, cuMemFreeAsync(address => u64, self.stream => *mut c_void)),
            0
        );
    }

    pub(crate) fn write<T: Copy>(&self, address: u64, values: &[T]) -> c_int {
        call!(self.cuda, cuMemcpyHtoDAsync_v2(
            address => u64, values.as_ptr() => *const T, size_of_val(values) => usize, self.stream => *mut c_void))
    }

    pub(crate) fn upload<T: Copy>(&self, values: &[T]) -> u64 {
        let address = self.allocate(size_of_val(values));
        assert_eq!(self.write(address, values), 0);
        address
    }

    pub(crate) fn read<T: Copy + Default>(&self, address: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        let bytes = size_of_val(values.as_slice());
        assert_eq!(
            call!(self.cuda, cuMemcpyDtoHAsync_v2(
            values.as_mut_ptr() => *mut T, address => u64, bytes => usize, self.stream => *mut c_void)),
            0
        );
        assert_eq!(
            call!(self.cuda, cuStreamSynchronize(self.stream => *mut c_void)),
            0
        );
        values
    }

    pub(crate) fn begin_capture(&self) {
        assert_eq!(
            call!(self.cuda, cuStreamBeginCapture_v2(self.stream => *mut c_void, 1 => c_int)),
            0
        );
    }

    /// The graph of the capture, ready to be launched, or the error.
    pub(crate) fn end_capture(&self) -> Result<*mut c_void, c_int> {
        let mut graph = ptr::null_mut();
        match call!(self.cuda, cuStreamEndCapture(self.stream => *mut c_void, &raw mut graph => *mut *mut c_void))
        {
            0 => {}
            error => return Err(error),
        }
        let mut executable = ptr::null_mut();
        assert_eq!(
            call!(self.cuda, cuGraphInstantiateWithFlags(&raw mut executable => *mut *mut c_void, graph => *mut c_void, 0 => u64)),
            0
        );
        assert_eq!(call!(self.cuda, cuGraphDestroy(graph => *mut c_void)), 0);
        Ok(executable)
    }

    pub(crate) fn replay(&self, executable: *mut c_void) {
        assert_eq!(
            call!(self.cuda, cuGraphLaunch(executable => *mut c_void, self.stream => *mut c_void)),
            0
        );
    }
}
