// Modules, their kernels, and launches.
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "driver.hpp"
#include "grid.hpp"
#include "image.hpp"
#include "process.hpp"

namespace emulator {
namespace {

// The size of the thread-local storage of the library that holds an address.
std::size_t thread_local_bytes(void* address) {
  struct Search {
    std::uintptr_t address;
    std::size_t bytes;
  } search{reinterpret_cast<std::uintptr_t>(address), 0};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& wanted = *static_cast<Search*>(data);
        bool here = false;
        std::size_t bytes = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          const std::uintptr_t start = info->dlpi_addr + header.p_vaddr;
          if (header.p_type == PT_LOAD && wanted.address >= start && wanted.address < start + header.p_memsz)
            here = true;
          if (header.p_type == PT_TLS) bytes = header.p_memsz;
        }
        if (here) wanted.bytes = bytes;
        return here ? 1 : 0;
      },
      &search);
  return search.bytes;
}

// Static shared memory holds nothing at a block's start: this OS thread's copy is filled with NaN.
void poison_static_shared(const Module& module) {
  module.touch();
  void* storage = nullptr;
  if (dlinfo(module.library, RTLD_DI_TLS_DATA, &storage) == 0 && storage != nullptr)
    std::memset(storage, poison, module.shared_bytes);
}

// Owns copies of the arguments, so that a captured launch can be repeated.
struct Arguments {
  std::vector<unsigned char> bytes;
  std::vector<void*> pointers;
};

CUresult check_pointers(const Kernel& kernel, const Arguments& arguments) {
  for (std::size_t i = 0; i < kernel.parameter_count; ++i) {
    if (!kernel.parameters[i].is_pointer) continue;
    void* pointer;
    std::memcpy(&pointer, arguments.pointers[i], sizeof pointer);
    // An empty slice may start at an allocation's end; what is read through a pointer is guarded by the memory itself.
    if (pointer == nullptr || DeviceMemory::get().holds(pointer, 0)) continue;
    return refuse(CUDA_ERROR_ILLEGAL_ADDRESS, "kernel %s: argument %zu, %p, is %s", kernel.name, i, pointer,
                  DeviceMemory::get().in_arena(pointer) ? "a pointer to freed memory or between allocations"
                                                        : "a pointer to memory of the host");
  }
  return CUDA_SUCCESS;
}

CUresult check_shape(const Function& function, const Index& grid, const Index& block, std::size_t shared_bytes) {
  const char* name = function.kernel->name;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) {
    return refuse(CUDA_ERROR_INVALID_VALUE,
                  "kernel %s: a grid of (%u, %u, %u) blocks; accepted are 1 to (2147483647, 65535, 65535)", name,
                  grid.x, grid.y, grid.z);
  }
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || block.x > 1024 || block.y > 1024 || block.z > 64 || threads > most_threads) {
    return refuse(CUDA_ERROR_INVALID_VALUE,
                  "kernel %s: a block of (%u, %u, %u) threads; accepted are 1 to 1024, at most 64 along z", name,
                  block.x, block.y, block.z);
  }
  if (function.kernel->most_threads != 0 && threads > function.kernel->most_threads) {
    return refuse(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
                  "kernel %s: a block of %llu threads, but its __launch_bounds__ are %u", name,
                  static_cast<unsigned long long>(threads), function.kernel->most_threads);
  }
  if (shared_bytes > function.most_dynamic_shared) {
    return refuse(CUDA_ERROR_INVALID_VALUE,
                  "kernel %s: %zu bytes of dynamic shared memory, but %zu are allowed (MAX_DYNAMIC_SHARED_SIZE_BYTES)",
                  name, shared_bytes, function.most_dynamic_shared);
  }
  return CUDA_SUCCESS;
}

