// Tiles in f32 arithmetic, for either dtype and every even D: operands lie in shared memory as f32, a thread owns every
// eighth row of a tile and computes small rectangles of products and sums in registers.
//
// Sixteen threads, half a warp, share a row: thread (y, x) has the rows y + 8·i, of products the columns x + 16·j, and of
// sums (rows of D) the columns 4·(x + 16·j) to the third after.
#if !ATTENTION_TENSOR_CORES

namespace attention {

constexpr int STEP = D <= 64 ? 32 : 16;
constexpr int PADDED = (D + 3) / 4 * 4;
// Floats between rows in shared memory: an odd number of 16 bytes, so that neighbours in a column lie in different banks.
constexpr int STRIDE = 4 * (PADDED / 4 | 1);
constexpr int WEIGHTS_STRIDE = STEP + 4;
constexpr int ROWS = TILE / 8;
constexpr int COLUMNS = STEP / 16;
constexpr int QUARTERS = (PADDED + 63) / 64;

typedef float Products[ROWS][COLUMNS];
typedef float4 Sums[ROWS][QUARTERS];

__device__ __forceinline__ int thread_x() { return threadIdx.x % 16; }
__device__ __forceinline__ int thread_y() { return threadIdx.x / 16; }

// COUNT rows of a head into shared memory, columns from D on zero. Rows after the last of `valid` repeat it: what is
// computed from them is masked or never written, but it must be finite where the row's data are.
template <int COUNT>
__device__ __forceinline__ void load_rows(float* to, const real* from, int width, int valid) {
  constexpr int PARTS = D / VECTOR;
#pragma unroll 4
  for (int i = threadIdx.x; i < COUNT * PARTS; i += THREADS) {
    const int row = i / PARTS, part = i % PARTS * VECTOR;
    float values[VECTOR];
    to_floats(read_raw(from + (unsigned)(min(row, valid - 1) * width + part)), values);
    float* place = to + row * STRIDE + part;
    if constexpr (VECTOR % 4 == 0) {
#pragma unroll
      for (int c = 0; c < VECTOR; c += 4) *(float4*)(place + c) = make_float4(values[c], values[c + 1], values[c + 2], values[c + 3]);
    } else {
      place[0] = values[0], place[1] = values[1];
    }
  }
  if (D < PADDED) {
    for (int row = threadIdx.x; row < COUNT; row += THREADS) to[row * STRIDE + D] = to[row * STRIDE + D + 1] = 0.0f;
  }
}

__device__ __forceinline__ float4 four(const float* place) { return *(const float4*)place; }

// products (TILE, STEP) = left (TILE, D) · right (STEP, D)ᵀ.
__device__ __forceinline__ void products_of(Products& products, const float* left, const float* right) {
  left += thread_y() * STRIDE;
  right += thread_x() * STRIDE;
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) products[i][j] = 0.0f;
  }
#pragma unroll 2
  for (int d = 0; d < PADDED; d += 4) {
    float4 b[COLUMNS];
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) b[j] = four(right + j * 16 * STRIDE + d);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      float4 a = four(left + i * 8 * STRIDE + d);
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        float sum = products[i][j];
        sum = fmaf(a.x, b[j].x, sum);
        sum = fmaf(a.y, b[j].y, sum);
        sum = fmaf(a.z, b[j].z, sum);
        products[i][j] = fmaf(a.w, b[j].w, sum);
      }
    }
  }
}

// Products into shared memory (TILE, STEP), where the half warp that wrote a row reads it after a __syncwarp.
__device__ __forceinline__ void put(float* to, const Products& products) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) to[(thread_y() + 8 * i) * WEIGHTS_STRIDE + thread_x() + 16 * j] = products[i][j];
  }
}

__device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
#pragma unroll
    for (int j = 0; j < QUARTERS; ++j) sums[i][j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
}

__device__ __forceinline__ void add(float4& sum, float weight, float4 x) {
  sum.x = fmaf(weight, x.x, sum.x);
  sum.y = fmaf(weight, x.y, sum.y);
  sum.z = fmaf(weight, x.z, sum.z);
  sum.w = fmaf(weight, x.w, sum.w);
}

// sums (TILE, D) += weights (TILE, STEP) · right (STEP, D).
__device__ __forceinline__ void accumulate(Sums& sums, const float* weights, const float* right) {
  weights += thread_y() * WEIGHTS_STRIDE;
  for (int k = 0; k < STEP; k += 4) {
    float4 w[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) w[i] = four(weights + i * 8 * WEIGHTS_STRIDE + k);
#pragma unroll
    for (int j = 0; j < QUARTERS; ++j) {
      int column = 4 * (thread_x() + 16 * j);
      if (column >= PADDED) continue;
      const float* rows = right + k * STRIDE + column;
      float4 r0 = four(rows), r1 = four(rows + STRIDE), r2 = four(rows + 2 * STRIDE), r3 = four(rows + 3 * STRIDE);
#pragma unroll
      for (int i = 0; i < ROWS; ++i) {
        add(sums[i][j], w[i].x, r0);
        add(sums[i][j], w[i].y, r1);
        add(sums[i][j], w[i].z, r2);
        add(sums[i][j], w[i].w, r3);
      }
    }
  }
}

// Sums and maxima over the sixteen threads of a row.
__device__ __forceinline__ float row_sum(float x) {
#pragma unroll
  for (int offset = 8; offset > 0; offset >>= 1) x += __shfl_xor_sync(FULL_WARP, x, offset);
  return x;
}

__device__ __forceinline__ float row_max(float x) {
#pragma unroll
  for (int offset = 8; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, offset));
  return x;
}

// Writes the first `valid` rows of the tile, each times its factor.
__device__ __forceinline__ void write_rows(real* to, int width, int valid, const Sums& sums, const float (&factors)[ROWS]) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    int row = thread_y() + 8 * i;
    if (row >= valid) continue;
#pragma unroll
    for (int j = 0; j < QUARTERS; ++j) {
      int column = 4 * (thread_x() + 16 * j);
      real* place = to + row * width + column;
      float factor = factors[i];
      float4 sum = sums[i][j];
      if (column < D) {
        place[0] = to_real(sum.x * factor);
        place[1] = to_real(sum.y * factor);
      }
      if (column + 2 < D) {
        place[2] = to_real(sum.z * factor);
        place[3] = to_real(sum.w * factor);
      }
    }
  }
}

}  // namespace attention

#endif
