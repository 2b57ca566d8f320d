// Rows that are chosen, put back and added; casts between `real` and float; sums of squares.
//
// Launch, none with dynamic shared memory:
//   choose_rows, scatter_add_rows                 grid any (⌈count / 8⌉ at most is of use), block 256; a warp has a row
//   cast_to_real, cast_to_float                   grid any, block 256
//   square_sum                                    grid as many as `partial` has, block 256 (at most 1024)

// One row for each warp and turn: to[to_row(i)] (+)= from[from_row(i)].
template <int N, bool CHOOSE, bool ADD>
__device__ __forceinline__ void move_packs(const real* from, const int* rows, real* to, int count, int width) {
  int lane = threadIdx.x & 31, warps = blockDim.x >> 5;
  for (long long i = (long long)blockIdx.x * warps + (threadIdx.x >> 5); i < count; i += (long long)gridDim.x * warps) {
    long long there = rows[i];
    const real* source = from + (CHOOSE ? there : i) * width;
    real* target = to + (CHOOSE ? i : there) * width;
    for (int c = lane * N; c < width; c += 32 * N) {
      float values[N];
      load(source + c, values);
      if constexpr (ADD) {
        float before[N];
        load(target + c, before);
#pragma unroll
        for (int k = 0; k < N; k++) values[k] += before[k];
      }
      store(target + c, values);
    }
  }
}

template <bool CHOOSE, bool ADD>
__device__ __forceinline__ void move_rows(const real* from, const int* rows, real* to, int count, int width) {
  if (in_packs(from, width) && on_16_bytes(to))
    move_packs<PACK, CHOOSE, ADD>(from, rows, to, count, width);
  else
    move_packs<1, CHOOSE, ADD>(from, rows, to, count, width);
}

// to[i] = from[rows[i]]: to (count, width).
extern "C" __global__ void choose_rows(const real* from, const int* rows, real* to, int count, int width) {
  move_rows<true, false>(from, rows, to, count, width);
}

// to[rows[i]] += from[i], rows distinct: from (count, width).
extern "C" __global__ void scatter_add_rows(const real* from, const int* rows, real* to, int count, int width) {
  move_rows<false, true>(from, rows, to, count, width);
}

template <typename From, typename To>
__device__ __forceinline__ void cast_all(const From* from, To* to, long long count) {
  long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x, step = (long long)gridDim.x * blockDim.x;
  long long whole = on_16_bytes(from) && on_16_bytes(to) ? count / PACK * PACK : 0;
  for (long long i = first * PACK; i < whole; i += step * PACK) {
    float values[PACK];
    load(from + i, values);
    store(to + i, values);
  }
  for (long long i = whole + first; i < count; i += step) {
    float value[1];
    load(from + i, value);
    store(to + i, value);
  }
}

extern "C" __global__ void cast_to_real(const float* from, real* to, long long count) { cast_all(from, to, count); }

extern "C" __global__ void cast_to_float(const real* from, float* to, long long count) { cast_all(from, to, count); }

// partial[b] = Σ x² over what block b reads; how the sum is cut depends on the launch and on where x begins.
extern "C" __global__ void square_sum(const float* x, double* partial, long long count) {
  __shared__ double sums[1024];
  double sum = 0.0;
  long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x, step = (long long)gridDim.x * blockDim.x;
  long long whole = on_16_bytes(x) ? count / 4 * 4 : 0;
#pragma unroll 2
  for (long long i = first * 4; i < whole; i += step * 4) {
    float values[4];
    load(x + i, values);
#pragma unroll
    for (int k = 0; k < 4; k++) sum += (double)values[k] * values[k];
  }
  for (long long i = whole + first; i < count; i += step) sum += (double)x[i] * x[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int left = blockDim.x; left > 1;) {
    int half = (left + 1) / 2;
    if ((int)threadIdx.x < left - half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
    left = half;
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}
