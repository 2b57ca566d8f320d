// One step of AdamW (Loshchilov and Hutter 2019) with the arithmetic of torch.optim.AdamW, `scale` being the clipping factor:
//   p ← p · keep;  m ← β₁·m + (1 − β₁)·g;  v ← β₂·v + (1 − β₂)·g²;  p ← p − step_size · m / (√v / root_correction + ε)
// The gradient is zero behind it, and `copy`, where it is not null, holds p as passes read it.
//
// Launch: grid any (about 8 a multiprocessor), block 256, no dynamic shared memory.

struct AdamWStep {
  float keep, beta1, beta2, rest1, rest2, eps, step_size, root_correction, scale;
};

template <int N>
__device__ __forceinline__ void adamw_pack(const AdamWStep& step, float* p, real* copy, float* g, float* m, float* v) {
  float ps[N], gs[N], ms[N], vs[N];
  load(p, ps);
  load(g, gs);
  load(m, ms);
  load(v, vs);
#pragma unroll
  for (int i = 0; i < N; i++) {
    float scaled = gs[i] * step.scale;
    gs[i] = 0.0f;
    ms[i] = step.beta1 * ms[i] + step.rest1 * scaled;
    vs[i] = step.beta2 * vs[i] + step.rest2 * scaled * scaled;
    float denominator = sqrtf(vs[i]) / step.root_correction + step.eps;
    ps[i] = ps[i] * step.keep - step.step_size * (ms[i] / denominator);
  }
  store(p, ps);
  store(g, gs);
  store(m, ms);
  store(v, vs);
  if (copy != nullptr) store(copy, ps);
}

// p, g, m, v and copy (count,).
extern "C" __global__ void adamw_step(float* p, real* copy, float* g, float* m, float* v, long long count, float keep,
                                      float beta1, float beta2, float rest1, float rest2, float eps, float step_size,
                                      float root_correction, float scale) {
  AdamWStep step = {keep, beta1, beta2, rest1, rest2, eps, step_size, root_correction, scale};
  long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x, stride = (long long)gridDim.x * blockDim.x;
  bool packs = on_16_bytes(p) && on_16_bytes(copy) && on_16_bytes(g) && on_16_bytes(m) && on_16_bytes(v);
  long long whole = packs ? count / 4 * 4 : 0;
  for (long long i = first * 4; i < whole; i += stride * 4)
    adamw_pack<4>(step, p + i, copy == nullptr ? nullptr : copy + i, g + i, m + i, v + i);
  for (long long i = whole + first; i < count; i += stride)
    adamw_pack<1>(step, p + i, copy == nullptr ? nullptr : copy + i, g + i, m + i, v + i);
}
