// From CUDA's array of pointers to arguments to a call of the kernel, and a description of the kernel's parameters.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace emulator {

struct Parameter {
  std::size_t bytes;
  bool is_pointer;
};

struct Kernel {
  const char* name;
  void (*call)(void** arguments);
  const Parameter* parameters;
  std::size_t parameter_count;
  unsigned most_threads;  // of __launch_bounds__; 0: none
};

template <class Function, Function function>
struct Unpack;

template <class... Arguments, void (*function)(Arguments...)>
struct Unpack<void (*)(Arguments...), function> {
  static constexpr std::size_t count = sizeof...(Arguments);
  // One more than there are, so that a kernel without parameters has an array, too.
  static constexpr Parameter parameters[count + 1] = {{sizeof(Arguments), std::is_pointer_v<Arguments>}..., {0, false}};

  static void call(void** arguments) { call(arguments, std::index_sequence_for<Arguments...>{}); }

 private:
  template <std::size_t... i>
  static void call(void** arguments, std::index_sequence<i...>) {
    function(*static_cast<std::remove_cv_t<Arguments>*>(arguments[i])...);
  }
};

template <class Function, Function function>
constexpr Kernel describe_kernel(const char* name, unsigned most_threads = 0) {
  using Unpacked = Unpack<Function, function>;
  return {name, &Unpacked::call, Unpacked::parameters, Unpacked::count, most_threads};
}

}  // namespace emulator
