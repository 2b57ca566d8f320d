// From logits to a token, as model/sampler.rs does it: temperature T, then the k likeliest, then the smallest set with
// probability p (nucleus; Holtzman et al. 2020, arXiv:1904.09751). Nothing is sorted: the logit at which a cut falls is
// searched for by the bits of a key that orders as logits do, two bits a pass over the row, and tokens with exactly this
// logit are kept from the smallest id on. The draw walks the kept tokens in the order of ids.
//
// Launch: grid rows, block 1024 (any multiple of 32), no dynamic shared memory.

// A row of logits, and its tokens that may be drawn: those with a larger key than `key`, and those with this key up to the
// id `last`.
struct SampleRow {
  const float* logits;
  int vocabulary;
  float largest, scale;
  unsigned key;
  int last;
};

// What the block shares: sums of warps, three kinds at once.
struct SampleShared {
  double sums[3][32];
  float floats[32];
  int id;
};

// Orders as floats do; 0 and −0 are the same.
__device__ __forceinline__ unsigned order_key(float x) {
  unsigned bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float from_order_key(unsigned key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ __forceinline__ float weight_of(const SampleRow& row, float logit) {
  return expf((logit - row.largest) * row.scale);
}

__device__ __forceinline__ bool is_kept(const SampleRow& row, int id, unsigned key) {
  return key > row.key || (key == row.key && id <= row.last);
}

__device__ __forceinline__ double warp_sum_double(double x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(FULL_WARP, x, offset);
  return x;
}

// Sums over the block; every thread gets them.
template <int N>
__device__ __forceinline__ void block_sums_double(double (&x)[N], SampleShared& shared) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  for (int i = 0; i < N; i++) x[i] = warp_sum_double(x[i]);
  __syncthreads();
  if (lane == 0)
    for (int i = 0; i < N; i++) shared.sums[i][warp] = x[i];
  __syncthreads();
  for (int i = 0; i < N; i++) x[i] = warp_sum_double(lane < warps ? shared.sums[i][lane] : 0.0);
}

// How many kept tokens there are, or (BY_MASS) the sum of their weights, is called their measure. The largest key with
// measure(keys of at least it) ≥ wanted, or 0 where there is none; `beyond` becomes measure(keys above it).
template <bool BY_MASS>
__device__ __forceinline__ unsigned search_key(const SampleRow& row, double wanted, double& beyond,
                                               SampleShared& shared) {
  // The key is within low ..= high.
  unsigned low = 0, high = 0xffffffffu;
  beyond = 0.0;
  for (int shift = 30; shift >= 0; shift -= 2) {
    unsigned step = 1u << shift;
    double sums[3] = {0.0, 0.0, 0.0};
#pragma unroll 4
    for (int id = threadIdx.x; id < row.vocabulary; id += blockDim.x) {
      float logit = row.logits[id];
      unsigned key = order_key(logit);
      if (key < low + step || key > high || !is_kept(row, id, key)) continue;
      double measure = BY_MASS ? (double)weight_of(row, logit) : 1.0;
      sums[0] += measure;
      if (key >= low + 2 * step) sums[1] += measure;
      if (key >= low + 3 * step) sums[2] += measure;
    }
    block_sums_double(sums, shared);
    // In which quarter of low ..= high the key is.
    unsigned quarter = 0;
    double above = sums[0];
#pragma unroll
    for (int i = 0; i < 3; i++)
      if (quarter == (unsigned)i && beyond + sums[i] >= wanted) {
        quarter = i + 1;
        above = i < 2 ? sums[i + 1] : 0.0;
      }
    beyond += above;
    if (quarter < 3) high = low + (quarter + 1) * step - 1;
    low += quarter * step;
  }
  return low;
}

// A walk over 32 sums, of which each lane has one: the first that brings what was `reached` before it above `target`, or the
// last that is not 0; −1 where all are. Every lane gets it.
__device__ __forceinline__ int walk(double sum, double target, double& reached) {
  int found = -1;
  double before = reached;
#pragma unroll 8
  for (int i = 0; i < 32; i++) {
    double here = __shfl_sync(FULL_WARP, sum, i);
    if (here > 0.0 && reached <= target) {
      found = i;
      before = reached;
    }
    reached += here;
  }
  reached = before;
  return found;
}

// The id at which the running sum over ids passes `target`: the sum of weights of kept tokens, of which `target` is a share,
// or (TIES) the number of tokens with the key of the cut. A warp has a run of ids, then a lane of the warp that is found.
template <bool TIES>
__device__ __forceinline__ int locate(const SampleRow& row, double target, SampleShared& shared) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  int run = (row.vocabulary + warps - 1) / warps, piece = (run + 31) / 32;
  auto measure = [&](int id) -> double {
    float logit = row.logits[id];
    unsigned key = order_key(logit);
    if (TIES) return key == row.key ? 1.0 : 0.0;
    return is_kept(row, id, key) ? (double)weight_of(row, logit) : 0.0;
  };
  int start = warp * run, end = start + run < row.vocabulary ? start + run : row.vocabulary;
  double sum = 0.0;
  for (int id = start + lane; id < end; id += 32) sum += measure(id);
  sum = warp_sum_double(sum);
  __syncthreads();
  if (lane == 0) shared.sums[0][warp] = sum;
  if (threadIdx.x == 0) shared.id = row.vocabulary - 1;
  __syncthreads();
  if (warp == 0) {
    double own = lane < warps ? shared.sums[0][lane] : 0.0;
    if (!TIES) {
      // In the order of the walk, which then reaches it exactly.
      double total = 0.0;
#pragma unroll 8
      for (int i = 0; i < 32; i++) total += __shfl_sync(FULL_WARP, own, i);
      target *= total;
    }
    double reached = 0.0;
    int chosen = walk(own, target, reached);
    if (chosen >= 0) {
      start = chosen * run, end = start + run < row.vocabulary ? start + run : row.vocabulary;
      int first = start + lane * piece, behind = first + piece < end ? first + piece : end;
      own = 0.0;
      for (int id = first; id < behind; id++) own += measure(id);
      int part = walk(own, target, reached);
      first = start + part * piece, behind = first + piece < end ? first + piece : end;
      for (int id = first; id < behind; id++) {
        double here = measure(id);
        if (here > 0.0 && reached <= target && lane == 0) shared.id = id;
        reached += here;
      }
    }
  }
  __syncthreads();
  return shared.id;
}

