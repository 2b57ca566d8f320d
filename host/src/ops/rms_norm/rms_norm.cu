// y = x · ŵ / √(mean(x²) + eps), ŵ = offset + w (Zhang and Sennrich 2019, eq. 4). With s = 1 / √(mean(x²) + eps) of a row:
// dx = s · (ŵ · dy) − x · s³ · Σ(ŵ · dy · x) / C, and dw = Σ over rows of dy · x · s.
//
// A row is one of `groups` neighbouring groups of C channels at the beginning of a token's `stride` channels; where a token
// is one row, groups = 1 and stride = C.
//
// Launch, with `threads` = a multiple of 32 near C / PACK, at most 256:
//   rms_norm_forward             grid rows, block threads, no dynamic shared memory
//   rms_norm_backward,           grid any (at most rows; about 8 a multiprocessor), block threads, 4·C bytes of dynamic shared
//   rms_norm_backward_in_place   memory where `partial` is wanted, otherwise 0
//   sum_rows                     grid any (⌈columns / 32⌉ at most is of use), block 1024 (any multiple of 32), none

// Where a row begins.
__device__ __forceinline__ long long norm_row(long long row, int groups, int stride, int channels) {
  return row / groups * stride + row % groups * channels;
}

template <int N>
__device__ __forceinline__ void rms_norm_row(const real* x, const real* weight, real* out, int channels, float eps,
                                             float offset, float* scratch) {
  float sum = 0.0f;
  for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
    float values[N];
    load(x + c, values);
#pragma unroll
    for (int i = 0; i < N; i++) sum += values[i] * values[i];
  }
  float scale = 1.0f / sqrtf(block_sum(sum, scratch) / channels + eps);
  for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
    float values[N], weights[N];
    load(x + c, values);
    load(weight + c, weights);
#pragma unroll
    for (int i = 0; i < N; i++) values[i] = values[i] * scale * (offset + weights[i]);
    store(out + c, values);
  }
}

// Rows of x, weight (C,) → the same rows of out.
extern "C" __global__ void rms_norm_forward(const real* x, const real* weight, real* out, int channels, int groups, int stride,
                                            float eps, float offset) {
  __shared__ float scratch[32];
  long long start = norm_row(blockIdx.x, groups, stride, channels);
  if (in_packs(x, channels) && stride % PACK == 0 && on_16_bytes(weight) && on_16_bytes(out))
    rms_norm_row<PACK>(x + start, weight, out + start, channels, eps, offset, scratch);
  else
    rms_norm_row<1>(x + start, weight, out + start, channels, eps, offset, scratch);
}

// `d_weight` (C,) in shared memory, or null; a thread touches the channels that are its own, so that `dx` may be `grad` where
// it is not added to.
template <int N, bool ADD>
__device__ __forceinline__ void rms_norm_backward_row(const real* x, const real* weight, const real* grad, real* dx,
                                                      float* d_weight, int channels, float eps, float offset, float* scratch) {
  float squares = 0.0f, product = 0.0f;
  for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
    float values[N], weights[N], grads[N];
    load(x + c, values);
    load(weight + c, weights);
    load(grad + c, grads);
#pragma unroll
    for (int i = 0; i < N; i++) {
      squares += values[i] * values[i];
      product += values[i] * (grads[i] * (offset + weights[i]));
    }
  }
  float scale = 1.0f / sqrtf(block_sum(squares, scratch) / channels + eps);
  float shrink = block_sum(product, scratch) * scale * scale * scale / channels;
  for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
    float values[N], weights[N], grads[N], sums[N];
    load(x + c, values);
    load(weight + c, weights);
    load(grad + c, grads);
    if constexpr (ADD) load(dx + c, sums);
#pragma unroll
    for (int i = 0; i < N; i++) {
      float own = scale * grads[i] * (offset + weights[i]) - values[i] * shrink;
      sums[i] = ADD ? sums[i] + own : own;
    }
    store(dx + c, sums);
    if (d_weight != nullptr) {
#pragma unroll
      for (int i = 0; i < N; i++) d_weight[c + i] += values[i] * scale * grads[i];
    }
  }
}

// The sum of the weight's gradient over a block's rows goes to its row of `partial` (blocks, C), which may be null.
template <bool ADD>
__device__ __forceinline__ void rms_norm_backward_rows(const real* x, const real* weight, const real* grad, real* dx,
                                                       float* partial, int rows, int channels, int groups, int stride, float eps,
                                                       float offset) {
  __shared__ float scratch[32];
  DYNAMIC_SHARED(memory);
  float* d_weight = partial == nullptr ? nullptr : (float*)memory;
  if (partial != nullptr) {
    for (int c = threadIdx.x; c < channels; c += blockDim.x) d_weight[c] = 0.0f;
    __syncthreads();
  }
  bool packs = in_packs(x, channels) && stride % PACK == 0 && on_16_bytes(weight) && on_16_bytes(grad) && on_16_bytes(dx);
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    long long at = norm_row(row, groups, stride, channels);
    if (packs)
      rms_norm_backward_row<PACK, ADD>(x + at, weight, grad + at, dx + at, d_weight, channels, eps, offset, scratch);
    else
      rms_norm_backward_row<1, ADD>(x + at, weight, grad + at, dx + at, d_weight, channels, eps, offset, scratch);
  }
  if (partial != nullptr) {
    __syncthreads();
    float* out = partial + (long long)blockIdx.x * channels;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) out[c] = d_weight[c];
  }
}

// Adds the gradient of x to dx (rows, C), whose rows are the tokens.
extern "C" __global__ void rms_norm_backward(const real* x, const real* weight, const real* grad, real* dx,
                                             float* partial, int rows, int channels, float eps, float offset) {
  rms_norm_backward_rows<true>(x, weight, grad, dx, partial, rows, channels, 1, channels, eps, offset);
}

// In place: rows of `grad` become the gradient of x; what lies between them stays.
extern "C" __global__ void rms_norm_backward_in_place(const real* x, const real* weight, real* grad, float* partial, int rows,
                                                      int channels, int groups, int stride, float eps, float offset) {
  rms_norm_backward_rows<false>(x, weight, grad, grad, partial, rows, channels, groups, stride, eps, offset);
}

// out[c] += Σ over rows of partial[row][c]: partial (rows, columns), out (columns,). A block has 32 columns at a time: a lane
// one of them, a warp every so-manieth row.
extern "C" __global__ void __launch_bounds__(1024) sum_rows(const float* partial, float* out, int rows, int columns) {
  __shared__ float sums[32][33];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  for (long long first = (long long)blockIdx.x * 32; first < columns; first += (long long)gridDim.x * 32) {
    long long column = first + lane;
    float sum = 0.0f;
    if (column < columns)
#pragma unroll 4
      for (long long row = warp; row < rows; row += warps) sum += partial[row * columns + column];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < columns) {
      float total = 0.0f;
      for (int i = 0; i < warps; i++) total += sums[i][lane];
      out[column] += total;
    }
    __syncthreads();
  }
}
