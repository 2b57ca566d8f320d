// What every kernel of finegrain stands on. Compiled by NVRTC without any header of CUDA's, for one `real`, one head size and
// one kind of scores: -DREAL_BF16=0|1 -DHEAD_DIM=n -DCAPPED=0|1 -DWINDOWED=0|1. Under the emulator of tests/emulator
// (FINEGRAIN_EMULATOR) the same source is plain C++, and what is inline PTX here comes from its header.
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

// To the nearest, ties to even; any NaN becomes 0x7fff, as by the GPU's instruction.
__device__ __forceinline__ bf16 to_bf16(float x) {
  bf16 result;
#ifdef FINEGRAIN_EMULATOR
  unsigned bits = __float_as_uint(x);
  result.bits = (bits & 0x7fffffffu) > 0x7f800000u ? (unsigned short)0x7fff
                                                   : (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#else
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
#endif
  return result;
}

// Two floats as two bf16 in one register, `low` in the lower half.
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
#ifdef FINEGRAIN_EMULATOR
  return (unsigned)to_bf16(low).bits | ((unsigned)to_bf16(high).bits << 16);
#else
  unsigned result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
#endif
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

// A thread reads and writes N neighbours of a row at once: PACK of them, 16 bytes, where the width of rows and where they
// begin allow it, otherwise 1.
#define PACK ((int)(16 / sizeof(real)))

__device__ __forceinline__ bool on_16_bytes(const void* pointer) { return ((unsigned long long)pointer & 15) == 0; }

// Whether rows of `width` elements from `base` on can be taken in packs.
__device__ __forceinline__ bool in_packs(const real* base, int width) { return width % PACK == 0 && on_16_bytes(base); }

template <int N>
__device__ __forceinline__ void load(const float* from, float (&to)[N]) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N / 4; i++) {
      float4 four = ((const float4*)from)[i];
      to[4 * i] = four.x, to[4 * i + 1] = four.y, to[4 * i + 2] = four.z, to[4 * i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = from[i];
  }
}

template <int N>
__device__ __forceinline__ void store(float* to, const float (&from)[N]) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N / 4; i++) {
      float4 four = {from[4 * i], from[4 * i + 1], from[4 * i + 2], from[4 * i + 3]};
      ((float4*)to)[i] = four;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = from[i];
  }
}

// One store. The compiler splits an assignment into four where the same loop has loaded from there.
__device__ __forceinline__ void store_16(uint4* to, uint4 value) {
#ifdef FINEGRAIN_EMULATOR
  *to = value;
#else
  __stwb(to, value);
#endif
}

__device__ __forceinline__ void unpack_bf16(unsigned two, float& low, float& high) {
  low = __uint_as_float(two << 16);
  high = __uint_as_float(two & 0xffff0000u);
}

template <int N>
__device__ __forceinline__ void load(const bf16* from, float (&to)[N]) {
  if constexpr (N % 8 == 0) {
#pragma unroll
    for (int i = 0; i < N / 8; i++) {
      uint4 eight = ((const uint4*)from)[i];
      unpack_bf16(eight.x, to[8 * i], to[8 * i + 1]);
      unpack_bf16(eight.y, to[8 * i + 2], to[8 * i + 3]);
      unpack_bf16(eight.z, to[8 * i + 4], to[8 * i + 5]);
      unpack_bf16(eight.w, to[8 * i + 6], to[8 * i + 7]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_float(from[i]);
  }
}

template <int N>
__device__ __forceinline__ void store(bf16* to, const float (&from)[N]) {
  if constexpr (N % 8 == 0) {
#pragma unroll
    for (int i = 0; i < N / 8; i++) {
      const float* f = from + 8 * i;
      uint4 eight = {pack_bf16(f[0], f[1]), pack_bf16(f[2], f[3]), pack_bf16(f[4], f[5]), pack_bf16(f[6], f[7])};
      store_16((uint4*)to + i, eight);
    }
  } else if constexpr (N == 4) {
    uint2 four = {pack_bf16(from[0], from[1]), pack_bf16(from[2], from[3])};
    *(uint2*)to = four;
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_bf16(from[i]);
  }
}

// The rotary embedding of N pairs: `by` has cosine and sine of each; `sign` −1 turns back. Which of two products is rounded
// before they are added is said by fmaf, not left to the compiler, so that the bits do not depend on N or on the kernel.
template <int N>
__device__ __forceinline__ void turn_pairs(float (&low)[N], float (&high)[N], const float* by, float sign) {
  float turns[2 * N];
  load(by, turns);
#pragma unroll
  for (int i = 0; i < N; i++) {
    float cos = turns[2 * i], sin = turns[2 * i + 1] * sign;
    float l = low[i], h = high[i];
    low[i] = fmaf(l, cos, -(h * sin));
    high[i] = fmaf(h, cos, l * sin);
  }
}

#ifndef FINEGRAIN_EMULATOR
// d (16, 8) += a (16, 16) · b (16, 8) by one warp; fragments as in the PTX manual's mma.m16n8k16.
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// By the intrinsic, not by inline PTX: the compiler sees through it and folds constant offsets into the instruction.
__device__ __forceinline__ unsigned shared_address(const void* pointer) { return (unsigned)__cvta_generic_to_shared(pointer); }

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
