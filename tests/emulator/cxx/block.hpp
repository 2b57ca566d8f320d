// Runs one block: every lane is a fiber, warps run one after another as far as they can, and the waits of lanes are
// resolved here. What cannot be resolved is divergence, which ends the launch with a description.
#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <string>
#include <vector>

#include "copies.hpp"
#include "fiber.hpp"
#include "lane.hpp"
#include "memory.hpp"
#include "order.hpp"

namespace emulator {

constexpr unsigned warp_size = 32;
constexpr unsigned most_threads = 1024;
constexpr std::size_t most_shared = 227 << 10;
constexpr std::size_t shared_region = (most_shared + page - 1) / page * page;  // so that its end is a page's end

enum class State : unsigned char { fresh, ready, at_collective, at_barrier, done };

struct Fiber {
  Lane lane{};
  State state = State::done;
  Context context{};
  unsigned char* stack = nullptr;  // its end
  const Collective* collective = nullptr;
  const char* barrier = nullptr;
  int barrier_line = 0;
  Vote vote = Vote::none;
  unsigned predicate = 0;  // given to the barrier, then the barrier's result
  Copies copies;
};

// One OS thread's place to run blocks in. Stacks are handed to lanes as they start and come back as they end, so a kernel
// without barriers runs all its lanes on one warm stack.
class Worker {
 public:
  Worker() : fibers_(most_threads) {
    auto* region = static_cast<unsigned char*>(
        mmap(nullptr, shared_region + 2 * stack_guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (region == MAP_FAILED || mprotect(region + stack_guard, shared_region, PROT_READ | PROT_WRITE) != 0) {
      std::perror("finegrain emulator: no memory for shared memory");
      std::abort();
    }
    shared_end_ = region + stack_guard + shared_region;
  }

  // Runs the block from beginning to end. False, with `problem` written, if the launch has to be given up.
  bool run(const Block& block, std::size_t shared_bytes, Order order, std::uint64_t seed, void (*kernel)(void**),
           void** arguments) {
    block_ = block;
    const std::size_t rounded = (shared_bytes + 15) / 16 * 16;
    block_.dynamic_shared = shared_end_ - rounded;
    std::memset(block_.dynamic_shared, poison, rounded);
    kernel_ = kernel;
    arguments_ = arguments;
    problem.clear();
    threads_ = block.size.x * block.size.y * block.size.z;
    live_ = threads_;
    for (unsigned i = 0; i < threads_; ++i) {
      Fiber& fiber = fibers_[i];
      fiber.state = State::fresh;
      fiber.copies.reset(order, mix(seed + 2) + i * 0x10000u);
      fiber.lane = {{i % block.size.x, i / block.size.x % block.size.y, i / block.size.x / block.size.y}, i, &block_};
    }
    const unsigned warps = (threads_ + warp_size - 1) / warp_size;
    for (std::uint64_t phase = 0; live_ != 0 && problem.empty(); ++phase) {
      Permutation permutation(order, warps, mix(seed) + phase);
      for (unsigned i = 0; i < warps && problem.empty(); ++i)
        run_warp(permutation.next(), order, mix(seed + 1) + phase);
      if (live_ != 0 && problem.empty()) pass_barrier();
    }
    // Lanes of a launch that is given up are abandoned where they wait.
    for (unsigned i = 0; i < threads_; ++i) give_stack_back(fibers_[i]);
    return problem.empty();
  }

  // Called on a lane's stack.
  void wait(const Collective* collective) {
    current_->collective = collective;
    leave(State::at_collective);
  }
  unsigned barrier(const char* name, int line, Vote vote, unsigned predicate) {
    Fiber& fiber = *current_;
    fiber.barrier = name;
    fiber.barrier_line = line;
    fiber.vote = vote;
    fiber.predicate = predicate;
    leave(State::at_barrier);
    return fiber.predicate;
  }
  Copies& copies() { return current_->copies; }
  [[noreturn]] void fail(const char* message, int line) {
    describe("%s: %s, line %d", name_of(*current_).c_str(), message, line);
    leave(State::done);
    std::abort();  // a failed lane is not resumed
  }

  std::string problem;
  const Block& block() const { return block_; }
  const Fiber* current() const { return current_; }
  bool is_guard(std::uintptr_t address) const {  // of some lane's stack
    for (const unsigned char* stack : stacks_) {
      if (in_stack_guard(stack, address)) return true;
    }
    return false;
  }
  std::uintptr_t shared_end() const { return reinterpret_cast<std::uintptr_t>(shared_end_); }

 private:
  static void entry();

  void leave(State state) {
    Fiber& fiber = *current_;
    fiber.state = state;
    switch_context(&fiber.context, &scheduler_);
  }

  void resume(Fiber& fiber) {
    if (fiber.state == State::fresh) {
      if (free_stacks_.empty()) {
        stacks_.push_back(new_stack(stacks_.size()));
        free_stacks_.push_back(stacks_.back());
      }
      fiber.stack = free_stacks_.back();
      free_stacks_.pop_back();
      prepare_context(&fiber.context, fiber.stack, &Worker::entry);
    }
    current_ = &fiber;
    finegrain_emulator_lane = &fiber.lane;
    switch_context(&scheduler_, &fiber.context);
    current_ = nullptr;
    finegrain_emulator_lane = nullptr;
    if (fiber.state == State::done) {
      --live_;
      give_stack_back(fiber);
    }
  }

  void give_stack_back(Fiber& fiber) {
    if (fiber.stack != nullptr) free_stacks_.push_back(fiber.stack);
    fiber.stack = nullptr;
  }

  // Lets the lanes of a warp run until all of them have ended or wait at the block's barrier.
  void run_warp(unsigned warp, Order order, std::uint64_t seed) {
    const unsigned first = warp * warp_size;
    const unsigned lanes = std::min(warp_size, threads_ - first);
    for (;; ++seed) {
      Permutation permutation(order, lanes, mix(seed) + warp);
      for (unsigned i = 0; i < lanes; ++i) {
        Fiber& fiber = fibers_[first + permutation.next()];
        if (fiber.state != State::ready && fiber.state != State::fresh) continue;
        resume(fiber);
        if (!problem.empty()) return;
      }
      bool waiting = false;
      bool resolved = false;
      for (unsigned i = 0; i < lanes; ++i) {
        if (fibers_[first + i].state != State::at_collective) continue;
        waiting = true;
        if (resolve(first, lanes, i)) resolved = true;
        if (!problem.empty()) return;
      }
      if (!waiting) return;
      if (!resolved) return describe_divergence(first, lanes);
    }
  }

  // Runs the collective at which a lane waits, if all others that it names are there.
  bool resolve(unsigned first, unsigned lanes, unsigned lane) {
    const Collective& wanted = *fibers_[first + lane].collective;
    if ((wanted.mask >> lane & 1) == 0) {
      describe("%s calls %s, line %d, with mask %#010x, which does not name its own lane %u",
               name_of(fibers_[first + lane]).c_str(), wanted.name, wanted.line, wanted.mask, lane);
      return false;
    }
    void* operands[warp_size] = {};
    unsigned arrived = 0;
    for (unsigned i = 0; i < lanes; ++i) {
      if ((wanted.mask >> i & 1) == 0) continue;
      Fiber& fiber = fibers_[first + i];
      if (fiber.state == State::done) continue;
      if (fiber.state != State::at_collective) return false;
      const Collective& found = *fiber.collective;
      if (found.mask != wanted.mask || found.combine != wanted.combine || found.line != wanted.line) return false;
      operands[i] = found.operands;
      arrived |= 1u << i;
    }
    if (wanted.needs_all && arrived != wanted.mask) {
      describe("%s, line %d, in the warp of %s needs lanes %#010x, of which only %#010x exist or still run",
               wanted.name, wanted.line, name_of(fibers_[first + lane]).c_str(), wanted.mask, arrived);
      return false;
    }
    wanted.combine(operands, arrived);
    for (unsigned i = 0; i < lanes; ++i) {
      if ((arrived >> i & 1) != 0) fibers_[first + i].state = State::ready;
    }
    return true;
  }

  // Every live lane waits at a barrier: it must be the same one.
  void pass_barrier() {
    const Fiber* first = nullptr;
    unsigned count = 0;
    for (unsigned i = 0; i < threads_; ++i) {
      const Fiber& fiber = fibers_[i];
      if (fiber.state != State::at_barrier) continue;
      if (first == nullptr) first = &fiber;
      if (fiber.vote != first->vote || fiber.barrier_line != first->barrier_line) {
        return describe("%s waits at %s, line %d, but %s at %s, line %d", name_of(*first).c_str(), first->barrier,
                        first->barrier_line, name_of(fiber).c_str(), fiber.barrier, fiber.barrier_line);
      }
      count += fiber.predicate != 0 ? 1 : 0;
    }
    for (unsigned i = 0; i < threads_; ++i) {
      Fiber& fiber = fibers_[i];
      if (fiber.state != State::at_barrier) continue;
      fiber.predicate = fiber.vote == Vote::count ? count : fiber.vote == Vote::any ? count != 0 : count == live_;
      fiber.state = State::ready;
    }
  }

  void describe_divergence(unsigned first, unsigned lanes) {
    for (unsigned i = 0; i < lanes; ++i) {
      const Fiber& waiting = fibers_[first + i];
      if (waiting.state != State::at_collective) continue;
      const Collective& wanted = *waiting.collective;
      for (unsigned j = 0; j < lanes; ++j) {
        const Fiber& other = fibers_[first + j];
        if ((wanted.mask >> j & 1) == 0 || other.state == State::done) continue;
        if (other.state == State::at_barrier) {
          return describe("%s waits at %s, line %d, mask %#010x, for %s, which waits at %s, line %d",
                          name_of(waiting).c_str(), wanted.name, wanted.line, wanted.mask, name_of(other).c_str(),
                          other.barrier, other.barrier_line);
        }
        const Collective& found = *other.collective;
        if (found.mask != wanted.mask || found.combine != wanted.combine || found.line != wanted.line) {
          return describe("%s waits at %s, line %d, mask %#010x, for %s, which waits at %s, line %d, mask %#010x",
                          name_of(waiting).c_str(), wanted.name, wanted.line, wanted.mask, name_of(other).c_str(),
                          found.name, found.line, found.mask);
        }
      }
    }
    describe("lanes wait for each other for ever");
  }

  static std::string name_of(const Fiber& fiber) {
    const Index& thread = fiber.lane.thread;
    return "thread (" + std::to_string(thread.x) + ", " + std::to_string(thread.y) + ", " + std::to_string(thread.z) +
           ")";
  }

  __attribute__((format(printf, 2, 3))) void describe(const char* format, ...) {
    char text[512];
    va_list values;
    va_start(values, format);
    std::vsnprintf(text, sizeof text, format, values);
    va_end(values);
    problem = text;
  }

  Block block_{};
  void (*kernel_)(void**) = nullptr;
  void** arguments_ = nullptr;
  unsigned threads_ = 0;
  unsigned live_ = 0;
  std::vector<Fiber> fibers_;
  std::vector<unsigned char*> stacks_;
  std::vector<unsigned char*> free_stacks_;
  Fiber* current_ = nullptr;
  Context scheduler_{};
  unsigned char* shared_end_ = nullptr;
};

// The worker whose block runs on this OS thread.
inline thread_local Worker* current_worker = nullptr;

inline void Worker::entry() {
  Worker& worker = *current_worker;
  worker.kernel_(worker.arguments_);
  worker.leave(State::done);
  std::abort();  // a finished lane is not resumed
}

}  // namespace emulator
