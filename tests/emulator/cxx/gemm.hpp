// C = alpha · op(A) · op(B) + beta · C, column-major: tiles of C over all threads, panels of A and B widened to f32, sums of
// 256 products in f32 and those in f64, one rounding at the end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace emulator {

enum class Type { f32, bf16 };

inline std::size_t bytes_of(Type type) { return type == Type::f32 ? 4 : 2; }

struct Matrix {
  void* data;
  Type type;
  std::int64_t leading;     // elements from column to column
  std::int64_t stride = 0;  // elements from matrix to matrix of a batch
  bool transposed = false;
};

struct Gemm {
  std::int64_t m, n, k, batch;
  Matrix a, b, c;
  int mantissa_bits = 23;  // kept of f32 inputs: 10 where cuBLAS may use TF32, 7 where it may use bf16
};

inline float round_mantissa(float value, int bits) {
  std::uint32_t word;
  std::memcpy(&word, &value, 4);
  if (bits >= 23 || (word & 0x7f800000u) == 0x7f800000u) return value;
  const int dropped = 23 - bits;
  word += (1u << (dropped - 1)) - 1 + (word >> dropped & 1u);  // to nearest, ties to even
  word &= ~((1u << dropped) - 1);
  std::memcpy(&value, &word, 4);
  return value;
}

inline float widen(float value) { return value; }
inline float widen(std::uint16_t bits) {
  const std::uint32_t word = std::uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}
inline float load(const Matrix& matrix, std::int64_t index) {
  return matrix.type == Type::f32 ? static_cast<const float*>(matrix.data)[index]
                                  : widen(static_cast<const std::uint16_t*>(matrix.data)[index]);
}

inline void store(const Matrix& matrix, std::int64_t index, double value) {
  const auto narrow = static_cast<float>(value);
  if (matrix.type == Type::f32) {
    static_cast<float*>(matrix.data)[index] = narrow;
    return;
  }
  // From f64 by way of f32, as cuBLAS rounds its f32 sum.
  const float rounded = round_mantissa(narrow, 7);
  std::uint32_t word;
  std::memcpy(&word, &rounded, 4);
  static_cast<std::uint16_t*>(matrix.data)[index] = narrow != narrow ? 0x7fff : static_cast<std::uint16_t>(word >> 16);
}

constexpr std::int64_t tile_m = 64, tile_n = 64, tile_k = 256;
constexpr std::int64_t strip_m = 32, strip_n = 4;  // what the inner loop keeps in registers: 32 rows, 4 columns

#if defined(__x86_64__) && defined(__gnu_linux__)
__attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#endif
inline void multiply_strip(const float* a, const float* b, std::int64_t depth, float* sums) {
  // a: depth × strip_m, b: depth × strip_n. The loop over rows becomes vector instructions without any reordering of sums.
  float local[strip_n][strip_m] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    for (std::int64_t j = 0; j < strip_n; ++j) {
      const float factor = b[k * strip_n + j];
      for (std::int64_t i = 0; i < strip_m; ++i) local[j][i] += a[k * strip_m + i] * factor;
    }
  }
  std::memcpy(sums, local, sizeof local);
}

// Strips of `width` rows of op(A) (or columns of op(B)) along k, padded with zeros to whole strips. `row_step` and
// `k_step` are the distances in memory from row to row and from k to k.
template <class Element, std::int64_t width>
void pack(const Element* from, std::int64_t count, std::int64_t depth, std::int64_t row_step, std::int64_t k_step,
          int mantissa_bits, float* packed) {
  for (std::int64_t strip = 0; strip < count; strip += width) {
    const std::int64_t rows = std::min(width, count - strip);
    if (rows < width) std::fill(packed, packed + depth * width, 0.0f);
    const Element* elements = from + strip * row_step;
    if (row_step == 1) {  // along the memory
      for (std::int64_t k = 0; k < depth; ++k) {
        for (std::int64_t row = 0; row < rows; ++row) packed[k * width + row] = widen(elements[k * k_step + row]);
      }
    } else {
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t k = 0; k < depth; ++k) packed[k * width + row] = widen(elements[row * row_step + k * k_step]);
      }
    }
    if (mantissa_bits < 23) {
      for (std::int64_t i = 0; i < depth * width; ++i) packed[i] = round_mantissa(packed[i], mantissa_bits);
    }
    packed += depth * width;
  }
}

