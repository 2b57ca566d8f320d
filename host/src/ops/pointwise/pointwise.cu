// Every element alone: out = base + scale · x, x ← factor · x, y = c · tanh(x / c) and its gradient d · (1 − (y / c)²).
//
// Launch: grid any, block 256 (any), no dynamic shared memory.

// Calls `body` with the places of packs, then of the elements that are left; of elements alone where there are no packs.
template <class Packs, class Elements>
__device__ __forceinline__ void each_element(long long count, bool packs, Packs body, Elements rest) {
  const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x, step = (long long)gridDim.x * blockDim.x;
  const long long whole = packs ? count / PACK * PACK : 0;
  for (long long i = first * PACK; i < whole; i += step * PACK) body(i);
  for (long long i = whole + first; i < count; i += step) rest(i);
}

template <int N>
__device__ __forceinline__ void add_scaled_at(const real* base, const real* x, float scale, real* out) {
  float sums[N], values[N];
  load(base, sums);
  load(x, values);
#pragma unroll
  for (int i = 0; i < N; i++) sums[i] = fmaf(values[i], scale, sums[i]);
  store(out, sums);
}

// `out` may be `base`.
extern "C" __global__ void add_scaled(const real* base, const real* x, float scale, real* out, long long count) {
  each_element(
      count, on_16_bytes(base) && on_16_bytes(x) && on_16_bytes(out),
      [&](long long i) { add_scaled_at<PACK>(base + i, x + i, scale, out + i); },
      [&](long long i) { add_scaled_at<1>(base + i, x + i, scale, out + i); });
}

template <int N>
__device__ __forceinline__ void scale_at(real* x, float factor) {
  float values[N];
  load(x, values);
#pragma unroll
  for (int i = 0; i < N; i++) values[i] *= factor;
  store(x, values);
}

extern "C" __global__ void scale(real* x, float factor, long long count) {
  each_element(
      count, on_16_bytes(x), [&](long long i) { scale_at<PACK>(x + i, factor); },
      [&](long long i) { scale_at<1>(x + i, factor); });
}

extern "C" __global__ void cap(float* logits, float bound, long long count) {
  const float inverse = 1.0f / bound;
  auto one = [&](long long i) { logits[i] = bound * tanhf(logits[i] * inverse); };
  each_element(count, false, one, one);
}

// capped (count,) holds y.
extern "C" __global__ void cap_backward(const float* capped, float bound, real* d, long long count) {
  const float inverse = 1.0f / bound;
  auto one = [&](long long i) {
    const float t = capped[i] * inverse;
    d[i] = to_real(to_float(d[i]) * fmaf(-t, t, 1.0f));
  };
  each_element(count, false, one, one);
}
