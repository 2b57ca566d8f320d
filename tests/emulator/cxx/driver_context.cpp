// Initialisation, the one device and its attributes, contexts, names of errors.
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "driver.hpp"
#include "fault.hpp"

namespace emulator {

namespace {
int context_object;  // there is one context, whose handle is this address
thread_local void* current_context = nullptr;
}  // namespace

CUresult refuse(CUresult error, const char* format, ...) {
  char text[512];
  va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof text, format, values);
  va_end(values);
  std::fprintf(stderr, "finegrain emulator: %s (error %d)\n", text, error);
  return error;
}

CUresult check_context(const char* call) {
  if (!Driver::get().initialised) return refuse(CUDA_ERROR_NOT_INITIALIZED, "%s before cuInit", call);
  if (current_context == nullptr)
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "%s on a thread without a current context", call);
  return CUDA_SUCCESS;
}

namespace {

// What an H100 reports, except for the number of multiprocessors; 0 for what is not listed, as for an absent feature.
int attribute(int number) {
  switch (number) {
    case 1: return 1024;  // threads per block
    case 2:
    case 3: return 1024;        // block, x and y
    case 4: return 64;          // block, z
    case 5: return 2147483647;  // grid, x
    case 6:
    case 7: return 65535;
    case 8: return 48 << 10;     // shared memory per block
    case 9: return 64 << 10;     // constant memory
    case 10: return 32;          // warp
    case 11: return 2147483647;  // pitch
    case 12: return 65536;       // registers per block
    case 13: return 1980000;     // clock rate, kHz
    case 14: return 512;         // texture alignment
    case 16: return 4;           // multiprocessors
    case 19: return 1;           // maps host memory
    case 31: return 1;           // concurrent kernels
    case 36: return 2619000;     // memory clock rate, kHz
    case 37: return 5120;        // bus width
    case 38: return 50 << 20;    // level-2 cache
    case 39: return 2048;        // threads per multiprocessor
    case 40: return 3;           // asynchronous engines
    case 41: return 1;           // unified addressing
    case 75: return 9;           // compute capability
    case 76: return 0;
    case 78: return 1;  // stream priorities
    case 79:
    case 80: return 1;          // level-1 cache
    case 81: return 228 << 10;  // shared memory per multiprocessor
    case 82: return 65536;      // registers per multiprocessor
    case 97: return 227 << 10;  // shared memory per block, opted in to
    case 106: return 32;        // blocks per multiprocessor
    case 111: return 1024;      // reserved shared memory per block
    case 115: return 1;         // memory pools
    default: return 0;
  }
}

const char* error_name(CUresult error) {
  switch (error) {
    case CUDA_SUCCESS: return "CUDA_SUCCESS";
    case CUDA_ERROR_INVALID_VALUE: return "CUDA_ERROR_INVALID_VALUE";
    case CUDA_ERROR_OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
    case CUDA_ERROR_NOT_INITIALIZED: return "CUDA_ERROR_NOT_INITIALIZED";
    case CUDA_ERROR_INVALID_DEVICE: return "CUDA_ERROR_INVALID_DEVICE";
    case CUDA_ERROR_INVALID_IMAGE: return "CUDA_ERROR_INVALID_IMAGE";
    case CUDA_ERROR_INVALID_CONTEXT: return "CUDA_ERROR_INVALID_CONTEXT";
    case CUDA_ERROR_NO_BINARY_FOR_GPU: return "CUDA_ERROR_NO_BINARY_FOR_GPU";
    case CUDA_ERROR_INVALID_HANDLE: return "CUDA_ERROR_INVALID_HANDLE";
    case CUDA_ERROR_NOT_FOUND: return "CUDA_ERROR_NOT_FOUND";
    case CUDA_ERROR_ILLEGAL_ADDRESS: return "CUDA_ERROR_ILLEGAL_ADDRESS";
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: return "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES";
    case CUDA_ERROR_MISALIGNED_ADDRESS: return "CUDA_ERROR_MISALIGNED_ADDRESS";
    case CUDA_ERROR_LAUNCH_FAILED: return "CUDA_ERROR_LAUNCH_FAILED";
    case CUDA_ERROR_NOT_SUPPORTED: return "CUDA_ERROR_NOT_SUPPORTED";
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: return "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    case CUDA_ERROR_STREAM_CAPTURE_MERGE: return "CUDA_ERROR_STREAM_CAPTURE_MERGE";
    case CUDA_ERROR_STREAM_CAPTURE_UNMATCHED: return "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED";
    case CUDA_ERROR_STREAM_CAPTURE_ISOLATION: return "CUDA_ERROR_STREAM_CAPTURE_ISOLATION";
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT: return "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT";
    case CUDA_ERROR_CAPTURED_EVENT: return "CUDA_ERROR_CAPTURED_EVENT";
    case CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD: return "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD";
    default: return nullptr;
  }
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EMULATOR_API CUresult cuInit(unsigned flags) {
  if (flags != 0) return refuse(CUDA_ERROR_INVALID_VALUE, "cuInit: the flags are %u, not 0", flags);
  install_fault_handler();
  Driver::get().initialised = true;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuDriverGetVersion(int* version) {
  *version = 13000;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuGetErrorName(CUresult error, const char** text) {
  *text = error_name(error);
  return *text == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
EMULATOR_API CUresult cuGetErrorString(CUresult error, const char** text) { return cuGetErrorName(error, text); }

EMULATOR_API CUresult cuDeviceGetCount(int* count) {
  if (!Driver::get().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  *count = 1;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (!Driver::get().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  *device = 0;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
EMULATOR_API CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  std::snprintf(name, static_cast<std::size_t>(length), "finegrain CPU emulator");
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuDeviceGetUuid_v2(void* uuid, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  std::memcpy(uuid, "finegrainemulatr", 16);
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuDeviceGetUuid(void* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }
EMULATOR_API CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = DeviceMemory::get().total();
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuDeviceGetAttribute(int* value, int number, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  *value = attribute(number);
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  *major = attribute(75);
  *minor = attribute(76);
  return CUDA_SUCCESS;
}

EMULATOR_API CUresult cuDevicePrimaryCtxRetain(void** context, CUdevice device) {
  if (!Driver::get().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  *context = &context_object;
  return CUDA_SUCCESS;
}
// The context lives as long as the process: what a program forgot to free stays readable, unlike on a GPU.
EMULATOR_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
EMULATOR_API CUresult cuCtxGetCurrent(void** context) {
  *context = current_context;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuCtxSetCurrent(void* context) {
  if (context != nullptr && context != &context_object)
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "cuCtxSetCurrent: no context of this driver");
  current_context = context;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuCtxGetDevice(CUdevice* device) {
  *device = 0;
  return check_context("cuCtxGetDevice");
}
EMULATOR_API CUresult cuCtxSetFlags(unsigned) { return check_context("cuCtxSetFlags"); }
EMULATOR_API CUresult cuCtxSetCacheConfig(int) { return check_context("cuCtxSetCacheConfig"); }
EMULATOR_API CUresult cuCtxSetLimit(int, std::size_t) { return check_context("cuCtxSetLimit"); }
EMULATOR_API CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return check_context("cuCtxGetStreamPriorityRange");
}
EMULATOR_API CUresult cuCtxSynchronize() {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuCtxSynchronize")) return error;
  for (void* handle : Driver::get().streams) {
    auto* stream = static_cast<Stream*>(handle);
    if (stream->status != capturing) continue;
    stream->status = capture_invalidated;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuCtxSynchronize while a stream is being captured");
  }
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuProfilerStart() { return CUDA_SUCCESS; }
EMULATOR_API CUresult cuProfilerStop() { return CUDA_SUCCESS; }
