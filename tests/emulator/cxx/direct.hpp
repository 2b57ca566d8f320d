// Kernels and a C++ main in one file, without the driver:
//
//     #include "direct.hpp"
//     #include "attention.cu"
//     int main() {
//         emulator::Buffer<float> x(n);                                  // guarded, filled with NaN
//         bool done = EMULATOR_LAUNCH(kernel, grid, block, shared_bytes, x.data(), n);
//     }
//
// c++ -std=c++17 -O2 -ffp-contract=off -pthread -I tests/emulator/cxx main.cpp -o main
// One translation unit of a program includes this.
#pragma once

#include <cstdio>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "runtime.cpp"
#include "unpack.hpp"

#include "device.hpp"

namespace emulator {

// Memory of the device for `count` values.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t count)
      : data_(static_cast<T*>(DeviceMemory::get().allocate(count * sizeof(T)))), count_(count) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    if (count_ != 0) std::memcpy(data_, values.data(), count_ * sizeof(T));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { DeviceMemory::get().free(data_); }
  T* data() { return data_; }
  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) { return data_[i]; }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + count_); }

 private:
  T* data_;
  std::size_t count_;
};

template <class Function, Function function>
struct Direct;

template <class... Arguments, void (*function)(Arguments...)>
struct Direct<void (*)(Arguments...), function> {
  // Runs the kernel with its arguments converted to its types. False, with a message on stderr, if the launch failed.
  static bool launch(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes,
                     std::remove_cv_t<Arguments>... arguments) {
    void* pointers[sizeof...(Arguments) + 1] = {const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
    const std::size_t threads = std::size_t{block.x} * block.y * block.z;
    if (threads == 0 || threads > most_threads || shared_bytes > most_shared || grid.x == 0 || grid.y == 0 ||
        grid.z == 0) {
      std::fprintf(
          stderr, "finegrain emulator: kernel %s: no GPU takes this launch (%zu threads, %zu bytes of shared memory)\n",
          name, threads, shared_bytes);
      return false;
    }
    return run_grid({name,
                     &Unpack<void (*)(Arguments...), function>::call,
                     {grid.x, grid.y, grid.z},
                     {block.x, block.y, block.z},
                     shared_bytes,
                     pointers,
                     nullptr});
  }
};

}  // namespace emulator

// EMULATOR_LAUNCH(kernel, grid, block, shared_bytes, arguments…).
#define EMULATOR_LAUNCH(kernel, ...) emulator::Direct<decltype(&kernel), &kernel>::launch(#kernel, __VA_ARGS__)
