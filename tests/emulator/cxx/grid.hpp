// Runs a grid: its blocks over all OS threads, one launch at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "block.hpp"
#include "fault.hpp"

namespace emulator {

// OS threads that wait for work. The caller of `run` is one of them, so that a small launch wakes nobody.
class Pool {
 public:
  static Pool& get() {
    static Pool& pool = *new Pool;  // outlives every thread
    return pool;
  }
  // More than sixteen would not find room for a thousand stacks each among the 65 530 mappings of a Linux process.
  unsigned size() const { return size_; }

  // Calls task(0) … task(count - 1) at once and returns when all have returned. One caller at a time.
  void run(unsigned count, const std::function<void(unsigned)>& task) {
    const std::lock_guard<std::mutex> one(callers_);
    if (count > 1) {
      const std::lock_guard<std::mutex> guard(mutex_);
      while (started_ < size_ - 1) start_thread();
      task_ = &task;
      next_ = 1;
      count_ = count;
      unfinished_ = count - 1;
      wake_.notify_all();
    }
    task(0);
    if (count > 1) {
      std::unique_lock<std::mutex> lock(mutex_);
      finished_.wait(lock, [this] { return unfinished_ == 0; });
      task_ = nullptr;
    }
  }

 private:
  Pool() : size_(std::min(16u, std::max(1u, std::thread::hardware_concurrency()))) {}

  void start_thread() {
    ++started_;
    std::thread([this] {
      std::unique_lock<std::mutex> lock(mutex_);
      for (;;) {
        wake_.wait(lock, [this] { return task_ != nullptr && next_ < count_; });
        const unsigned index = next_++;
        const auto* task = task_;
        lock.unlock();
        (*task)(index);
        lock.lock();
        if (--unfinished_ == 0) finished_.notify_one();
      }
    }).detach();
  }

  const unsigned size_;
  std::mutex callers_, mutex_;
  std::condition_variable wake_, finished_;
  const std::function<void(unsigned)>* task_ = nullptr;
  unsigned started_ = 0, next_ = 0, count_ = 0, unfinished_ = 0;
};

struct Launch {
  const char* name;
  void (*kernel)(void** arguments);
  Index grid, size;
  std::size_t shared_bytes;
  void** arguments;
  // Fills the kernel's static shared memory on this OS thread, which is the module's thread-local storage. May be null.
  std::function<void()> before_block;
};

// False if the launch had to be given up; the reason is on stderr then.
inline bool run_grid(const Launch& launch) {
  static std::mutex one_launch;
  static std::vector<std::unique_ptr<Worker>>& workers = *new std::vector<std::unique_ptr<Worker>>;
  const std::lock_guard<std::mutex> guard(one_launch);
  install_fault_handler();
  if (workers.empty()) {
    for (unsigned i = 0; i < Pool::get().size(); ++i) workers.push_back(std::make_unique<Worker>());
  }
  running_kernel = launch.name;
  const Order order = order_from_environment();
  const std::uint64_t blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  const Permutation permutation(order, blocks, 0x5eed);
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex report;
  const auto threads = static_cast<unsigned>(std::min<std::uint64_t>(blocks, Pool::get().size()));
  Pool::get().run(threads, [&](unsigned index) {
    give_signal_stack();
    Worker& worker = *workers[index];
    current_worker = &worker;
    for (std::uint64_t position = next++; position < blocks && !failed; position = next++) {
      const std::uint64_t i = permutation.at(position);
      const Block block{
          {static_cast<unsigned>(i % launch.grid.x), static_cast<unsigned>(i / launch.grid.x % launch.grid.y),
           static_cast<unsigned>(i / launch.grid.x / launch.grid.y)},
          launch.size,
          launch.grid,
          nullptr};
      if (launch.before_block) launch.before_block();
      if (worker.run(block, launch.shared_bytes, order, i, launch.kernel, launch.arguments)) continue;
      const std::lock_guard<std::mutex> one(report);
      if (!failed.exchange(true)) {
        std::fprintf(stderr, "finegrain emulator: kernel %s, block (%u, %u, %u): %s\n", launch.name, block.index.x,
                     block.index.y, block.index.z, worker.problem.c_str());
      }
    }
    current_worker = nullptr;
  });
  return !failed;
}

}  // namespace emulator
