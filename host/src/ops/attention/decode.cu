// The step of decoding: each row's one new query of every head against the row's cached keys and values.
//
// All that matters is reading the cache once, 16 bytes a lane, with many loads under way. TEAM lanes read a key or a value
// together, and every team of a block goes through keys of its own with a softmax of its own (as forward.cu does step by
// step, here for up to four query heads at once); at the end the teams' sums are brought to one maximum and added.

namespace attention {

constexpr int TEAMS_OF_WARP = 32 / TEAM;
constexpr int WARPS = THREADS / 32;
constexpr int TEAMS = WARPS * TEAMS_OF_WARP;
// Parts of VECTOR elements that a lane has of a row of D.
constexpr int PARTS = (D / VECTOR + TEAM - 1) / TEAM;
// Keys of a team under way at a time.
constexpr int UNROLL = PARTS == 1 ? 4 : 1;
constexpr int MOST_HEADS = 4;

// One softmax under way: values mixed with weights 2^(score − highest), and the weights' sum.
struct Running {
  float highest, sum;
  float mixed[PARTS][VECTOR];

  // Brings it to another maximum, at least as high.
  __device__ __forceinline__ void raise(float to) {
    // −∞ where nothing has been seen, by which nothing may be multiplied.
    const float factor = highest == -INFINITY ? 0.0f : power_of_two(highest - to);
    highest = to;
    sum *= factor;
#pragma unroll
    for (int p = 0; p < PARTS; ++p) {
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) mixed[p][i] *= factor;
    }
  }
};

// HEADS query heads from `query` on against `length` keys and values, which lie `stride` elements apart → out (HEADS·D).
template <int HEADS>
__device__ __forceinline__ void decode(const real* query, const real* keys, const real* values, long long stride, int length,
                                       float scale, float cap, real* out, float* shared) {
  const int warp = threadIdx.x / 32, team = threadIdx.x % 32 / TEAM, lane = threadIdx.x % TEAM;
  // What the query is multiplied by once, and a score again after its tanh, if any.
  const float inner = CAPPED ? scale / cap : scale * LOG2_E, outer = cap * LOG2_E;
  float asked[HEADS][PARTS][VECTOR];
  Running running[HEADS];
#pragma unroll
  for (int h = 0; h < HEADS; ++h) {
    running[h].highest = -INFINITY, running[h].sum = 0.0f;
#pragma unroll
    for (int p = 0; p < PARTS; ++p) {
      const int part = p * TEAM + lane;
      if (part < D / VECTOR) to_floats(read_raw(query + h * D + part * VECTOR), asked[h][p]);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) {
        asked[h][p][i] = part < D / VECTOR ? asked[h][p][i] * inner : 0.0f;
        running[h].mixed[p][i] = 0.0f;
      }
    }
  }

  // The warp's first team decides, because all lanes meet in the shuffles.
  for (int first = warp * TEAMS_OF_WARP; first < length; first += TEAMS * UNROLL) {
    Raw key[UNROLL][PARTS], value[UNROLL][PARTS];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const long long place = min(first + team + u * TEAMS, length - 1) * stride;
#pragma unroll
      for (int p = 0; p < PARTS; ++p) {
        const int part = min(p * TEAM + lane, D / VECTOR - 1);  // beyond D the query is zero
        key[u][p] = read_raw(keys + place + part * VECTOR);
        value[u][p] = read_raw(values + place + part * VECTOR);
      }
    }
    float scores[UNROLL][HEADS];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
#pragma unroll
      for (int h = 0; h < HEADS; ++h) scores[u][h] = 0.0f;
#pragma unroll
      for (int p = 0; p < PARTS; ++p) {
        float x[VECTOR];
        to_floats(key[u][p], x);
#pragma unroll
        for (int h = 0; h < HEADS; ++h) {
#pragma unroll
          for (int i = 0; i < VECTOR; ++i) scores[u][h] = fmaf(asked[h][p][i], x[i], scores[u][h]);
        }
      }
#pragma unroll
      for (int h = 0; h < HEADS; ++h) {
        scores[u][h] = team_sum(scores[u][h]);
        if (CAPPED) scores[u][h] = tanhf(scores[u][h]) * outer;
        if (first + team + u * TEAMS >= length) scores[u][h] = -INFINITY;
      }
    }