CUresult load(void** handle, const ImageHeader& header, const char* library_bytes) {
  std::string path = temporary_template();
  const int file = mkstemp(path.data());
  if (file < 0) return refuse(CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadData: no temporary file");
  std::size_t written = 0;
  while (written < header.bytes) {
    const ssize_t count = write(file, library_bytes + written, header.bytes - written);
    if (count <= 0) break;
    written += static_cast<std::size_t>(count);
  }
  close(file);
  void* library = written == header.bytes ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  const char* reason = written == header.bytes ? dlerror() : "the disk is full";
  unlink(path.c_str());
  if (library == nullptr)
    return refuse(CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadData: %s", reason == nullptr ? "cannot be loaded" : reason);
  const auto* kernels = static_cast<const Kernel*>(dlsym(library, "finegrain_emulator_kernels"));
  const auto* count = static_cast<const std::size_t*>(dlsym(library, "finegrain_emulator_kernel_count"));
  auto touch = reinterpret_cast<void* (*)()>(dlsym(library, "finegrain_emulator_touch"));
  if (kernels == nullptr || count == nullptr || touch == nullptr)
    return refuse(CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadData: the library has no table of kernels");
  auto* module = new Module{library, thread_local_bytes(reinterpret_cast<void*>(touch)), touch, {}};
  for (std::size_t i = 0; i < *count; ++i) {
    module->functions.push_back(std::make_unique<Function>(Function{module, &kernels[i]}));
    Driver::get().functions.insert(module->functions.back().get());
  }
  Driver::get().modules.insert(module);
  *handle = module;
  return CUDA_SUCCESS;
}

Function* find_function(void* handle, const char* call) {
  if (Driver::get().functions.count(handle) != 0) return static_cast<Function*>(handle);
  refuse(CUDA_ERROR_INVALID_HANDLE, "%s: %p is no function of a loaded module", call, handle);
  return nullptr;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EMULATOR_API unsigned long long finegrain_emulator_launches() {
  const Guard guard(Driver::get().mutex);
  return Driver::get().launches;
}

EMULATOR_API CUresult cuModuleLoadData(void** module, const void* image) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuModuleLoadData")) return error;
  ImageHeader header;
  std::memcpy(header.magic, image, sizeof header.magic);
  if (std::memcmp(header.magic, image_magic, sizeof image_magic) != 0) {
    return refuse(CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadData: the image does not come from the emulated NVRTC");
  }
  std::memcpy(&header, image, sizeof header);
  if (std::strncmp(header.build, FINEGRAIN_EMULATOR_BUILD, sizeof header.build) != 0) {
    return refuse(CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadData: the image comes from another build of the emulator");
  }
  if (header.is_ptx != 0 ? header.architecture > 90 : header.architecture / 10 != 9) {
    return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, "cuModuleLoadData: compiled for %s%u, but the device is sm_90",
                  header.is_ptx != 0 ? "compute_" : "sm_", header.architecture);
  }
  return load(module, header, static_cast<const char*>(image) + sizeof header);
}
EMULATOR_API CUresult cuModuleUnload(void* handle) {
  const Guard guard(Driver::get().mutex);
  if (Driver::get().modules.erase(handle) == 0)
    return refuse(CUDA_ERROR_INVALID_HANDLE, "cuModuleUnload: %p is no module", handle);
  auto* module = static_cast<Module*>(handle);
  for (const auto& function : module->functions) Driver::get().functions.erase(function.get());
  dlclose(module->library);
  delete module;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuModuleGetFunction(void** function, void* handle, const char* name) {
  const Guard guard(Driver::get().mutex);
  if (Driver::get().modules.count(handle) == 0)
    return refuse(CUDA_ERROR_INVALID_HANDLE, "cuModuleGetFunction: %p is no module", handle);
  for (const auto& candidate : static_cast<Module*>(handle)->functions) {
    if (std::strcmp(candidate->kernel->name, name) != 0) continue;
    *function = candidate.get();
    return CUDA_SUCCESS;
  }
  return refuse(CUDA_ERROR_NOT_FOUND, "cuModuleGetFunction: the module has no kernel extern \"C\" __global__ void %s",
                name);
}
EMULATOR_API CUresult cuFuncSetAttribute(void* handle, int attribute, int value) {
  const Guard guard(Driver::get().mutex);
  Function* function = find_function(handle, "cuFuncSetAttribute");
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (attribute == 8) {
    if (value < 0 || static_cast<std::size_t>(value) > most_shared) {
      return refuse(CUDA_ERROR_INVALID_VALUE,
                    "cuFuncSetAttribute: %d bytes of dynamic shared memory for kernel %s; the most is %zu", value,
                    function->kernel->name, most_shared);
    }
    function->most_dynamic_shared = static_cast<std::size_t>(value);
    return CUDA_SUCCESS;
  }
  if (attribute == 9 && value >= -1 && value <= 100) return CUDA_SUCCESS;  // a hint: the share of shared memory
  return refuse(CUDA_ERROR_INVALID_VALUE, "cuFuncSetAttribute: attribute %d, value %d", attribute, value);
}
EMULATOR_API CUresult cuFuncGetAttribute(int* value, int attribute, void* handle) {
  const Guard guard(Driver::get().mutex);
  const Function* function = find_function(handle, "cuFuncGetAttribute");
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  switch (attribute) {
    case 0:
      *value = function->kernel->most_threads != 0 ? static_cast<int>(function->kernel->most_threads) : 1024;
      break;
    case 4: *value = 32; break;  // registers: unknown here
    case 5:
    case 6: *value = 90; break;
    case 8: *value = static_cast<int>(function->most_dynamic_shared); break;
    default: *value = 0; break;
  }
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuFuncSetCacheConfig(void* handle, int) {
  return find_function(handle, "cuFuncSetCacheConfig") == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}
EMULATOR_API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int threads,
                                                                  std::size_t shared_bytes) {
  if (find_function(handle, "cuOccupancyMaxActiveBlocksPerMultiprocessor") == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (threads <= 0) return CUDA_ERROR_INVALID_VALUE;
  *blocks = std::min(std::min(32, 2048 / threads), static_cast<int>((std::size_t{228} << 10) / (shared_bytes + 1024)));
  return CUDA_SUCCESS;
}

EMULATOR_API CUresult cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                     unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream,
                                     void** parameters, void** extra) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuLaunchKernel")) return error;
  const Function* function = find_function(handle, "cuLaunchKernel");
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const Kernel& kernel = *function->kernel;
  const Index grid{grid_x, grid_y, grid_z};
  const Index block{block_x, block_y, block_z};
  if (const CUresult error = check_shape(*function, grid, block, shared_bytes)) return error;
  if (extra != nullptr || (parameters == nullptr && kernel.parameter_count != 0)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "kernel %s: arguments are taken as an array of pointers only", kernel.name);
  }
  auto arguments = std::make_shared<Arguments>();
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < kernel.parameter_count; ++i) bytes += (kernel.parameters[i].bytes + 15) / 16 * 16;
  arguments->bytes.resize(bytes + 1);
  std::size_t offset = 0;
  for (std::size_t i = 0; i < kernel.parameter_count; ++i) {
    arguments->pointers.push_back(&arguments->bytes[offset]);
    std::memcpy(arguments->pointers.back(), parameters[i], kernel.parameters[i].bytes);
    offset += (kernel.parameters[i].bytes + 15) / 16 * 16;
  }
  const Module* module = function->module;
  return submit(stream, "cuLaunchKernel", [=, &kernel]() -> CUresult {
    if (const CUresult error = check_pointers(kernel, *arguments)) return error;
    ++Driver::get().launches;
    const Launch launch{kernel.name, kernel.call, grid, block, shared_bytes, arguments->pointers.data(), [module] {
                          poison_static_shared(*module);
                        }};
    return run_grid(launch) ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED;
  });
}