// Rows from `first`, k from `first_k`; `k_is_contiguous` where the matrix in memory has k along its columns.
template <std::int64_t width>
void pack_matrix(const Matrix& matrix, std::int64_t batch, bool k_is_contiguous, std::int64_t first, std::int64_t count,
                 std::int64_t first_k, std::int64_t depth, int mantissa_bits, float* packed) {
  const std::int64_t row_step = k_is_contiguous ? matrix.leading : 1, k_step = k_is_contiguous ? 1 : matrix.leading;
  const std::int64_t start = batch * matrix.stride + first * row_step + first_k * k_step;
  if (matrix.type == Type::f32)
    pack<float, width>(static_cast<const float*>(matrix.data) + start, count, depth, row_step, k_step, mantissa_bits,
                       packed);
  else
    pack<std::uint16_t, width>(static_cast<const std::uint16_t*>(matrix.data) + start, count, depth, row_step, k_step,
                               mantissa_bits, packed);
}

inline void multiply_tile(const Gemm& gemm, std::int64_t batch, std::int64_t first_m, std::int64_t first_n,
                          double alpha, double beta) {
  const std::int64_t rows = std::min(tile_m, gemm.m - first_m), columns = std::min(tile_n, gemm.n - first_n);
  thread_local std::vector<float> a(tile_m * tile_k), b(tile_n * tile_k);
  thread_local std::vector<double> sums(tile_m * tile_n);
  std::fill(sums.begin(), sums.end(), 0.0);
  for (std::int64_t first_k = 0; first_k < gemm.k; first_k += tile_k) {
    const std::int64_t depth = std::min(tile_k, gemm.k - first_k);
    pack_matrix<strip_m>(gemm.a, batch, gemm.a.transposed, first_m, rows, first_k, depth, gemm.mantissa_bits, a.data());
    pack_matrix<strip_n>(gemm.b, batch, !gemm.b.transposed, first_n, columns, first_k, depth, gemm.mantissa_bits,
                         b.data());
    for (std::int64_t j = 0; j < columns; j += strip_n) {
      for (std::int64_t i = 0; i < rows; i += strip_m) {
        float partial[strip_n * strip_m];
        multiply_strip(&a[i * depth], &b[j * depth], depth, partial);
        for (std::int64_t y = 0; y < strip_n; ++y) {
          for (std::int64_t x = 0; x < strip_m; ++x)
            sums[(j + y) * tile_m + i + x] += static_cast<double>(partial[y * strip_m + x]);
        }
      }
    }
  }
  for (std::int64_t j = 0; j < columns; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t index = batch * gemm.c.stride + (first_n + j) * gemm.c.leading + first_m + i;
      double value = alpha * sums[j * tile_m + i];
      if (beta != 0.0) value += beta * static_cast<double>(load(gemm.c, index));  // with beta = 0, C may hold anything
      store(gemm.c, index, value);
    }
  }
}

using Tasks = std::function<void(std::int64_t)>;

// `over_all_threads(count, task)` calls task(0), …, task(count - 1), on all threads.
inline void multiply(const Gemm& gemm, double alpha, double beta,
                     void (*over_all_threads)(std::int64_t, const Tasks&)) {
  const std::int64_t tiles_m = (gemm.m + tile_m - 1) / tile_m, tiles_n = (gemm.n + tile_n - 1) / tile_n;
  over_all_threads(tiles_m * tiles_n * gemm.batch, [&](std::int64_t tile) {
    multiply_tile(gemm, tile / (tiles_m * tiles_n), tile % tiles_m * tile_m, tile / tiles_m % tiles_n * tile_n, alpha,
                  beta);
  });
}

}  // namespace emulator
