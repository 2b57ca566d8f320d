// Log-probability of a chosen token and entropy of its distribution, from undivided logits: z = logits / T,
// log p[j] = z[j] − log Σ e^z, H = −Σ p[j] log p[j]. With gradients a of log p[target] and b of H,
// dz[j] = a · (1[j = target] − p[j]) − b · p[j] · (log p[j] + H). The forward pass reads a row once: the largest logit and
// the sums that are counted from it are kept together (Milakov and Gimelshein 2018, arXiv:1805.02867).
//
// Launch: grid rows, block 512 (any multiple of 32 up to 1024), no dynamic shared memory.

// The largest logit so far, Σ e^z and Σ e^z · z with z counted from it. A state that has seen nothing has a sum of 0, one
// that has seen anything at least 1, or NaN.
struct SoftmaxState {
  float largest, sum, weighted;
};

// Counts from `largest` on, which is at least what the state counted from.
__device__ __forceinline__ void recount(SoftmaxState& state, float largest, float inverse) {
  if (state.sum != 0.0f) {
    float by = (state.largest - largest) * inverse, factor = expf(by);
    state.weighted = factor * (state.weighted + by * state.sum);
    state.sum *= factor;
  }
  state.largest = largest;
}

template <int N>
__device__ __forceinline__ SoftmaxState softmax_part(const float* logits, int vocabulary, float inverse) {
  SoftmaxState state = {-INFINITY, 0.0f, 0.0f};
  for (int v = threadIdx.x * N; v < vocabulary; v += blockDim.x * N) {
    float values[N];
    load(logits + v, values);
    float largest = values[0];
#pragma unroll
    for (int i = 1; i < N; i++) largest = fmaxf(largest, values[i]);
    if (largest > state.largest) recount(state, largest, inverse);
#pragma unroll
    for (int i = 0; i < N; i++) {
      float z = (values[i] - state.largest) * inverse, e = expf(z);
      state.sum += e;
      state.weighted += e * z;
    }
  }
  return state;
}

// logits (rows, V), targets (rows,), each below V → log p(target), H and log Σ e^z of each row, (rows,).
extern "C" __global__ void log_prob_forward(const float* logits, const int* targets, float inverse_temperature,
                                            float* logprobs, float* entropy, float* log_sums, int vocabulary) {
  __shared__ float scratch[32];
  const float* row = logits + (long long)blockIdx.x * vocabulary;
  SoftmaxState state = vocabulary % 4 == 0 && on_16_bytes(logits)
                           ? softmax_part<4>(row, vocabulary, inverse_temperature)
                           : softmax_part<1>(row, vocabulary, inverse_temperature);
  recount(state, block_max(state.largest, scratch), inverse_temperature);
  float sum = block_sum(state.sum, scratch);
  float weighted = block_sum(state.weighted, scratch);
  if (threadIdx.x == 0) {
    float log_sum = logf(sum);
    logprobs[blockIdx.x] = (row[targets[blockIdx.x]] - state.largest) * inverse_temperature - log_sum;
    entropy[blockIdx.x] = log_sum - weighted / sum;
    log_sums[blockIdx.x] = state.largest * inverse_temperature + log_sum;
  }
}

template <int N>
__device__ __forceinline__ void differentiate_row(const float* logits, real* d_logits, int vocabulary, int target,
                                                  float inverse, float log_sum, float entropy, float of_logprob,
                                                  float of_entropy) {
  for (int v = threadIdx.x * N; v < vocabulary; v += blockDim.x * N) {
    float values[N];
    load(logits + v, values);
#pragma unroll
    for (int i = 0; i < N; i++) {
      float log_p = values[i] * inverse - log_sum;
      float slope = of_logprob + of_entropy * (log_p + entropy);
      values[i] = ((v + i == target ? of_logprob : 0.0f) - expf(log_p) * slope) * inverse;
    }
    store(d_logits + v, values);
  }
}

// The gradient of undivided logits (rows, V), from what the forward pass said of each row and the gradients of log p(target)
// and, where it is not null, of H: all (rows,). Where `real` is float, d_logits may be the logits' own memory.
extern "C" __global__ void log_prob_backward(const float* logits, const int* targets, float inverse_temperature,
                                             const float* entropy, const float* log_sums, const float* d_logprobs,
                                             const float* d_entropy, real* d_logits, int vocabulary) {
  long long start = (long long)blockIdx.x * vocabulary;
  float of_entropy = d_entropy == nullptr ? 0.0f : d_entropy[blockIdx.x];
  if (vocabulary % 4 == 0 && on_16_bytes(logits) && on_16_bytes(d_logits))
    differentiate_row<4>(logits + start, d_logits + start, vocabulary, targets[blockIdx.x], inverse_temperature,
                         log_sums[blockIdx.x], entropy[blockIdx.x], d_logprobs[blockIdx.x], of_entropy);
  else
    differentiate_row<1>(logits + start, d_logits + start, vocabulary, targets[blockIdx.x], inverse_temperature,
                         log_sums[blockIdx.x], entropy[blockIdx.x], d_logprobs[blockIdx.x], of_entropy);
}
