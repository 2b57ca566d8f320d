// y = silu(gate) · up with silu(g) = g · σ(g) (Shazeer 2020, SwiGLU); dgate = dy · up · σ · (1 + g · (1 − σ)) and
// dup = dy · g · σ. Gate and up of a row stand side by side: (rows, 2F).
//
// Launch: grid any (at most rows is of use), block a multiple of 32 near F / PACK / ⌈F / PACK / 256⌉ (192 for F = 1536), no
// dynamic shared memory.

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <int N>
__device__ __forceinline__ void swiglu_rows(const real* gate_up, real* out, int rows, int f) {
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const real* gates = gate_up + row * 2 * f;
    for (int c = threadIdx.x * N; c < f; c += blockDim.x * N) {
      float gate[N], up[N];
      load(gates + c, gate);
      load(gates + f + c, up);
#pragma unroll
      for (int i = 0; i < N; i++) up[i] = gate[i] * sigmoid(gate[i]) * up[i];
      store(out + row * f + c, up);
    }
  }
}

// gate_up (rows, 2F) → out (rows, F).
extern "C" __global__ void swiglu_forward(const real* gate_up, real* out, int rows, int f) {
  if (in_packs(gate_up, f) && on_16_bytes(out))
    swiglu_rows<PACK>(gate_up, out, rows, f);
  else
    swiglu_rows<1>(gate_up, out, rows, f);
}

template <int N>
__device__ __forceinline__ void swiglu_backward_rows(real* gate_up, real* activated, int rows, int f) {
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    real* gates = gate_up + row * 2 * f;
    real* grads = activated + row * f;
    for (int c = threadIdx.x * N; c < f; c += blockDim.x * N) {
      float gate[N], up[N], grad[N];
      load(gates + c, gate);
      load(gates + f + c, up);
      load(grads + c, grad);
#pragma unroll
      for (int i = 0; i < N; i++) {
        float g = gate[i], u = up[i], dy = grad[i], sigma = sigmoid(g), silu = g * sigma;
        gate[i] = dy * u * sigma * (1.0f + g * (1.0f - sigma));
        up[i] = dy * silu;
        grad[i] = silu * u;
      }
      store(gates + c, gate);
      store(gates + f + c, up);
      store(grads + c, grad);
    }
  }
}

// In place: gate_up (rows, 2F) becomes its gradient, and `activated` (rows, F), the gradient of y, becomes y, which the
// weight after it needs for its own gradient.
extern "C" __global__ void swiglu_backward(real* gate_up, real* activated, int rows, int f) {
  if (in_packs(gate_up, f) && on_16_bytes(activated))
    swiglu_backward_rows<PACK>(gate_up, activated, rows, f);
  else
    swiglu_backward_rows<1>(gate_up, activated, rows, f);
}
