// CUDA's keywords, built-in variables and vector types.
#pragma once

#define FINEGRAIN_EMULATOR 1

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// One block at a time runs on an OS thread, so a block's static shared memory is that thread's.
#define __shared__ static thread_local
// What `extern __shared__ __align__(16) unsigned char name[]` is on a GPU.
#define DYNAMIC_SHARED(name) unsigned char* const name = finegrain_emulator_lane->block->dynamic_shared

#define threadIdx (finegrain_emulator_lane->thread)
#define blockIdx (finegrain_emulator_lane->block->index)
#define blockDim (finegrain_emulator_lane->block->size)
#define gridDim (finegrain_emulator_lane->block->grid)
#define warpSize 32

#define EMULATOR_VECTOR2(T, name)                    \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; }; \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }
#define EMULATOR_VECTOR3(T, name) \
  struct name##3 { T x, y, z; };  \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }
// A vector's alignment is what a GPU demands of the address of a vector load; 16 bytes at most.
#define EMULATOR_VECTOR4(T, name)                                                    \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define EMULATOR_VECTORS(T, name) EMULATOR_VECTOR2(T, name) EMULATOR_VECTOR3(T, name) EMULATOR_VECTOR4(T, name)

EMULATOR_VECTORS(float, float)
EMULATOR_VECTORS(double, double)
EMULATOR_VECTORS(int, int)
EMULATOR_VECTORS(unsigned, uint)
EMULATOR_VECTORS(short, short)
EMULATOR_VECTORS(unsigned short, ushort)
EMULATOR_VECTORS(signed char, char)
EMULATOR_VECTORS(unsigned char, uchar)
EMULATOR_VECTORS(long long, longlong)
EMULATOR_VECTORS(unsigned long long, ulonglong)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define __builtin_assume(condition)
#define __nanosleep(nanoseconds)

// What device code may call without a header.
#define __trap() finegrain_emulator_fail("__trap()", __LINE__)
#undef assert
#define assert(condition) ((condition) ? (void)0 : finegrain_emulator_fail("assertion failed: " #condition, __LINE__))
