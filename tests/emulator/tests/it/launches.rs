//! Kernels from source to result, and the launches that a GPU does not take.

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use crate::support::{
    Argument, ILLEGAL_ADDRESS, INVALID_VALUE, LAUNCH_FAILED, OUT_OF_MEMORY, OUT_OF_RESOURCES,
    Shape, call, gpu,
};

const SAXPY: &str = r#"
extern "C" __global__ void saxpy(float a, const float* __restrict__ x, float* __restrict__ y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}
"#;

#[test]
fn saxpy() {
    let Some(gpu) = gpu() else { return };
    let kernel = gpu.kernel(SAXPY, "saxpy");
    let n = 1000_usize;
    let x = gpu.upload(&(0..n).map(|i| i as f32).collect::<Vec<_>>());
    let y = gpu.upload(&vec![1.0_f32; n]);
    assert_eq!(
        gpu.launch(kernel, Shape(4, 256, 0), &[&2.0_f32, &x, &y, &(n as i32)]),
        0
    );
    assert_eq!(
        gpu.read::<f32>(y, n),
        (0..n).map(|i| 2.0 * i as f32 + 1.0).collect::<Vec<_>>()
    );
}

/// Sums of blocks by way of dynamic shared memory, whose size is the launch's, with macros that make the kernels.
const SUMS: &str = r#"
#ifdef FINEGRAIN_EMULATOR
#define SHARED(name) DYNAMIC_SHARED(name)
#else
#define SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif
template <class T> __device__ __forceinline__ T warp_sum(T sum) {
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    return sum;
}
#define BLOCK_SUM(name, T)                                                      \
    extern "C" __global__ void __launch_bounds__(2 * 128) name(const T* x, T* sums) { \
        SHARED(memory);                                                         \
        T* partial = reinterpret_cast<T*>(memory);                              \
        const T sum = warp_sum(x[blockIdx.x * blockDim.x + threadIdx.x]);       \
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;             \
        __syncthreads();                                                        \
        if (threadIdx.x == 0) {                                                 \
            T total = 0;                                                        \
            for (unsigned w = 0; w < blockDim.x / 32; ++w) total += partial[w]; \
            sums[blockIdx.x] = total;                                           \
        }                                                                       \
    }
BLOCK_SUM(sum_float, float)
BLOCK_SUM(sum_int, int)
"#;

#[test]
fn sums_of_blocks_by_dynamic_shared_memory() {
    let Some(gpu) = gpu() else { return };
    let kernel = gpu.kernel(SUMS, "sum_int");
    let values = (0..1024).collect::<Vec<i32>>();
    let x = gpu.upload(&values);
    let sums = gpu.allocate(16);
    assert_eq!(gpu.launch(kernel, Shape(4, 256, 32), &[&x, &sums]), 0);
    let expected = values
        .chunks(256)
        .map(|block| block.iter().sum())
        .collect::<Vec<i32>>();
    assert_eq!(gpu.read::<i32>(sums, 4), expected);
    // Launch bounds of 256 threads, given by an expression behind `void`.
    assert_eq!(
        gpu.launch(kernel, Shape(1, 512, 64), &[&x, &sums]),
        OUT_OF_RESOURCES
    );
}

#[test]
fn memory_holds_nan_until_it_is_written_and_is_limited() {
    let Some(gpu) = gpu() else { return };
    let address = gpu.allocate(40);
    assert!(
        gpu.read::<f32>(address, 10)
            .iter()
            .all(|value| value.is_nan())
    );
    let mut huge = 0_u64;
    let status = call!(gpu.cuda, cuMemAllocAsync(&raw mut huge => *mut u64, 3 << 30 => usize, gpu.stream => *mut c_void));
    assert_eq!(status, OUT_OF_MEMORY);
}

