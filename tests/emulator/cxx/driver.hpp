// The driver's objects and the way of every operation: run at once, in the order of the calls, or recorded where the
// stream is being captured. Handles are pointers to these objects; `Registry` knows which of them are alive.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "lane.hpp"
#include "memory.hpp"
#include "unpack.hpp"

#define EMULATOR_API extern "C" EMULATOR_EXPORT

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;

enum : CUresult {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
  CUDA_ERROR_MISALIGNED_ADDRESS = 716,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
  CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
  CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
  CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
  CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
  CUDA_ERROR_CAPTURED_EVENT = 907,
  CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
};

namespace emulator {

using Operation = std::function<CUresult()>;
using Operations = std::vector<Operation>;

enum CaptureMode : int { capture_global = 0, capture_thread_local = 1, capture_relaxed = 2 };
enum CaptureStatus : int { not_capturing = 0, capturing = 1, capture_invalidated = 2 };

struct Stream {
  bool legacy = false;    // the null stream, which waits for all blocking streams and they for it
  bool blocking = false;  // created without CU_STREAM_NON_BLOCKING
  CaptureStatus status = not_capturing;
  CaptureMode mode = capture_global;
  std::thread::id capturing_thread;
  std::shared_ptr<Operations> recorded;
};

struct Event {
  bool times = true;
  bool recorded = false;
  std::shared_ptr<Operations> captured_in;  // the capture that it was last recorded in, if that was one
  std::chrono::steady_clock::time_point time;
};

struct Graph {
  std::shared_ptr<Operations> operations;
};

struct Executable {
  std::shared_ptr<Operations> operations;
};

struct Module;

struct Function {
  Module* module;
  const Kernel* kernel;
  std::size_t most_dynamic_shared = 48 << 10;
};

struct Module {
  void* library;
  std::size_t shared_bytes;  // of its thread-local storage: the static shared memory of all its kernels
  void* (*touch)();          // makes this OS thread's storage
  std::vector<std::unique_ptr<Function>> functions;
};

// Everything the driver knows. One lock for all of it: calls of several threads run one after another.
struct Driver {
  std::recursive_mutex mutex;
  bool initialised = false;
  unsigned long long launches = 0;
  std::unordered_set<void*> streams, events, graphs, executables, modules, functions;
  Stream legacy, per_thread;

  static Driver& get() {
    static Driver& driver = *new Driver;  // outlives every thread
    return driver;
  }

 private:
  Driver() {
    legacy.legacy = true;
    legacy.blocking = true;
    per_thread.blocking = true;
  }
};

using Guard = std::lock_guard<std::recursive_mutex>;

// Says on stderr what was wrong with a call, and returns the error.
CUresult refuse(CUresult error, const char* format, ...) __attribute__((format(printf, 2, 3)));

// Success where the driver is initialised and a context is current on this thread, as nearly every call demands.
CUresult check_context(const char* call);

// The stream of a handle; null (after a message) if it is none.
Stream* find_stream(void* handle, const char* call);

// Runs the operation, or records it where the stream is being captured.
CUresult submit(void* stream, const char* call, Operation operation);

// What a call returns that may not be made while this thread captures (allocation, synchronous copies, whole-device waits).
// Such a call also invalidates the capture.
CUresult check_capture_forbids(const char* call);

CUresult check_device_range(const char* call, const char* what, CUdeviceptr address, std::size_t bytes);

}  // namespace emulator