#pragma unroll
    for (int h = 0; h < HEADS; ++h) {
      float highest = running[h].highest;
#pragma unroll
      for (int u = 0; u < UNROLL; ++u) highest = fmaxf(highest, scores[u][h]);
      running[h].raise(highest);
#pragma unroll
      for (int u = 0; u < UNROLL; ++u) {
        scores[u][h] = scores[u][h] == -INFINITY ? 0.0f : power_of_two(scores[u][h] - highest);
        running[h].sum += scores[u][h];
      }
    }
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
#pragma unroll
      for (int p = 0; p < PARTS; ++p) {
        float x[VECTOR];
        to_floats(value[u][p], x);
#pragma unroll
        for (int h = 0; h < HEADS; ++h) {
#pragma unroll
          for (int i = 0; i < VECTOR; ++i) running[h].mixed[p][i] = fmaf(scores[u][h], x[i], running[h].mixed[p][i]);
        }
      }
    }
  }

  // The teams of a warp, then the warps.
  float* mixed = shared;                          // (WARPS, HEADS, D)
  float* highest = shared + WARPS * HEADS * D;    // (WARPS, HEADS)
  float* sums = highest + WARPS * HEADS;          // (WARPS, HEADS)
#pragma unroll
  for (int h = 0; h < HEADS; ++h) {
    float top = running[h].highest;
#pragma unroll
    for (int offset = TEAM; offset < 32; offset <<= 1) top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, offset));
    running[h].raise(top);
#pragma unroll
    for (int offset = TEAM; offset < 32; offset <<= 1) {
      running[h].sum += __shfl_xor_sync(FULL_WARP, running[h].sum, offset);
#pragma unroll
      for (int p = 0; p < PARTS; ++p) {
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) {
          running[h].mixed[p][i] += __shfl_xor_sync(FULL_WARP, running[h].mixed[p][i], offset);
        }
      }
    }
    if (team == 0) {
#pragma unroll
      for (int p = 0; p < PARTS; ++p) {
        const int part = p * TEAM + lane;
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) {
          if (part < D / VECTOR) mixed[(warp * HEADS + h) * D + part * VECTOR + i] = running[h].mixed[p][i];
        }
      }
      if (lane == 0) highest[warp * HEADS + h] = top, sums[warp * HEADS + h] = running[h].sum;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < HEADS * D; i += THREADS) {
    const int h = i / D;
    float top = highest[h], sum = 0.0f, x = 0.0f;
    for (int w = 1; w < WARPS; ++w) top = fmaxf(top, highest[w * HEADS + h]);
    for (int w = 0; w < WARPS; ++w) {
      const float own = highest[w * HEADS + h], factor = own == -INFINITY ? 0.0f : power_of_two(own - top);
      sum = fmaf(factor, sums[w * HEADS + h], sum);
      x = fmaf(factor, mixed[w * HEADS * D + i], x);
    }
    out[i] = to_real(x / sum);
  }
  __syncthreads();
}

}  // namespace attention

// query (R, H·D) with positions already in it; keys and values of a layer (slots, room, K·D), the new tokens' already among
// them; active (R): each row's slot; positions (slots): of each slot's newest token → out (R, H·D). Grid (R, K).
extern "C" __global__ void __launch_bounds__(128)
    attention_decode(const real* query, const real* keys, const real* values, const int* active, const int* positions, real* out,
                     int room, int heads, int kv_heads, float scale, float cap, int window) {
  using namespace attention;
  DYNAMIC_SHARED(memory);
  const int slot = active[blockIdx.x], kv_head = blockIdx.y, group = heads / kv_heads;
  const int first = !WINDOWED ? 0 : max(0, positions[slot] + 1 - window), length = positions[slot] + 1 - first;
  const long long stride = (long long)kv_heads * D, cache = slot * (room * stride) + first * stride + kv_head * D;
  for (int head = 0; head < group; head += MOST_HEADS) {
    const long long place = ((long long)blockIdx.x * heads + kv_head * group + head) * D;
    const real *q = query + place, *k = keys + cache, *v = values + cache;
    switch (min(group - head, MOST_HEADS)) {
      case 1: decode<1>(q, k, v, stride, length, scale, cap, out + place, (float*)memory); break;
      case 2: decode<2>(q, k, v, stride, length, scale, cap, out + place, (float*)memory); break;
      case 3: decode<3>(q, k, v, stride, length, scale, cap, out + place, (float*)memory); break;
      default: decode<4>(q, k, v, stride, length, scale, cap, out + place, (float*)memory);
    }
  }
}
