// score = w·h + b of a hidden state (a reward model, a critic). `head` is f32: C weights, then the bias.
//
// Launch, none with dynamic shared memory:
//   scalar_head_forward           grid ⌈rows / 8⌉, block 256; a warp has a row
//   scalar_head_backward_hidden   grid ⌈rows / 8⌉ or fewer, block 256; a warp has a row
//   scalar_head_backward_head     grid ⌈(C + 1) / 32⌉ or fewer, block 1024 (any multiple of 32)

template <int N>
__device__ __forceinline__ float dot_by_warp(const real* hidden, const float* head, int channels) {
  float sum = 0.0f;
  for (int c = (threadIdx.x & 31) * N; c < channels; c += 32 * N) {
    float values[N], weights[N];
    load(hidden + c, values);
    load(head + c, weights);
#pragma unroll
    for (int i = 0; i < N; i++) sum += values[i] * weights[i];
  }
  return warp_sum(sum);
}

// hidden (rows, C), head (C + 1,) → scores (rows,).
extern "C" __global__ void scalar_head_forward(const real* hidden, const float* head, float* scores, int rows,
                                               int channels) {
  int warps = blockDim.x >> 5;
  bool packs = in_packs(hidden, channels) && on_16_bytes(head);
  for (long long row = (long long)blockIdx.x * warps + (threadIdx.x >> 5); row < rows;
       row += (long long)gridDim.x * warps) {
    const real* state = hidden + row * channels;
    float sum = packs ? dot_by_warp<PACK>(state, head, channels) : dot_by_warp<1>(state, head, channels);
    if ((threadIdx.x & 31) == 0) scores[row] = sum + head[channels];
  }
}

template <int N>
__device__ __forceinline__ void spread_rows(const float* head, const float* grad, real* d_hidden, int rows,
                                            int channels) {
  int lane = threadIdx.x & 31, warps = blockDim.x >> 5;
  for (long long row = (long long)blockIdx.x * warps + (threadIdx.x >> 5); row < rows;
       row += (long long)gridDim.x * warps) {
    float slope = grad[row];
    for (int c = lane * N; c < channels; c += 32 * N) {
      float weights[N];
      load(head + c, weights);
#pragma unroll
      for (int i = 0; i < N; i++) weights[i] *= slope;
      store(d_hidden + row * channels + c, weights);
    }
  }
}

// Writes the gradient of hidden, (rows, C), given that of the scores, (rows,).
extern "C" __global__ void scalar_head_backward_hidden(const float* head, const float* grad, real* d_hidden, int rows,
                                                       int channels) {
  if (in_packs(d_hidden, channels) && on_16_bytes(head))
    spread_rows<PACK>(head, grad, d_hidden, rows, channels);
  else
    spread_rows<1>(head, grad, d_hidden, rows, channels);
}

// Adds the gradient of weight and bias to sums (C + 1,). A lane has a channel (the last one the bias), a warp every
// so-manieth row.
extern "C" __global__ void __launch_bounds__(1024)
    scalar_head_backward_head(const real* hidden, const float* grad, float* sums, int rows, int channels) {
  __shared__ float parts[32][33];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  for (long long first = (long long)blockIdx.x * 32; first <= channels; first += (long long)gridDim.x * 32) {
    long long channel = first + lane;
    float sum = 0.0f;
    if (channel < channels) {
#pragma unroll 4
      for (long long row = warp; row < rows; row += warps) sum += grad[row] * to_float(hidden[row * channels + channel]);
    } else if (channel == channels) {
      for (long long row = warp; row < rows; row += warps) sum += grad[row];
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && channel <= channels) {
      float total = 0.0f;
      for (int i = 0; i < warps; i++) total += parts[i][lane];
      sums[channel] += total;
    }
    __syncthreads();
  }
}