#[test]
fn shared_memory_holds_nan_at_the_start_of_every_block() {
    let Some(gpu) = gpu() else { return };
    let source = r#"
extern "C" __global__ void leftovers(unsigned* found) {
    __shared__ float left[64];
    DYNAMIC_SHARED(memory);
    if (left[threadIdx.x] == left[threadIdx.x]) atomicAdd(found, 1u);
    if (reinterpret_cast<float*>(memory)[threadIdx.x] == 1.0f) atomicAdd(found, 1u);
    __syncthreads();
    left[threadIdx.x] = 1.0f;
    reinterpret_cast<float*>(memory)[threadIdx.x] = 1.0f;
}
"#;
    let kernel = gpu.kernel(source, "leftovers");
    let found = gpu.upload(&[0_u32]);
    for _ in 0..2 {
        assert_eq!(gpu.launch(kernel, Shape(16, 64, 256), &[&found]), 0);
    }
    assert_eq!(gpu.read::<u32>(found, 1), [0]);
}

#[test]
fn launches_that_a_gpu_does_not_take() {
    let Some(gpu) = gpu() else { return };
    let kernel = gpu.kernel(SAXPY, "saxpy");
    let x = gpu.upload(&[0.0_f32; 32]);
    let arguments: [&dyn Argument; 4] = [&1.0_f32, &x, &x, &32_i32];
    assert_eq!(
        gpu.launch(kernel, Shape(0, 32, 0), &arguments),
        INVALID_VALUE
    );
    assert_eq!(
        gpu.launch(kernel, Shape(1, 1025, 0), &arguments),
        INVALID_VALUE
    );
    assert_eq!(
        gpu.launch(kernel, Shape(1, 32, (48 << 10) + 1), &arguments),
        INVALID_VALUE
    );
    let set = |bytes: c_int| call!(gpu.cuda, cuFuncSetAttribute(kernel => *mut c_void, 8 => c_int, bytes => c_int));
    assert_eq!(set((227 << 10) + 1), INVALID_VALUE);
    assert_eq!(set(227 << 10), 0);
    assert_eq!(gpu.launch(kernel, Shape(1, 32, 227 << 10), &arguments), 0);
}

#[test]
fn a_pointer_of_the_host_is_found_out() {
    let Some(gpu) = gpu() else { return };
    let kernel = gpu.kernel(SAXPY, "saxpy");
    let x = gpu.upload(&[0.0_f32; 32]);
    let host = [0.0_f32; 32].as_ptr() as u64;
    assert_eq!(
        gpu.launch(kernel, Shape(1, 32, 0), &[&1.0_f32, &x, &host, &32_i32]),
        ILLEGAL_ADDRESS
    );
    assert_eq!(gpu.write(host, &[0.0_f32; 32]), INVALID_VALUE);
    assert_eq!(gpu.write(x, &[0.0_f32; 33]), INVALID_VALUE); // beyond the end
}

