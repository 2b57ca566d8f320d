// A fiber: a stack with a guard page below it, and the switch from one to another. On x86-64 a switch is a dozen
// instructions; elsewhere ucontext does it, which saves the signal mask by a system call and is some fifty times slower.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if !defined(__x86_64__) || defined(FINEGRAIN_EMULATOR_UCONTEXT)
#define FINEGRAIN_EMULATOR_UCONTEXT 1  // may be asked for anywhere, to try it
#include <ucontext.h>
#endif

namespace emulator {

constexpr std::size_t stack_bytes = 256 << 10;  // of address space: memory is taken as it is touched
constexpr std::size_t stack_guard = 4096 * 16;  // no smaller than a page anywhere
constexpr std::size_t stack_stagger = 4096;     // see new_stack

#if !defined(FINEGRAIN_EMULATOR_UCONTEXT)

using Context = void*;  // the stack pointer, below which the saved registers lie

extern "C" void finegrain_emulator_switch(Context* save, Context load)
    __attribute__((visibility("hidden")));  // local to its object file
// The registers that a callee must keep, in the System V ABI. Kernels do not change the floating-point control words.
asm(R"(
.pushsection .text
.type finegrain_emulator_switch, @function
finegrain_emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size finegrain_emulator_switch, . - finegrain_emulator_switch
.popsection
)");

inline void switch_context(Context* save, Context* load) { finegrain_emulator_switch(save, *load); }

inline void prepare_context(Context* context, unsigned char* stack_end, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(stack_end);
  top[-1] = nullptr;  // where a return address would be: the entry never returns
  top[-2] = reinterpret_cast<void*>(entry);
  for (int i = 3; i <= 8; ++i) top[-i] = nullptr;  // the six registers
  *context = top - 8;
}

#else

using Context = ucontext_t;

inline void switch_context(Context* save, Context* load) { swapcontext(save, load); }

inline void prepare_context(Context* context, unsigned char* stack_end, void (*entry)()) {
  getcontext(context);
  context->uc_stack.ss_sp = stack_end - stack_bytes;
  context->uc_stack.ss_size = stack_bytes;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
}

#endif

// A region [guard | stack]; returns the stack's end. Never given back: workers keep their stacks. Ends are staggered by the
// stack's number, because equal lanes use equal depths, and addresses that are equal modulo 4096 fight for the cache.
inline unsigned char* new_stack(std::size_t number) {
  constexpr std::size_t bytes = stack_bytes + stack_stagger;
  void* region = mmap(nullptr, stack_guard + bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) {
    std::perror("finegrain emulator: no address space for a thread's stack");
    std::abort();
  }
  auto* start = static_cast<unsigned char*>(region) + stack_guard;
  if (mprotect(start, bytes, PROT_READ | PROT_WRITE) != 0) {
    std::perror("finegrain emulator: no memory for a thread's stack");
    std::abort();
  }
  return start + stack_bytes + number * 320 % stack_stagger / 64 * 64;
}

// Whether an address is in the guard of the stack that ends here.
inline bool in_stack_guard(const unsigned char* stack_end, std::uintptr_t address) {
  const std::uintptr_t start =
      (reinterpret_cast<std::uintptr_t>(stack_end) - stack_bytes) / stack_stagger * stack_stagger;
  return address < start && address >= start - stack_guard;
}

}  // namespace emulator
