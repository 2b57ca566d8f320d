// What kernels and the runtime share: one CUDA thread ("lane"), its block, and the three ways in which it waits.
// Kept free of heavy headers, because every kernel is compiled with it.
#pragma once

namespace emulator {

struct Index {
  unsigned x, y, z;
};

// The block that runs on this OS thread. One block at a time runs there, from its first thread to its last.
struct Block {
  Index index;
  Index size;
  Index grid;
  unsigned char* dynamic_shared;  // ends at a guard page
};

struct Lane {
  Index thread;
  unsigned number;  // thread's linear index in the block; number % 32 is the lane of the warp
  const Block* block;
};

// Something that lanes of a warp do together. Every lane brings a pointer to operands on its own stack; when all lanes
// of `mask` have arrived, `combine` runs once and writes each lane's result into that lane's operands. Lanes that have
// exited or never existed have a null pointer there.
struct Collective {
  const char* name;
  int line;
  unsigned mask;
  bool needs_all;  // every lane of the mask must take part: a tensor-core operation does not work with fewer
  void (*combine)(void* const* operands, unsigned arrived);
  void* operands;
};

enum class Vote : int { none, count, any, all };

}  // namespace emulator

#define EMULATOR_EXPORT __attribute__((visibility("default")))

extern "C" {
// The lane that runs on this OS thread. Lanes never change their OS thread, so its address may be kept across a wait.
extern __thread const emulator::Lane* finegrain_emulator_lane
    __attribute__((tls_model("initial-exec"), visibility("default")));

EMULATOR_EXPORT void finegrain_emulator_collective(const emulator::Collective* collective);
EMULATOR_EXPORT unsigned finegrain_emulator_barrier(const char* name, int line, emulator::Vote vote,
                                                    unsigned predicate);
// Ends the launch with CUDA_ERROR_LAUNCH_FAILED and this message; does not return.
[[noreturn]] EMULATOR_EXPORT void finegrain_emulator_fail(const char* message, int line);
// cp.async: a copy of 16 bytes that is done at some time between its start and the wait for its group.
EMULATOR_EXPORT void finegrain_emulator_copy_start(void* shared, const void* global);
EMULATOR_EXPORT void finegrain_emulator_copy_commit();
EMULATOR_EXPORT void finegrain_emulator_copy_wait(unsigned groups_under_way);
// Whether an address is global memory of the device (which shared memory is not).
EMULATOR_EXPORT bool finegrain_emulator_is_global(const void* address);
}
