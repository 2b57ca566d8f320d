// Allocation, copies, fills. Every range is checked against the live allocations before anything is touched.
#include <cstring>

#include "driver.hpp"

namespace emulator {

CUresult check_device_range(const char* call, const char* what, CUdeviceptr address, std::size_t bytes) {
  const void* pointer = reinterpret_cast<const void*>(address);
  if (bytes == 0 || DeviceMemory::get().holds(pointer, bytes)) return CUDA_SUCCESS;
  const DeviceMemory& memory = DeviceMemory::get();
  if (!memory.in_arena(pointer))
    return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %s %p is no device pointer", call, what, pointer);
  const Allocation* near = memory.nearest(static_cast<std::uintptr_t>(address));
  if (near == nullptr) return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %s %p lies in no allocation", call, what, pointer);
  return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %s %p, %zu bytes, is not within the %s allocation of %zu bytes at %#zx",
                call, what, pointer, bytes, near->freed ? "freed" : "live", near->bytes,
                static_cast<std::size_t>(near->address));
}

namespace {

CUresult check_host_pointer(const char* call, const void* pointer, std::size_t bytes) {
  if (bytes == 0) return CUDA_SUCCESS;
  if (pointer == nullptr) return refuse(CUDA_ERROR_INVALID_VALUE, "%s: the host pointer is null", call);
  const Allocation* near = DeviceMemory::get().in_arena(pointer)
                               ? DeviceMemory::get().nearest(reinterpret_cast<std::uintptr_t>(pointer))
                               : nullptr;
  if (near != nullptr && !near->on_host)
    return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %p is a device pointer where a host pointer is needed", call, pointer);
  return CUDA_SUCCESS;
}

// Checks, then copies. The ranges are checked again when a captured copy is replayed: an allocation may be gone by then.
Operation copy(const char* call, CUdeviceptr device_to, void* host_to, CUdeviceptr device_from, const void* host_from,
               std::size_t bytes) {
  return [=]() -> CUresult {
    if (device_to != 0 || host_to == nullptr) {
      if (const CUresult error = check_device_range(call, "the destination", device_to, bytes)) return error;
    } else if (const CUresult error = check_host_pointer(call, host_to, bytes)) {
      return error;
    }
    if (device_from != 0 || host_from == nullptr) {
      if (const CUresult error = check_device_range(call, "the source", device_from, bytes)) return error;
    } else if (const CUresult error = check_host_pointer(call, host_from, bytes)) {
      return error;
    }
    void* to = device_to != 0 ? reinterpret_cast<void*>(device_to) : host_to;
    const void* from = device_from != 0 ? reinterpret_cast<const void*>(device_from) : host_from;
    if (bytes != 0) std::memmove(to, from, bytes);
    return CUDA_SUCCESS;
  };
}

template <class T>
Operation fill(const char* call, CUdeviceptr to, T value, std::size_t count) {
  return [=]() -> CUresult {
    if (to % sizeof(T) != 0)
      return refuse(CUDA_ERROR_INVALID_VALUE, "%s: the address is no multiple of %zu", call, sizeof(T));
    if (const CUresult error = check_device_range(call, "the destination", to, count * sizeof(T))) return error;
    auto* values = reinterpret_cast<T*>(to);
    for (std::size_t i = 0; i < count; ++i) values[i] = value;
    return CUDA_SUCCESS;
  };
}

CUresult allocate(const char* call, CUdeviceptr* address, std::size_t bytes) {
  if (bytes == 0) return refuse(CUDA_ERROR_INVALID_VALUE, "%s: no bytes are asked for", call);
  void* memory = DeviceMemory::get().allocate(bytes);
  *address = reinterpret_cast<CUdeviceptr>(memory);
  return memory == nullptr ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

CUresult release(const char* call, CUdeviceptr address) {
  if (DeviceMemory::get().free(reinterpret_cast<void*>(address))) return CUDA_SUCCESS;
  return refuse(CUDA_ERROR_INVALID_VALUE, "%s: no live allocation starts at %#llx", call, address);
}

// A call that waits for the device before it returns.
CUresult now(const char* call, const Operation& operation) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context(call)) return error;
  if (const CUresult error = check_capture_forbids(call)) return error;
  return operation();
}

// Allocation in a graph would be memory of the graph, which is not emulated.
CUresult refuse_capture(const char* call, void* handle) {
  Stream* stream = find_stream(handle, call);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->status == not_capturing) return CUDA_SUCCESS;
  stream->status = capture_invalidated;
  return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                "%s on a stream that is being captured: graphs that own memory are not emulated", call);
}

std::uint64_t release_threshold = 0;
int pool_object;

}  // namespace
}  // namespace emulator

using namespace emulator;

EMULATOR_API unsigned long long finegrain_emulator_peak_bytes(int reset) {
  return DeviceMemory::get().peak(reset != 0);
}

