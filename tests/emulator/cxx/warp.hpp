// Barriers of a block, and what the lanes of a warp do together: shuffles, votes, __syncwarp. The line of the call is part
// of every wait: lanes that wait at different lines do not wait for the same thing.
#pragma once

#include "lane.hpp"

inline void __syncthreads(int line = __builtin_LINE()) {
  finegrain_emulator_barrier("__syncthreads", line, emulator::Vote::none, 0);
}
inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
  return static_cast<int>(
      finegrain_emulator_barrier("__syncthreads_count", line, emulator::Vote::count, predicate != 0));
}
inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
  return static_cast<int>(finegrain_emulator_barrier("__syncthreads_or", line, emulator::Vote::any, predicate != 0));
}
inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
  return static_cast<int>(finegrain_emulator_barrier("__syncthreads_and", line, emulator::Vote::all, predicate != 0));
}

namespace emulator {

inline unsigned lane_number() { return finegrain_emulator_lane->number % 32; }

inline void together(const char* name, int line, unsigned mask, bool needs_all, void (*combine)(void* const*, unsigned),
                     void* operands) {
  const Collective collective{name, line, mask, needs_all, combine, operands};
  finegrain_emulator_collective(&collective);
}

template <class T>
struct Shuffle {
  T value;
  T result;
  unsigned source;
};

template <class T>
void shuffle_lanes(void* const* operands, unsigned arrived) {
  for (unsigned lane = 0; lane < 32; ++lane) {
    auto* mine = static_cast<Shuffle<T>*>(operands[lane]);
    if (mine == nullptr) continue;
    // The value of a lane that takes no part is undefined: all bits set, which is a NaN.
    if ((arrived >> mine->source & 1) == 0) __builtin_memset(&mine->result, 0xFF, sizeof(T));
    else mine->result = static_cast<Shuffle<T>*>(operands[mine->source])->value;
  }
}

template <class T>
T shuffle(const char* name, int line, unsigned mask, T value, unsigned source) {
  Shuffle<T> operands{value, value, source};
  together(name, line, mask, false, shuffle_lanes<T>, &operands);
  return operands.result;
}

struct Ballot {
  bool predicate;
  unsigned result;
};

inline void vote(void* const* operands, unsigned) {
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (operands[lane] != nullptr && static_cast<Ballot*>(operands[lane])->predicate) votes |= 1u << lane;
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (operands[lane] != nullptr) static_cast<Ballot*>(operands[lane])->result = votes;
  }
}

inline unsigned ballot(const char* name, int line, unsigned mask, bool predicate) {
  Ballot operands{predicate, 0};
  together(name, line, mask, false, vote, &operands);
  return operands.result;
}

inline void nothing(void* const*, unsigned) {}

}  // namespace emulator

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, int line = __builtin_LINE()) {
  emulator::together("__syncwarp", line, mask, false, emulator::nothing, nullptr);
}

// `width` splits the warp into segments, as in CUDA; a source outside of the own segment gives the own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
  const unsigned segment = emulator::lane_number() & ~static_cast<unsigned>(width - 1);
  return emulator::shuffle("__shfl_sync", line, mask, value,
                           segment | (static_cast<unsigned>(source) & static_cast<unsigned>(width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, int line = __builtin_LINE()) {
  const unsigned lane = emulator::lane_number();
  const unsigned source = (lane ^ static_cast<unsigned>(lanes)) & 31u;
  return emulator::shuffle("__shfl_xor_sync", line, mask, value,
                           source > (lane | static_cast<unsigned>(width - 1)) ? lane : source);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  const unsigned lane = emulator::lane_number();
  return emulator::shuffle("__shfl_down_sync", line, mask, value,
                           lane + delta > (lane | static_cast<unsigned>(width - 1)) ? lane : lane + delta);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  const unsigned lane = emulator::lane_number();
  return emulator::shuffle("__shfl_up_sync", line, mask, value,
                           (lane & static_cast<unsigned>(width - 1)) < delta ? lane : lane - delta);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return emulator::ballot("__ballot_sync", line, mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return emulator::ballot("__any_sync", line, mask, predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return emulator::ballot("__all_sync", line, mask, predicate == 0) == 0;
}
// Which lanes happen to run together is nothing that a correct kernel may depend on; here every lane runs alone.
inline unsigned __activemask() { return 1u << emulator::lane_number(); }
