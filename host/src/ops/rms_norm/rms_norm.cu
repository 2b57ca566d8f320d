// y = x · w / √(mean(x²) + eps) (Zhang and Sennrich 2019, eq. 4). With s = 1 / √(mean(x²) + eps) of a row:
// dx = s · (w · dy) − x · s³ · Σ(w · dy · x) / C, and dw = Σ over rows of dy · x · s.
//
// Launch, with `threads` = a multiple of 32 near C / PACK, at most 256:
//   rms_norm_forward    grid rows, block threads, no dynamic shared memory
//   rms_norm_backward   grid any (at most rows; about 8 a multiprocessor), block threads, 4·C bytes of dynamic shared
//                       memory where `partial` is wanted, otherwise 0
//   sum_rows            grid any (⌈columns / 32⌉ at most is of use), block 1024 (any multiple of 32), none

template <int N>
__device__ __forceinline__ void rms_norm_row(const real* x, const real* weight, real* out, int channels, float eps,
                                             float* scratch) {
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
    for (int i = 0; i < N; i++) values[i] = values[i] * scale * weights[i];
    store(out + c, values);
  }
}

// x (rows, C), weight (C,) → out (rows, C).
extern "C" __global__ void rms_norm_forward(const real* x, const real* weight, real* out, int channels, float eps) {
  __shared__ float scratch[32];
  long long start = (long long)blockIdx.x * channels;
  if (in_packs(x, channels) && on_16_bytes(weight) && on_16_bytes(out))
    rms_norm_row<PACK>(x + start, weight, out + start, channels, eps, scratch);
  else
    rms_norm_row<1>(x + start, weight, out + start, channels, eps, scratch);
}

// `d_weight` (C,) in shared memory, or null; a thread touches the channels that are its own.
template <int N>
__device__ __forceinline__ void rms_norm_backward_row(const real* x, const real* weight, const real* grad, real* dx,
                                                      float* d_weight, int channels, float eps, float* scratch) {
  float squares = 0.0f, product = 0.0f;
  for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
    float values[N], weights[N], grads[N];
    load(x + c, values);
    load(weight + c, weights);
    load(grad + c, grads);
#pragma unroll
    for (int i = 0; i < N; i++) {
      squares += values[i] * values[i];
      product += values[i] * (grads[i] * weights[i]);
    }
  }
  float scale = 1.0f / sqrtf(block_sum(squares, scratch) / channels + eps);
  float shrink = block_sum(product, scratch) * scale * scale * scale / channels;
  for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
    float values[N], weights[N], grads[N], sums[N];
    load(x + c, values);
    load(weight + c, weights);
    load(grad + c, grads);
    load(dx + c, sums);
#pragma unroll
    for (int i = 0; i < N; i++) sums[i] += scale * grads[i] * weights[i] - values[i] * shrink;
    store(dx + c, sums);
    if (d_weight != nullptr) {
#pragma unroll
      for (int i = 0; i < N; i++) d_weight[c + i] += values[i] * scale * grads[i];
    }
  }
}

// Adds the gradient of x to dx (rows, C) and writes the sum of that of the weight over this block's rows to its row of
// `partial` (blocks, C), which may be null: x and grad (rows, C), weight (C,).
extern "C" __global__ void rms_norm_backward(const real* x, const real* weight, const real* grad, real* dx,
                                             float* partial, int rows, int channels, float eps) {
  __shared__ float scratch[32];
  DYNAMIC_SHARED(memory);
  float* d_weight = partial == nullptr ? nullptr : (float*)memory;
  if (partial != nullptr) {
    for (int c = threadIdx.x; c < channels; c += blockDim.x) d_weight[c] = 0.0f;
    __syncthreads();
  }
  bool packs = in_packs(x, channels) && on_16_bytes(weight) && on_16_bytes(grad) && on_16_bytes(dx);
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    long long start = row * channels;
    if (packs)
      rms_norm_backward_row<PACK>(x + start, weight, grad + start, dx + start, d_weight, channels, eps, scratch);
    else
      rms_norm_backward_row<1>(x + start, weight, grad + start, dx + start, d_weight, channels, eps, scratch);
  }
  if (partial != nullptr) {
    __syncthreads();
    float* out = partial + (long long)blockIdx.x * channels;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) out[c] = d_weight[c];
  }
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
