// Atomic operations: blocks run on several OS threads, so they are atomic in earnest. Each returns the value before.
#pragma once

namespace emulator {
// Replaces *address by change(*address), as often as it takes until no other thread came between.
template <class T, class Change>
T replace(T* address, Change change) {
  T before;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  for (;;) {
    T after = change(before);
    if (__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return before;
  }
}
}  // namespace emulator

inline float atomicAdd(float* address, float value) {
  return emulator::replace(address, [=](float x) { return x + value; });
}
inline double atomicAdd(double* address, double value) {
  return emulator::replace(address, [=](double x) { return x + value; });
}

#define EMULATOR_ATOMICS(T)                                                                                  \
  inline T atomicAdd(T* address, T value) { return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST); }   \
  inline T atomicExch(T* address, T value) { return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST); } \
  inline T atomicOr(T* address, T value) { return __atomic_fetch_or(address, value, __ATOMIC_SEQ_CST); }     \
  inline T atomicAnd(T* address, T value) { return __atomic_fetch_and(address, value, __ATOMIC_SEQ_CST); }   \
  inline T atomicXor(T* address, T value) { return __atomic_fetch_xor(address, value, __ATOMIC_SEQ_CST); }   \
  inline T atomicMax(T* address, T value) {                                                                  \
    return emulator::replace(address, [=](T x) { return x > value ? x : value; });                           \
  }                                                                                                          \
  inline T atomicMin(T* address, T value) {                                                                  \
    return emulator::replace(address, [=](T x) { return x < value ? x : value; });                           \
  }                                                                                                          \
  inline T atomicCAS(T* address, T expected, T value) {                                                      \
    __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);       \
    return expected;                                                                                         \
  }

EMULATOR_ATOMICS(int)
EMULATOR_ATOMICS(unsigned)
EMULATOR_ATOMICS(unsigned long long)

inline int atomicSub(int* address, int value) { return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST); }
inline unsigned atomicSub(unsigned* address, unsigned value) {
  return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST);
}
inline float atomicExch(float* address, float value) {
  return emulator::replace(address, [=](float) { return value; });
}
inline unsigned atomicInc(unsigned* address, unsigned last) {
  return emulator::replace(address, [=](unsigned x) { return x >= last ? 0u : x + 1; });
}

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
