#include "shared_services.hpp"

#include "driver.hpp"
#include "grid.hpp"

namespace emulator::services {

int submit(void* stream, const char* call, std::function<int()> operation) {
  return emulator::submit(stream, call, std::move(operation));
}

bool check_range(const char* call, const char* what, const void* pointer, std::size_t bytes) {
  return check_device_range(call, what, reinterpret_cast<CUdeviceptr>(pointer), bytes) == CUDA_SUCCESS;
}

void over_all_threads(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  std::atomic<std::int64_t> next{0};
  Pool::get().run(static_cast<unsigned>(std::min<std::int64_t>(count, Pool::get().size())), [&](unsigned) {
    for (std::int64_t i = next++; i < count; i = next++) task(i);
  });
}

}  // namespace emulator::services
