// What libcuda does for libcublas: order (and capture) of work, checks of ranges, threads. C++ functions between two
// libraries of one compiler.
#pragma once

#include <cstdint>
#include <functional>

#include "lane.hpp"

namespace emulator::services {

// As a launch on this stream: run at once, or recorded if the stream is being captured. Returns a CUresult.
EMULATOR_EXPORT int submit(void* stream, const char* call, std::function<int()> operation);
// Whether the range is within one live allocation; says on stderr what is wrong where it is not.
EMULATOR_EXPORT bool check_range(const char* call, const char* what, const void* pointer, std::size_t bytes);
// Calls task(0), …, task(count - 1), on all OS threads.
EMULATOR_EXPORT void over_all_threads(std::int64_t count, const std::function<void(std::int64_t)>& task);

}  // namespace emulator::services