// The first id with the largest logit.
__device__ __forceinline__ int first_largest(const SampleRow& row, SampleShared& shared) {
  int first = row.vocabulary;
  for (int id = threadIdx.x; id < row.vocabulary && first == row.vocabulary; id += blockDim.x)
    if (row.logits[id] == row.largest) first = id;
  for (int offset = 16; offset > 0; offset >>= 1) {
    int other = __shfl_xor_sync(FULL_WARP, first, offset);
    first = other < first ? other : first;
  }
  __syncthreads();
  if ((threadIdx.x & 31) == 0) shared.sums[0][threadIdx.x >> 5] = first;
  __syncthreads();
  for (int i = 0; i < (int)(blockDim.x >> 5); i++)
    if ((int)shared.sums[0][i] < first) first = (int)shared.sums[0][i];
  return first;
}

// Cuts to the `top_k` likeliest.
__device__ __forceinline__ void keep_likeliest(SampleRow& row, int top_k, SampleShared& shared) {
  double beyond;
  row.key = search_key<false>(row, top_k, beyond, shared);
  row.last = locate<true>(row, top_k - beyond - 0.5, shared);
}

// Cuts what is kept to the smallest set that has `top_p` of its probability.
__device__ __forceinline__ void keep_nucleus(SampleRow& row, float top_p, SampleShared& shared) {
  double mass[1] = {0.0}, beyond;
  for (int id = threadIdx.x; id < row.vocabulary; id += blockDim.x) {
    float logit = row.logits[id];
    if (is_kept(row, id, order_key(logit))) mass[0] += (double)weight_of(row, logit);
  }
  block_sums_double(mass, shared);
  // A share such as 0.1 may have been rounded up to a float, and one of ten equal tokens still has it: half a unit in the last
  // place is left out.
  double wanted = (double)top_p * (1.0 - 0x1p-24) * mass[0];
  unsigned key = search_key<true>(row, wanted, beyond, shared);
  // Where rounding lets no cut reach what is wanted, all that is kept stays.
  if (key == 0) return;
  // The smallest number of tokens with this key that reach it.
  double tie = (double)weight_of(row, from_order_key(key));
  double count = fmin(ceil((wanted - beyond) / tie), (double)row.vocabulary);
  if (count > 1.0 && beyond + (count - 1.0) * tie >= wanted) count -= 1.0;
  if (beyond + count * tie < wanted) count += 1.0;
  int limit = key == row.key ? row.last : row.vocabulary - 1;
  row.key = key;
  int last = locate<true>(row, count - 0.5, shared);
  row.last = last < limit ? last : limit;
}

