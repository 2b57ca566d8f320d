// What kernels reach by PTX on a GPU, with PTX's fragment layouts: mma.m16n8k16 (bf16, f32 sums), ldmatrix (m8n8, b16) and
// cp.async of 16 bytes. Lane = 4 · g + t below. Sources: the PTX ISA's sections on these instructions.
#pragma once

#include "warp.hpp"

namespace emulator {

inline float bf16_to_float(unsigned bits) {
  const unsigned wide = bits << 16;
  float value;
  __builtin_memcpy(&value, &wide, sizeof value);
  return value;
}

struct Mma {
  float* d;           // d[0], d[1]: row g, columns 2t, 2t + 1; d[2], d[3]: row g + 8
  const unsigned* a;  // pairs along k, the lower index in the lower half. a[0]: row g, k = 2t; a[1]: row g + 8, k = 2t;
                      // a[2]: row g, k = 2t + 8; a[3]: row g + 8, k = 2t + 8
  const unsigned* b;  // b[0]: k = 2t, column g; b[1]: k = 2t + 8, column g
};

// A tensor core keeps more bits in the sum of 16 products than f32 has; f64 stands for that. One rounding at the end.
__attribute__((no_sanitize("alignment", "bounds"))) inline void mma(void* const* operands, unsigned) {
  double a[16][16];
  double b[16][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const auto* mine = static_cast<const Mma*>(operands[lane]);
    const unsigned g = lane / 4;
    const unsigned t = lane % 4;
    for (unsigned half = 0; half < 2; ++half) {
      for (unsigned i = 0; i < 4; ++i)
        a[g + 8 * (i & 1)][2 * t + 8 * (i >> 1) + half] =
            static_cast<double>(bf16_to_float(mine->a[i] >> (16 * half) & 0xFFFFu));
      for (unsigned i = 0; i < 2; ++i)
        b[2 * t + 8 * i + half][g] = static_cast<double>(bf16_to_float(mine->b[i] >> (16 * half) & 0xFFFFu));
    }
  }
  double sums[16][8] = {};
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned k = 0; k < 16; ++k) {
      for (unsigned column = 0; column < 8; ++column) sums[row][column] += a[row][k] * b[k][column];
    }
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    float* d = static_cast<const Mma*>(operands[lane])->d;
    for (unsigned i = 0; i < 4; ++i)
      d[i] = static_cast<float>(static_cast<double>(d[i]) + sums[lane / 4 + 8 * (i >> 1)][2 * (lane % 4) + (i & 1)]);
  }
}

struct Ldmatrix {
  unsigned* r;          // r[i]: of matrix i, row g, columns 2t and 2t + 1; transposed: rows 2t and 2t + 1, column g
  const void* address;  // lane l: of row l % 8 of matrix l / 8; beyond the last matrix it is not read
};

template <unsigned matrices, bool transposed>
void ldmatrix(void* const* operands, unsigned) {
  unsigned short rows[matrices * 8][8];
  for (unsigned lane = 0; lane < matrices * 8; ++lane)
    __builtin_memcpy(rows[lane], static_cast<const Ldmatrix*>(operands[lane])->address, 16);
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned* r = static_cast<const Ldmatrix*>(operands[lane])->r;
    const unsigned g = lane / 4;
    const unsigned t = lane % 4;
    for (unsigned i = 0; i < matrices; ++i) {
      const auto* matrix = &rows[i * 8];
      const unsigned low = transposed ? matrix[2 * t][g] : matrix[g][2 * t];
      const unsigned high = transposed ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
      r[i] = low | high << 16;
    }
  }
}

inline void check_shared_row(const void* address, const char* what, int line) {
  if ((reinterpret_cast<unsigned long long>(address) & 15u) != 0) finegrain_emulator_fail(what, line);
  if (finegrain_emulator_is_global(address))
    finegrain_emulator_fail("an address of global memory is given where shared memory is needed", line);
}

template <unsigned matrices, bool transposed>
void load_matrices(const char* name, int line, unsigned* r, const void* address) {
  if (lane_number() < matrices * 8)
    check_shared_row(address, "ldmatrix: a row's address is no multiple of 16 bytes", line);
  Ldmatrix operands{r, address};
  together(name, line, 0xFFFFFFFFu, true, ldmatrix<matrices, transposed>, &operands);
}

}  // namespace emulator

inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                              int line = __builtin_LINE()) {
  emulator::Mma operands{d, a, b};
  emulator::together("mma_m16n8k16_bf16", line, 0xFFFFFFFFu, true, emulator::mma, &operands);
}

inline void ldmatrix_x4(unsigned (&r)[4], const void* shared_address, int line = __builtin_LINE()) {
  emulator::load_matrices<4, false>("ldmatrix_x4", line, r, shared_address);
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* shared_address, int line = __builtin_LINE()) {
  emulator::load_matrices<4, true>("ldmatrix_x4_trans", line, r, shared_address);
}
inline void ldmatrix_x2(unsigned (&r)[2], const void* shared_address, int line = __builtin_LINE()) {
  emulator::load_matrices<2, false>("ldmatrix_x2", line, r, shared_address);
}
inline void ldmatrix_x2_trans(unsigned (&r)[2], const void* shared_address, int line = __builtin_LINE()) {
  emulator::load_matrices<2, true>("ldmatrix_x2_trans", line, r, shared_address);
}

// When the copy is made depends on the order (order.hpp): at once, at the wait, or now and then, so that neither a read
// before the wait nor a copy over what is still being read goes unnoticed.
inline void copy_async_16(void* shared, const void* global, int line = __builtin_LINE()) {
  emulator::check_shared_row(shared, "copy_async_16: the shared address is no multiple of 16 bytes", line);
  if ((reinterpret_cast<unsigned long long>(global) & 15u) != 0) {
    finegrain_emulator_fail("copy_async_16: the global address is no multiple of 16 bytes", line);
  }
  finegrain_emulator_copy_start(shared, global);
}
inline void copy_async_commit() { finegrain_emulator_copy_commit(); }
template <int N>
void copy_async_wait() {
  static_assert(N >= 0, "a number of groups that may still be under way");
  finegrain_emulator_copy_wait(N);
}
