// The entry points that kernels call (lane.hpp).
#include "grid.hpp"

__thread const emulator::Lane* finegrain_emulator_lane __attribute__((tls_model("initial-exec"))) = nullptr;

extern "C" {

void finegrain_emulator_collective(const emulator::Collective* collective) {
  emulator::current_worker->wait(collective);
}

unsigned finegrain_emulator_barrier(const char* name, int line, emulator::Vote vote, unsigned predicate) {
  return emulator::current_worker->barrier(name, line, vote, predicate);
}

void finegrain_emulator_fail(const char* message, int line) { emulator::current_worker->fail(message, line); }

void finegrain_emulator_copy_start(void* shared, const void* global) {
  emulator::current_worker->copies().start(shared, global);
}

void finegrain_emulator_copy_commit() { emulator::current_worker->copies().commit(); }

void finegrain_emulator_copy_wait(unsigned groups_under_way) {
  emulator::current_worker->copies().wait(groups_under_way);
}

bool finegrain_emulator_is_global(const void* address) { return emulator::DeviceMemory::get().in_arena(address); }
}
