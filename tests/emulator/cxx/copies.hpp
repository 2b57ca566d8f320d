// The asynchronous copies of one lane, in groups, as cp.async makes them.
#pragma once

#include <cstring>
#include <vector>

#include "order.hpp"

namespace emulator {

class Copies {
 public:
  void reset(Order order, std::uint64_t seed) {
    order_ = order;
    random_ = seed;
    waiting_.clear();
    group_ = 0;
  }
  // Forward: made at once. Backward: at the last moment. Shuffle: either, by a draw for every copy.
  void start(void* to, const void* from) {
    const bool late = order_ == Order::backward || (order_ == Order::shuffle && (mix(random_++) & 1) != 0);
    if (late) waiting_.push_back({to, from, group_});
    else std::memcpy(to, from, bytes);
  }
  void commit() { ++group_; }
  // Makes what belongs to all committed groups but the last `under_way`. What was started after the last commit is not
  // waited for: no wait covers it.
  void wait(unsigned under_way) {
    std::size_t kept = 0;
    for (const Copy& copy : waiting_) {
      if (copy.group + under_way < group_) std::memcpy(copy.to, copy.from, bytes);
      else waiting_[kept++] = copy;
    }
    waiting_.resize(kept);
  }

 private:
  static constexpr std::size_t bytes = 16;
  struct Copy {
    void* to;
    const void* from;
    unsigned group;
  };
  Order order_ = Order::forward;
  std::uint64_t random_ = 0;
  unsigned group_ = 0;
  std::vector<Copy> waiting_;
};

}  // namespace emulator
