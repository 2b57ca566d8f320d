// What every kernel of finegrain stands on. Compiled by NVRTC without any header of CUDA's, for one `real` and one head
// size: -DREAL_BF16=0|1 -DHEAD_DIM=n. Under the emulator of tests/emulator (FINEGRAIN_EMULATOR) the same source is
// plain C++, and what is inline PTX here comes from its header.
//
// Legend, as everywhere: n tokens, m tokens that ask, C channels, H heads, K key/value heads, D head size, F feed-forward,
// V vocabulary. All matrices are rows one after the other.

#ifndef FINEGRAIN_EMULATOR
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

#define FULL_WARP 0xffffffffu

// bfloat16: the upper half of a float.
struct bf16 {
  unsigned short bits;
};

__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }
__device__ __forceinline__ float to_float(float x) { return x; }

// To the nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ bf16 to_bf16(float x) {
  unsigned bits = __float_as_uint(x);
  bf16 result;
  result.bits = (bits & 0x7fffffffu) > 0x7f800000u ? (unsigned short)0x7fff
                                                   : (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  return result;
}

// Two floats as two bf16 in one register, `low` in the lower half.
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
  return (unsigned)to_bf16(low).bits | ((unsigned)to_bf16(high).bits << 16);
}

#if REAL_BF16
typedef bf16 real;
__device__ __forceinline__ real to_real(float x) { return to_bf16(x); }
#else
typedef float real;
__device__ __forceinline__ real to_real(float x) { return x; }
#endif

// Sums and maxima over a warp: every lane gets the result, and the order is fixed.
__device__ __forceinline__ float warp_sum(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(FULL_WARP, x, offset);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, offset));
  return x;
}

// The same over a block of whole warps. `scratch` has room for 32 floats and may be used again at once.
__device__ __forceinline__ float block_sum(float x, float* scratch) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  x = warp_sum(x);
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}

__device__ __forceinline__ float block_max(float x, float* scratch) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  x = warp_max(x);
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_max(lane < warps ? scratch[lane] : -INFINITY);
}

#ifndef FINEGRAIN_EMULATOR
// d (16, 8) += a (16, 16) · b (16, 8) by one warp; fragments as in the PTX manual's mma.m16n8k16.
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  unsigned long long address;
  asm("cvta.to.shared.u64 %0, %1;" : "=l"(address) : "l"(pointer));
  return (unsigned)address;
}

// Four (two) matrices of 8 × 8 bf16 from shared memory; each lane names a row, lanes 0 to 7 those of the first matrix.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(unsigned (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

// 16 bytes from global into shared memory past the registers; both addresses are multiples of 16.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most N groups are under way.
template <int N>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#endif