// The next token of each row r of the batch, which lives in slot s = active[r]; a slot that is done is left alone.
//   logits (rows, V), undivided
//   uniforms, out_ids, out_logprobs (slots, max_new): the numbers in [0, 1) to draw by, the tokens, and their
//     log-probabilities in nats under the whole distribution at the temperature (at 1 where that is 0)
//   tokens, positions, lengths, done (slots,): the newest token, its position, how many tokens there are, and whether there
//     will be no more: the newest is one of `eos` (eos_count,), or there are max_new
//   temperature 0 takes the first likeliest token and no uniform; top_k 0 and top_p 1 cut nothing
//   invalid (1,): becomes 2³¹ − 1 − s for the first slot s whose logits are not finite; such slots are done then
extern "C" __global__ void __launch_bounds__(1024)
    sample(const float* logits, const int* active, const double* uniforms, int* tokens, int* positions, int* lengths,
           int* done, int* out_ids, float* out_logprobs, const int* eos, int eos_count, int max_new, int vocabulary,
           float temperature, int top_k, float top_p, int* invalid) {
  __shared__ SampleShared shared;
  int slot = active[blockIdx.x];
  if (done[slot]) return;
  int length = lengths[slot];
  bool greedy = temperature == 0.0f;
  SampleRow row = {logits + (long long)blockIdx.x * vocabulary, vocabulary, -INFINITY, greedy ? 1.0f : 1.0f / temperature,
                   0, vocabulary - 1};
#pragma unroll 4
  for (int id = threadIdx.x; id < vocabulary; id += blockDim.x) row.largest = fmaxf(row.largest, row.logits[id]);
  row.largest = block_max(row.largest, shared.floats);
  double sum[1] = {0.0};
#pragma unroll 4
  for (int id = threadIdx.x; id < vocabulary; id += blockDim.x) sum[0] += (double)weight_of(row, row.logits[id]);
  block_sums_double(sum, shared);
  // NaN anywhere, or an infinite logit, makes the sum NaN.
  if (!(sum[0] < (double)INFINITY)) {
    if (threadIdx.x == 0) {
      atomicMax(invalid, 0x7fffffff - slot);
      done[slot] = 1;
    }
    return;
  }
  int id;
  if (greedy) {
    id = first_largest(row, shared);
  } else {
    if (top_k > 0 && top_k < vocabulary) keep_likeliest(row, top_k, shared);
    if (top_p < 1.0f) keep_nucleus(row, top_p, shared);
    id = locate<false>(row, uniforms[(long long)slot * max_new + length], shared);
  }
  if (threadIdx.x == 0) {
    long long at = (long long)slot * max_new + length;
    out_ids[at] = id;
    out_logprobs[at] = (row.logits[id] - row.largest) * row.scale - (float)log(sum[0]);
    tokens[slot] = id;
    positions[slot] += 1;
    lengths[slot] = length + 1;
    bool ends = length + 1 == max_new;
    for (int i = 0; i < eos_count; i++) ends = ends || eos[i] == id;
    done[slot] = ends ? 1 : 0;
  }
}
