// y = a(gate) · up (Shazeer 2020) with a(g) = g · σ(v): v = g for SwiGLU, and for GeGLU v = 2√(2/π) · (g + 0.044715 g³), which is
// GELU by its approximation with tanh, as (1 + tanh z) / 2 = σ(2z). dgate = dy · up · σ · (1 + g · v′ · (1 − σ)) and
// dup = dy · g · σ. Gate and up of a row stand side by side: (rows, 2F).
//
// Launch: grid any (at most rows is of use), block a multiple of 32 near F / PACK / ⌈F / PACK / 256⌉ (192 for F = 1536), no
// dynamic shared memory.

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

struct Silu {
  __device__ __forceinline__ static float sigma(float g) { return sigmoid(g); }
  // g · v′.
  __device__ __forceinline__ static float steepness(float g) { return g; }
};

struct GeluTanh {
  // Where σ(v) is 0 or 1 already, so that no cube overflows.
  __device__ __forceinline__ static float cut(float g) { return fminf(fmaxf(g, -32.0f), 32.0f); }
  __device__ __forceinline__ static float sigma(float g) {
    g = cut(g);
    return sigmoid(1.59576912f * g * (1.0f + 0.044715f * g * g));
  }
  __device__ __forceinline__ static float steepness(float g) {
    float c = cut(g);
    return g * 1.59576912f * (1.0f + 0.134145f * c * c);
  }
};

template <class Activation, int N>
__device__ __forceinline__ void gated_rows(const real* gate_up, real* out, int rows, int f) {
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const real* gates = gate_up + row * 2 * f;
    for (int c = threadIdx.x * N; c < f; c += blockDim.x * N) {
      float gate[N], up[N];
      load(gates + c, gate);
      load(gates + f + c, up);
#pragma unroll
      for (int i = 0; i < N; i++) up[i] = gate[i] * Activation::sigma(gate[i]) * up[i];
      store(out + row * f + c, up);
    }
  }
}

template <class Activation>
__device__ __forceinline__ void gated(const real* gate_up, real* out, int rows, int f) {
  if (in_packs(gate_up, f) && on_16_bytes(out))
    gated_rows<Activation, PACK>(gate_up, out, rows, f);
  else
    gated_rows<Activation, 1>(gate_up, out, rows, f);
}

// gate_up (rows, 2F) → out (rows, F).
extern "C" __global__ void swiglu_forward(const real* gate_up, real* out, int rows, int f) { gated<Silu>(gate_up, out, rows, f); }
extern "C" __global__ void geglu_forward(const real* gate_up, real* out, int rows, int f) {
  gated<GeluTanh>(gate_up, out, rows, f);
}

template <class Activation, int N>
__device__ __forceinline__ void gated_backward_rows(real* gate_up, real* activated, int rows, int f) {
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
        float g = gate[i], u = up[i], dy = grad[i], sigma = Activation::sigma(g), value = g * sigma;
        gate[i] = dy * u * sigma * (1.0f + Activation::steepness(g) * (1.0f - sigma));
        up[i] = dy * value;
        grad[i] = value * u;
      }
      store(gates + c, gate);
      store(gates + f + c, up);
      store(grads + c, grad);
    }
  }
}

template <class Activation>
__device__ __forceinline__ void gated_backward(real* gate_up, real* activated, int rows, int f) {
  if (in_packs(gate_up, f) && on_16_bytes(activated))
    gated_backward_rows<Activation, PACK>(gate_up, activated, rows, f);
  else
    gated_backward_rows<Activation, 1>(gate_up, activated, rows, f);
}

// In place: gate_up (rows, 2F) becomes its gradient, and `activated` (rows, F), the gradient of y, becomes y, which the
// weight after it needs for its own gradient.
extern "C" __global__ void swiglu_backward(real* gate_up, real* activated, int rows, int f) {
  gated_backward<Silu>(gate_up, activated, rows, f);
}
extern "C" __global__ void geglu_backward(real* gate_up, real* activated, int rows, int f) {
  gated_backward<GeluTanh>(gate_up, activated, rows, f);
}
