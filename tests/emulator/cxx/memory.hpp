// Memory of the device as an electric fence: every allocation ends at an inaccessible page, starts filled with 0xFF bytes
// (a NaN in every float format), and becomes inaccessible when it is freed. Addresses are never used twice.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

namespace emulator {

constexpr std::uintptr_t page = 4096;
constexpr unsigned char poison = 0xFF;

struct Allocation {
  std::uintptr_t address = 0;
  std::size_t bytes = 0;  // as asked for
  bool on_host = false;   // page-locked host memory, which kernels may use as well
  bool freed = false;
  std::uintptr_t end() const { return address + bytes; }
};

class DeviceMemory {
 public:
  static DeviceMemory& get() {
    static DeviceMemory& memory = *new DeviceMemory;  // outlives every thread
    return memory;
  }

  // Null where it would exceed the device's memory.
  void* allocate(std::size_t bytes, bool on_host = false) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const std::size_t rounded = (bytes + 15) / 16 * 16;
    const std::size_t pages = (rounded + page - 1) / page * page;
    if (!on_host && (rounded > total_ || live_bytes_ > total_ - rounded)) return nullptr;
    if (pages + page > static_cast<std::size_t>(arena_end_ - next_)) {
      std::fprintf(stderr, "finegrain emulator: no address is left, because none is used twice\n");
      return nullptr;
    }
    if (mprotect(reinterpret_cast<void*>(next_), pages, PROT_READ | PROT_WRITE) != 0) {
      std::perror("finegrain emulator: no memory (a process has room for vm.max_map_count / 2 allocations)");
      return nullptr;
    }
    const std::uintptr_t address = next_ + pages - rounded;
    std::memset(reinterpret_cast<void*>(next_), poison, pages);
    next_ += pages + page;
    allocations_[address] = {address, bytes, on_host, false};
    if (!on_host) {
      live_bytes_ += rounded;
      if (live_bytes_ > peak_bytes_) peak_bytes_ = live_bytes_;
    }
    return reinterpret_cast<void*>(address);
  }

  // False where nothing live starts at this address.
  bool free(void* pointer, bool on_host = false) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const auto found = allocations_.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == allocations_.end() || found->second.freed || found->second.on_host != on_host) return false;
    const std::size_t rounded = (found->second.bytes + 15) / 16 * 16;
    const std::uintptr_t first = found->first / page * page;
    const std::size_t pages = (rounded + page - 1) / page * page;
    // A fresh inaccessible mapping in place gives the memory back and keeps the address reserved.
    if (pages != 0)
      mmap(reinterpret_cast<void*>(first), pages, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0);
    found->second.freed = true;
    if (!on_host) live_bytes_ -= rounded;
    return true;
  }

  // Whether [address, address + bytes) lies within one live allocation. Nothing lies everywhere: an empty range may also
  // start at an allocation's end.
  bool holds(const void* pointer, std::size_t bytes) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    auto found = allocations_.upper_bound(address);
    if (found == allocations_.begin()) return false;
    const Allocation& allocation = (--found)->second;
    return !allocation.freed && address <= allocation.end() && bytes <= allocation.end() - address;
  }

  // The live or freed allocation next to an address. Called by the handler of faults, so it takes no lock.
  const Allocation* nearest(std::uintptr_t address) const {
    const auto after = allocations_.upper_bound(address);
    const Allocation* best = after == allocations_.end() ? nullptr : &after->second;
    if (after != allocations_.begin()) {
      const Allocation& before = std::prev(after)->second;
      const std::uintptr_t gap = address < before.end() ? 0 : address - before.end();
      if (best == nullptr || gap <= best->address - address) best = &before;
    }
    return best;
  }

  bool in_arena(const void* pointer) const {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    return address >= arena_ && address < arena_end_;
  }

  std::size_t total() const { return total_; }
  std::size_t live() {
    const std::lock_guard<std::mutex> guard(mutex_);
    return live_bytes_;
  }
  std::size_t peak(bool reset) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const std::size_t peak = peak_bytes_;
    if (reset) peak_bytes_ = live_bytes_;
    return peak;
  }

 private:
  DeviceMemory() {
    if (const char* bytes = std::getenv("FINEGRAIN_EMULATOR_MEMORY")) total_ = std::strtoull(bytes, nullptr, 10);
    // Address space only: a process has 128 TiB of it. Halved where a limit forbids so much.
    for (std::size_t size = std::size_t{1} << 43; size >= (std::size_t{1} << 34); size /= 2) {
      void* region = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (region == MAP_FAILED) continue;
      arena_ = reinterpret_cast<std::uintptr_t>(region);
      arena_end_ = arena_ + size;
      next_ = arena_ + page;  // the first page guards the first allocation's start
      break;
    }
  }

  std::mutex mutex_;
  std::map<std::uintptr_t, Allocation> allocations_;
  std::uintptr_t arena_ = 0, arena_end_ = 0, next_ = 0;
  std::size_t total_ = std::size_t{2} << 30;
  std::size_t live_bytes_ = 0, peak_bytes_ = 0;
};

}  // namespace emulator
