// The order in which blocks of a grid, warps of a block and lanes of a warp run. CUDA promises none, so a kernel whose
// result depends on it lacks a barrier: FINEGRAIN_EMULATOR_ORDER = forward | backward | shuffle (default, fixed seed).
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulator {

enum class Order { forward, backward, shuffle };

// Read at every launch, so that one process can try all three.
inline Order order_from_environment() {
  const char* name = std::getenv("FINEGRAIN_EMULATOR_ORDER");
  if (name == nullptr || std::strcmp(name, "shuffle") == 0) return Order::shuffle;
  if (std::strcmp(name, "forward") == 0) return Order::forward;
  if (std::strcmp(name, "backward") == 0) return Order::backward;
  std::fprintf(stderr,
               "finegrain emulator: FINEGRAIN_EMULATOR_ORDER is '%s'; accepted are forward, backward, shuffle\n", name);
  std::abort();
}

// splitmix64: a stateless mix is all that a permutation of a block needs.
inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// A permutation of 0..count. A random start and a random stride that shares no factor with `count` cost little to set up
// and put every pair of neighbours in either order.
class Permutation {
 public:
  Permutation(Order order, std::uint64_t count, std::uint64_t seed) : count_(count) {
    if (order == Order::backward) {
      start_ = count - 1;
      stride_ = count - 1;  // −1 modulo count
    } else if (order == Order::shuffle && count > 1) {
      const std::uint64_t random = mix(seed);
      start_ = (random >> 32) % count;
      stride_ = 1 + static_cast<std::uint32_t>(random) % (count - 1);
      while (greatest_common_divisor(stride_, count) != 1) stride_ = stride_ + 1 == count ? 1 : stride_ + 1;
    }
    next_ = start_;
  }
  // The item at a position. 128 bits, because a grid may have more than 2³² blocks.
  std::uint64_t at(std::uint64_t position) const {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(position) * stride_ + start_) % count_);
  }
  // The items one after another: quicker, because lanes are counted here.
  unsigned next() {
    const std::uint64_t item = next_;
    next_ += stride_;
    if (next_ >= count_) next_ -= count_;
    return static_cast<unsigned>(item);
  }

 private:
  static std::uint64_t greatest_common_divisor(std::uint64_t a, std::uint64_t b) {
    while (b != 0) {
      const std::uint64_t rest = a % b;
      a = b;
      b = rest;
    }
    return a;
  }
  std::uint64_t count_;
  std::uint64_t start_ = 0;
  std::uint64_t stride_ = 1;
  std::uint64_t next_ = 0;
};

}  // namespace emulator
