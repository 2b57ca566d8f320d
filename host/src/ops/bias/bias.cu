// y = x + b of every row, and db = Σ over rows of dy.
//
// Launch, none with dynamic shared memory:
//   bias_add    grid any (at most rows is of use), block a multiple of 32 near O / PACK, at most 256
//   bias_sums   grid (⌈O / 32⌉, parts), block 256

template <int N>
__device__ __forceinline__ void bias_add_rows(real* x, const real* bias, int rows, int outputs) {
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int c = threadIdx.x * N; c < outputs; c += blockDim.x * N) {
      float values[N], added[N];
      load(x + row * outputs + c, values);
      load(bias + c, added);
#pragma unroll
      for (int i = 0; i < N; i++) values[i] += added[i];
      store(x + row * outputs + c, values);
    }
  }
}

// In place: x (rows, O), bias (O,).
extern "C" __global__ void bias_add(real* x, const real* bias, int rows, int outputs) {
  if (in_packs(x, outputs) && on_16_bytes(bias))
    bias_add_rows<PACK>(x, bias, rows, outputs);
  else
    bias_add_rows<1>(x, bias, rows, outputs);
}

// A lane sums N neighbouring columns, a warp every eighth row of the part; the warps are added in their order.
template <int N>
__device__ __forceinline__ void bias_sums_part(const real* grad, float* partial, int rows, int outputs, float* shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int column = (blockIdx.x * 32 + lane) * N;
  float sums[N];
#pragma unroll
  for (int i = 0; i < N; i++) sums[i] = 0.0f;
  if (column < outputs) {
    const long long each = (rows + (long long)gridDim.y - 1) / gridDim.y, first = each * blockIdx.y;
    const long long end = min(first + each, (long long)rows);
    for (long long row = first + warp; row < end; row += warps) {
      float values[N];
      load(grad + row * outputs + column, values);
#pragma unroll
      for (int i = 0; i < N; i++) sums[i] += values[i];
    }
  }
#pragma unroll
  for (int i = 0; i < N; i++) shared[(warp * 32 + lane) * N + i] = sums[i];
  __syncthreads();
  for (int i = threadIdx.x; i < 32 * N; i += blockDim.x) {
    float total = 0.0f;
    for (int w = 0; w < warps; w++) total += shared[w * 32 * N + i];
    const long long to = (long long)blockIdx.x * 32 * N + i;
    if (to < outputs) partial[(long long)blockIdx.y * outputs + to] = total;
  }
}

// grad (rows, O) → partial (parts, O): the sums of parts of the rows.
extern "C" __global__ void __launch_bounds__(256) bias_sums(const real* grad, float* partial, int rows, int outputs) {
  __shared__ float shared[256 * PACK];
  if (in_packs(grad, outputs)) {
    if ((long long)blockIdx.x * 32 * PACK < outputs) bias_sums_part<PACK>(grad, partial, rows, outputs, shared);
  } else {
    bias_sums_part<1>(grad, partial, rows, outputs, shared);
  }
}