#[test]
fn a_missing_barrier_gives_wrong_results_in_some_order() {
    let Some(gpu) = gpu() else { return };
    // Thread i reads what thread i + 1 wrote, without a barrier between.
    let source = r#"
extern "C" __global__ void neighbour(int* out) {
    __shared__ int values[64];
    values[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = values[(threadIdx.x + 1) % 64];
}
"#;
    let kernel = gpu.kernel(source, "neighbour");
    let out = gpu.allocate(256);
    assert_eq!(gpu.launch(kernel, Shape(1, 64, 0), &[&out]), 0);
    assert_ne!(
        gpu.read::<i32>(out, 64),
        (1..65).map(|i| i % 64).collect::<Vec<i32>>()
    );
}

#[test]
fn diverging_barriers_end_the_launch() {
    let Some(gpu) = gpu() else { return };
    let source = r#"
extern "C" __global__ void two_barriers() {
    if (threadIdx.x < 32) __syncthreads();
    else
        __syncthreads();
}
"#;
    let kernel = gpu.kernel(source, "two_barriers");
    assert_eq!(gpu.launch(kernel, Shape(1, 64, 0), &[]), LAUNCH_FAILED);
}

#[test]
fn what_faults_or_differs_on_a_gpu_ends_the_launch() {
    let Some(gpu) = gpu() else { return };
    let source = r#"
extern "C" __global__ void vector_at(const float* x, float4* y, int i) { y[0] = *reinterpret_cast<const float4*>(x + i); }
extern "C" __global__ void element(int* y, int i) {
    __shared__ int values[8];
    values[i] = i;
    y[0] = values[i];
}
extern "C" __global__ void divide(int* y, int i) { y[0] = 8 / i; }
extern "C" __global__ void shift(int* y, int i) { y[0] = 1u << i; }
"#;
    let x = gpu.upload(&[1.0_f32; 16]);
    let y = gpu.allocate(16);
    let one = Shape(1, 1, 0);
    let vector_at = gpu.kernel(source, "vector_at");
    assert_eq!(gpu.launch(vector_at, one, &[&x, &y, &4_i32]), 0);
    assert_eq!(gpu.launch(vector_at, one, &[&x, &y, &5_i32]), LAUNCH_FAILED);
    for (name, good, bad) in [("element", 7, 8), ("divide", 1, 0), ("shift", 31, 32)] {
        let kernel = gpu.kernel(source, name);
        assert_eq!(gpu.launch(kernel, one, &[&y, &good]), 0, "{name}");
        assert_eq!(
            gpu.launch(kernel, one, &[&y, &bad]),
            LAUNCH_FAILED,
            "{name}"
        );
    }
}

#[test]
fn sources_that_nvrtc_does_not_take() {
    let Some(gpu) = gpu() else { return };
    let kernel = "extern \"C\" __global__ void k() {}\n";
    let (status, log, _) = gpu.compile(&format!("#include <vector>\n{kernel}"), &[]);
    assert_eq!(status, 6);
    assert!(log.contains("test.cu(1)"), "{log}");
    let (status, log, _) = gpu.compile(&format!("\n{kernel}int x = y;\n"), &[]);
    assert_eq!(status, 6);
    assert!(
        log.contains("test.cu:3") && log.contains("'y' was not declared")
            || log.contains("‘y’ was not declared"),
        "{log}"
    );
    let (status, log, _) = gpu.compile(kernel, &["--no-such-option"]);
    assert_eq!(status, 5);
    assert!(log.contains("--no-such-option"), "{log}");
    // A virtual architecture has PTX only.
    assert!(
        gpu.compile(kernel, &["--gpu-architecture=compute_90"])
            .2
            .is_empty()
    );
    assert!(
        !gpu.compile(
            kernel,
            &["-arch=sm_90", "--use_fast_math", "-DX=1", "-default-device"]
        )
        .2
        .is_empty()
    );
}

#[test]
fn images_of_others_are_refused() {
    let Some(gpu) = gpu() else { return };
    let source = "extern \"C\" __global__ void k() {}\n";
    let (_, _, image) = gpu.compile(source, &["-arch=sm_90"]);
    let load = |image: &[u8]| {
        let mut module = ptr::null_mut::<c_void>();
        call!(gpu.cuda, cuModuleLoadData(&raw mut module => *mut *mut c_void, image.as_ptr() => *const u8))
    };
    assert_eq!(load(&image), 0);
    // By another NVRTC, by another build of this one (whose name follows the first eight bytes), for another GPU.
    for byte in [0, 8] {
        let mut other = image.clone();
        other[byte] ^= 1;
        assert_eq!(load(&other), 200);
    }
    assert_eq!(load(&gpu.compile(source, &["-arch=sm_100"]).2), 209);
}

#[test]
fn peak_and_launches_are_counted() {
    let Some(gpu) = gpu() else { return };
    // Other tests of this process allocate as well, so only lower bounds hold.
    let peak =
        |reset: c_int| call!(gpu.cuda, finegrain_emulator_peak_bytes(reset => c_int)) as usize;
    let address = gpu.allocate(1 << 20);
    assert!(peak(0) >= 1 << 20);
    gpu.free(address);
    let before = call!(gpu.cuda, finegrain_emulator_launches());
    let kernel = gpu.kernel(SAXPY, "saxpy");
    let x = gpu.upload(&[0.0_f32; 32]);
    assert_eq!(
        gpu.launch(kernel, Shape(1, 32, 0), &[&1.0_f32, &x, &x, &32_i32]),
        0
    );
    assert!(call!(gpu.cuda, finegrain_emulator_launches()) > before);
}
