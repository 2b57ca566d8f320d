// What the emulated NVRTC hands out as a compiled program and cuModuleLoadData takes: a header, then a shared library.
#pragma once

#include <cstdint>

// Which sources this emulator was built from. A program that keeps images must not run one of other sources: its kernels
// hold the inline parts of that emulator.
#ifndef FINEGRAIN_EMULATOR_BUILD
#define FINEGRAIN_EMULATOR_BUILD "by hand"
#endif

namespace emulator {

constexpr char image_magic[8] = {'F', 'G', 'E', 'M', 'U', 'L', '0', '1'};

struct ImageHeader {
  char magic[8];
  char build[24];              // FINEGRAIN_EMULATOR_BUILD
  std::uint64_t bytes;         // of the library behind this header
  std::uint32_t architecture;  // 90 for sm_90
  std::uint32_t is_ptx;        // compiled for a virtual architecture, which later GPUs run as well
};

}  // namespace emulator