EMULATOR_API CUresult cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  if (const CUresult error = check_context("cuMemGetInfo")) return error;
  *total = DeviceMemory::get().total();
  *free = *total - DeviceMemory::get().live();
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuMemAlloc_v2(CUdeviceptr* address, std::size_t bytes) {
  return now("cuMemAlloc", [=] { return allocate("cuMemAlloc", address, bytes); });
}
EMULATOR_API CUresult cuMemFree_v2(CUdeviceptr address) {
  return now("cuMemFree", [=]() -> CUresult { return address == 0 ? CUDA_SUCCESS : release("cuMemFree", address); });
}
EMULATOR_API CUresult cuMemAllocAsync(CUdeviceptr* address, std::size_t bytes, void* stream) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuMemAllocAsync")) return error;
  if (const CUresult error = refuse_capture("cuMemAllocAsync", stream)) return error;
  return allocate("cuMemAllocAsync", address, bytes);
}
EMULATOR_API CUresult cuMemAllocFromPoolAsync(CUdeviceptr* address, std::size_t bytes, void*, void* stream) {
  return cuMemAllocAsync(address, bytes, stream);
}
EMULATOR_API CUresult cuMemFreeAsync(CUdeviceptr address, void* stream) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuMemFreeAsync")) return error;
  if (const CUresult error = refuse_capture("cuMemFreeAsync", stream)) return error;
  return release("cuMemFreeAsync", address);
}
EMULATOR_API CUresult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  return now("cuMemHostAlloc", [=]() -> CUresult {
    if (bytes == 0) return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemHostAlloc: no bytes are asked for");
    *pointer = DeviceMemory::get().allocate(bytes, true);
    return *pointer == nullptr ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
  });
}
EMULATOR_API CUresult cuMemAllocHost_v2(void** pointer, std::size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }
EMULATOR_API CUresult cuMemFreeHost(void* pointer) {
  return now("cuMemFreeHost", [=]() -> CUresult {
    if (DeviceMemory::get().free(pointer, true)) return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemFreeHost: no live page-locked allocation starts at %p", pointer);
  });
}

EMULATOR_API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, std::size_t bytes) {
  return now("cuMemcpyHtoD", copy("cuMemcpyHtoD", to, nullptr, 0, from, bytes));
}
EMULATOR_API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, std::size_t bytes) {
  return now("cuMemcpyDtoH", copy("cuMemcpyDtoH", 0, to, from, nullptr, bytes));
}
EMULATOR_API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
  return now("cuMemcpyDtoD", copy("cuMemcpyDtoD", to, nullptr, from, nullptr, bytes));
}
EMULATOR_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes, void* stream) {
  return submit(stream, "cuMemcpyHtoDAsync", copy("cuMemcpyHtoDAsync", to, nullptr, 0, from, bytes));
}
EMULATOR_API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, void* stream) {
  return submit(stream, "cuMemcpyDtoHAsync", copy("cuMemcpyDtoHAsync", 0, to, from, nullptr, bytes));
}
EMULATOR_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, void* stream) {
  return submit(stream, "cuMemcpyDtoDAsync", copy("cuMemcpyDtoDAsync", to, nullptr, from, nullptr, bytes));
}

EMULATOR_API CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, std::size_t count) {
  return now("cuMemsetD8", fill("cuMemsetD8", to, value, count));
}
EMULATOR_API CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, std::size_t count) {
  return now("cuMemsetD32", fill("cuMemsetD32", to, value, count));
}
EMULATOR_API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t count, void* stream) {
  return submit(stream, "cuMemsetD8Async", fill("cuMemsetD8Async", to, value, count));
}
EMULATOR_API CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, std::size_t count, void* stream) {
  return submit(stream, "cuMemsetD16Async", fill("cuMemsetD16Async", to, value, count));
}
EMULATOR_API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, std::size_t count, void* stream) {
  return submit(stream, "cuMemsetD32Async", fill("cuMemsetD32Async", to, value, count));
}

// One pool. It keeps nothing back: freed memory is inaccessible at once.
EMULATOR_API CUresult cuDeviceGetDefaultMemPool(void** pool, CUdevice device) {
  *pool = &pool_object;
  return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
EMULATOR_API CUresult cuDeviceGetMemPool(void** pool, CUdevice device) {
  return cuDeviceGetDefaultMemPool(pool, device);
}
EMULATOR_API CUresult cuMemPoolSetAttribute(void* pool, int attribute, void* value) {
  if (pool != &pool_object) return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemPoolSetAttribute: no pool of this driver");
  if (attribute == 4) release_threshold = *static_cast<std::uint64_t*>(value);
  else if (attribute == 8) DeviceMemory::get().peak(true);
  else if (attribute < 1 || attribute > 6)
    return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemPoolSetAttribute: attribute %d", attribute);
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuMemPoolGetAttribute(void* pool, int attribute, void* value) {
  if (pool != &pool_object) return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemPoolGetAttribute: no pool of this driver");
  auto& number = *static_cast<std::uint64_t*>(value);
  switch (attribute) {
    case 1:
    case 2:
    case 3: *static_cast<int*>(value) = 1; break;
    case 4: number = release_threshold; break;
    case 5:
    case 7: number = DeviceMemory::get().live(); break;
    case 6:
    case 8: number = DeviceMemory::get().peak(false); break;
    default: return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemPoolGetAttribute: attribute %d", attribute);
  }
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuMemPoolTrimTo(void* pool, std::size_t) {
  return pool == &pool_object ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
