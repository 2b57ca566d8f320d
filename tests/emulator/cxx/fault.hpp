// A fault in emulated device code is explained: which kernel, block and thread, which address, next to which allocation.
#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iterator>

#include <unistd.h>

#include "block.hpp"
#include "memory.hpp"

namespace emulator {

inline const char* running_kernel = "?";
inline struct sigaction previous_segv, previous_bus;

inline void explain_address(char* text, std::size_t size, std::uintptr_t address) {
  const DeviceMemory& memory = DeviceMemory::get();
  if (const Worker* worker = current_worker) {
    if (worker->is_guard(address)) {
      std::snprintf(text, size, "beyond its stack of %zu KiB: too many or too large local arrays, or recursion",
                    stack_bytes >> 10);
      return;
    }
    if (address >= worker->shared_end() && address < worker->shared_end() + stack_guard) {
      std::snprintf(text, size, "%zu bytes behind the end of the block's dynamic shared memory",
                    static_cast<std::size_t>(address - worker->shared_end()));
      return;
    }
  }
  const Allocation* near = memory.in_arena(reinterpret_cast<void*>(address)) ? memory.nearest(address) : nullptr;
  if (near == nullptr) {
    std::snprintf(text, size, "which is no memory of the device");
  } else if (address < near->address) {
    std::snprintf(text, size, "%zu bytes in front of the %s allocation of %zu bytes at %#zx",
                  static_cast<std::size_t>(near->address - address), near->freed ? "freed" : "live", near->bytes,
                  static_cast<std::size_t>(near->address));
  } else if (address < near->end()) {
    std::snprintf(text, size, "byte %zu of the %s allocation of %zu bytes at %#zx",
                  static_cast<std::size_t>(address - near->address), near->freed ? "freed" : "live", near->bytes,
                  static_cast<std::size_t>(near->address));
  } else {
    std::snprintf(text, size, "%zu bytes behind the end of the %s allocation of %zu bytes at %#zx",
                  static_cast<std::size_t>(address - near->end()), near->freed ? "freed" : "live", near->bytes,
                  static_cast<std::size_t>(near->address));
  }
}

// Formats and writes, which a handler must not do in general; here it interrupts a kernel's own load or store, never the
// C library, and the process ends right after.
inline void on_fault(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const Worker* worker = current_worker;
  if (worker == nullptr && !DeviceMemory::get().in_arena(info->si_addr)) {
    // Not ours: the program's own fault, handled as it would be without the emulator.
    const struct sigaction& previous = signal == SIGSEGV ? previous_segv : previous_bus;
    if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr)
      return previous.sa_sigaction(signal, info, context);
    std::signal(signal, SIG_DFL);
    return;  // the instruction faults again
  }
  char where[256];
  explain_address(where, sizeof where, address);
  char text[640];
  int length = 0;
  if (worker != nullptr && worker->current() != nullptr) {
    const Index& block = worker->block().index;
    const Index& thread = worker->current()->lane.thread;
    length = std::snprintf(
        text, sizeof text,
        "finegrain emulator: kernel %s, block (%u, %u, %u), thread (%u, %u, %u): illegal access to %p, %s\n",
        running_kernel, block.x, block.y, block.z, thread.x, thread.y, thread.z, info->si_addr, where);
  } else {
    length = std::snprintf(text, sizeof text, "finegrain emulator: illegal access to %p by the host or cuBLAS, %s\n",
                           info->si_addr, where);
  }
  if (write(STDERR_FILENO, text, static_cast<std::size_t>(length)) < 0) _exit(140);
  _exit(139);
}

inline void install_fault_handler() {
  static const bool installed = [] {
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &previous_segv);
    sigaction(SIGBUS, &action, &previous_bus);
    return true;
  }();
  (void)installed;
}

// A lane that overruns its stack leaves none to the handler: every OS thread that runs blocks needs a stack for signals.
inline void give_signal_stack() {
  stack_t present{};
  if (sigaltstack(nullptr, &present) == 0 && (present.ss_flags & SS_DISABLE) == 0 && present.ss_size >= 32 << 10)
    return;
  thread_local bool given = false;
  if (given) return;
  stack_t stack{};
  stack.ss_size = 64 << 10;
  stack.ss_sp = std::malloc(stack.ss_size);  // kept as long as the process
  sigaltstack(&stack, nullptr);
  given = true;
}

}  // namespace emulator
