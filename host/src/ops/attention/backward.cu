// Backward pass: the weights P are computed again from the scores and the kept log-sums. With scores S = Q·Kᵀ·scale:
// dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P ∘ (dP − Δ) with Δ = Σ_d O∘dO, dQ = dS·K·scale, dK = dSᵀ·Q·scale (Dao 2023,
// arXiv:2307.08691, algorithm 2). Where scores are capped, dS has the factor tanh′.
//
// One kernel walks over the keys of a tile of queries and writes dQ, one over the queries of a tile of keys and writes dK
// and dV. S and dP are computed in both: two products of seven, for sums whose order is fixed and no atomic addition.

// Δ (m, H) of out and grad (m, H·D). Grid: any; ⌈m·H / 16⌉ blocks have about one turn each.
extern "C" __global__ void __launch_bounds__(128) attention_delta(const real* out, const real* grad, float* delta, int m, int heads) {
  using namespace attention;
  // A team of TEAM lanes for a row of D.
  const long long rows = (long long)m * heads, stride = (long long)gridDim.x * (THREADS / TEAM);
  const int lane = threadIdx.x % TEAM;
  // The first row of the warp decides, because all of its lanes meet in the shuffle.
  long long first = (long long)blockIdx.x * (THREADS / TEAM) + threadIdx.x / 32 * (32 / TEAM);
  for (; first < rows; first += stride) {
    const long long row = first + threadIdx.x % 32 / TEAM;
    float sum = 0.0f;
    for (int part = lane; part < D / VECTOR && row < rows; part += TEAM) {
      float a[VECTOR], b[VECTOR];
      to_floats(read_raw(out + row * D + part * VECTOR), a);
      to_floats(read_raw(grad + row * D + part * VECTOR), b);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) sum = fmaf(a[i], b[i], sum);
    }
    sum = team_sum(sum);
    if (lane == 0 && row < rows) delta[row] = sum;
  }
}

#if ATTENTION_TENSOR_CORES

// query and grad (m, H·D), key_value (n, 2·K·D), log_sums and delta (m, H) → d_query (m, H·D). Grid (query tiles, H).
extern "C" __global__ void __launch_bounds__(128)
    attention_backward_query(const real* query, const real* key_value, const real* grad, const float* log_sums, const float* delta,
                             const int* spans, const int2* tiles, real* d_query, int heads, int kv_heads, float scale,
                             float cap, int window) {
  using namespace attention;
  constexpr int CHUNK = 32;  // keys of which scores are in registers
  DYNAMIC_SHARED(memory);
  // (2 stages, keys and values, STEP, STRIDE). Before the second is needed, the tile's queries and grads lie there, for
  // which it is too short by TILE rows where D > 64.
  bf16* shared = (bf16*)memory;
  Tile tile = tile_of(spans, tiles[blockIdx.x], false);
  skip_keys<STEP>(tile, window);
  const int head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const int wide = heads * D, narrow = 2 * kv_heads * D;
  const long long place = (tile.queries + tile.begin) * wide + head * D;
  const bf16* keys = key_value + tile.keys * narrow + kv_head * D;
  const bf16* values = keys + kv_heads * D;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  auto fetch = [&](int step) {
    bf16* stage = shared + step % 2 * STAGE;
    const int key = step * STEP, valid = tile.length - key;
    fetch_rows<STEP>(stage, keys + (long long)key * narrow, narrow, valid);
    fetch_rows<STEP>(stage + STEP * STRIDE, values + (long long)key * narrow, narrow, valid);
    copy_async_commit();
  };
  const int rows = tile.count - warp * 16, position = tile.first + tile.begin + warp * 16;
  const int before = before_window(position, window);
  const float inner = scale / cap, scale_2 = outer_scale(scale, cap) * LOG2_E;
  Sums d_queries;
  clear(d_queries);

  const int seen = tile.first + tile.begin + tile.count, steps = (seen + STEP - 1) / STEP;
  fetch_rows<TILE>(shared + STAGE, query + place, wide, tile.count);
  fetch_rows<TILE>(shared + STAGE + TILE * STRIDE, grad + place, wide, tile.count);
  fetch(0);
  float log_sum[2], shift[2];  // of the lane's two rows; a row that is not there weighs nothing
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp * 16 + lane / 4 + 8 * half;
    const long long at = (tile.queries + tile.begin + row) * heads + head;
    log_sum[half] = row < tile.count ? log_sums[at] * LOG2_E : INFINITY;
    shift[half] = row < tile.count ? delta[at] : 0.0f;
  }
  copy_async_wait<0>();
  __syncthreads();
  Operand queries, grads;
  read_operand(queries, shared + STAGE + warp * 16 * STRIDE);
  read_operand(grads, shared + STAGE + (TILE + warp * 16) * STRIDE);
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<0>();
    __syncthreads();
    if (step + 1 < steps) fetch(step + 1);
    const bf16* stage = shared + step % 2 * STAGE;
    for (int chunk = 0; chunk < STEP; chunk += CHUNK) {
      const int key = step * STEP + chunk;
      if (rows <= 0 || key > position + 15) break;
      if (key + CHUNK - 1 <= before) continue;
      const bf16* chunk_keys = stage + chunk * STRIDE;
      float scores[CHUNK / 8][4], d_weights[CHUNK / 8][4];
      products_of(scores, InRegisters{queries}, chunk_keys);
      products_of(d_weights, InRegisters{grads}, chunk_keys + STEP * STRIDE);
      bound(scores, inner);
      const bool masked = key + CHUNK - 1 > position, windowed = key <= before + 15;
#pragma unroll
      for (int n = 0; n < CHUNK / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float weight = power_of_two(fmaf(scores[n][i], scale_2, -log_sum[i / 2]));
          if (masked && key + n * 8 + lane % 4 * 2 + i % 2 > position + lane / 4 + i / 2 * 8) weight = 0.0f;
          if (windowed && key + n * 8 + lane % 4 * 2 + i % 2 <= before + lane / 4 + i / 2 * 8) weight = 0.0f;
          d_weights[n][i] = weight * (d_weights[n][i] - shift[i / 2]) * slope(scores[n][i]);
        }
      }
      unsigned d_scores[CHUNK / 16][4];
      as_left(d_scores, d_weights);
      accumulate(d_queries, d_scores, chunk_keys);
    }
  }
  __syncthreads();
  const float factors[2] = {scale, scale};
  write_rows(d_query + place + warp * 16 * wide, wide, rows, d_queries, factors, shared + warp * 16 * STRIDE);
}

// The same → d_key_value (n, 2·K·D). Grid (key tiles, K). Scores stand the other way round here: rows are keys.
extern "C" __global__ void __launch_bounds__(128, HEAD_DIM <= 64 ? 3 : 2)
    attention_backward_key_value(const real* query, const real* key_value, const real* grad, const float* log_sums,
                                 const float* delta, const int* spans, const int2* tiles, real* d_key_value, int heads, int kv_heads,
                                 float scale, float cap, int window) {
  using namespace attention;
  constexpr int CHUNK = 32;                // queries of which scores are in registers
  constexpr bool IN_REGISTERS = D <= 64;   // the tile's keys and values; above, they would not fit
  DYNAMIC_SHARED(memory);
  bf16* kept = (bf16*)memory;                                            // (keys and values, TILE, STRIDE), or nothing
  bf16* shared = kept + (IN_REGISTERS ? 0 : 2 * TILE * STRIDE);          // (2 stages, queries and grads, STEP, STRIDE)
  float* statistics = (float*)(shared + 2 * STAGE);                      // (2 stages, log-sums and Δ, STEP)
  Tile tile = tile_of(spans, tiles[blockIdx.x], true);
  skip_queries(tile, window);
  const int kv_head = blockIdx.y, group = heads / kv_heads;
  const int wide = heads * D, narrow = 2 * kv_heads * D;
  const long long place = (tile.keys + tile.begin) * narrow + kv_head * D;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  // From the first query that sees the tile's first key on, for each head of the group.
  const int start = max(0, tile.begin - tile.first);
  const bool looked_at = start < tile.asking;

  // Where a step begins: its head and its first query.
  struct Place {
    int head, begin;
  };
  Place now = {kv_head * group, start};
  auto advance = [&](Place& at) {
    at.begin += STEP;
    if (at.begin >= tile.asking) ++at.head, at.begin = start;
  };
  auto fetch = [&](Place at, int stage) {
    const long long from = (tile.queries + at.begin) * wide + at.head * D;
    bf16* to = shared + stage * STAGE;
    fetch_rows<STEP>(to, query + from, wide, tile.asking - at.begin);
    fetch_rows<STEP>(to + STEP * STRIDE, grad + from, wide, tile.asking - at.begin);
    copy_async_commit();
  };
  // What one thread fetches of the statistics. Queries after the last weigh nothing: e^(score − ∞) = 0.
  auto statistic = [&](Place at) {
    const int own = at.begin + threadIdx.x % STEP;
    const bool is_delta = threadIdx.x >= STEP;
    if (threadIdx.x >= 2 * STEP || own >= tile.asking) return is_delta ? 0.0f : INFINITY;
    const long long from = (tile.queries + own) * heads + at.head;
    return is_delta ? delta[from] : log_sums[from] * LOG2_E;
  };
  auto put_statistic = [&](float value, int stage) {
    if (threadIdx.x < 2 * STEP) statistics[stage * 2 * STEP + threadIdx.x] = value;
  };

  const float inner = scale / cap, scale_2 = outer_scale(scale, cap) * LOG2_E;
  Operand keys, values;
  Sums d_keys, d_values;
  clear(d_keys);
  clear(d_values);
  if (looked_at) {
    bf16* own = IN_REGISTERS ? shared + STAGE : kept;  // in the former case until the second stage is needed
    fetch_rows<TILE>(own, key_value + place, narrow, tile.count);
    fetch_rows<TILE>(own + TILE * STRIDE, key_value + place + kv_heads * D, narrow, tile.count);
    fetch(now, 0);
    put_statistic(statistic(now), 0);
    if (IN_REGISTERS) {
      copy_async_wait<0>();
      __syncthreads();
      read_operand(keys, own + warp * 16 * STRIDE);
      read_operand(values, own + (TILE + warp * 16) * STRIDE);
    }
  }
  const bf16* own_keys = kept + warp * 16 * STRIDE;
  const bf16* own_values = own_keys + TILE * STRIDE;
  // The warp's first key; one that nobody sees where there is none.
  const int key = warp * 16 < tile.count ? tile.begin + warp * 16 : 1 << 30;
  const int last_head = kv_head * group + group - 1;
  for (int stage = 0; looked_at && now.head <= last_head; stage ^= 1) {
    copy_async_wait<0>();
    __syncthreads();
    Place next = now;
    advance(next);
    float next_statistic = 0.0f;
    if (next.head <= last_head) {
      fetch(next, stage ^ 1);
      next_statistic = statistic(next);
    }
    const float* log_sum = statistics + stage * 2 * STEP;
    for (int chunk = 0; chunk < STEP; chunk += CHUNK) {
      const int position = tile.first + now.begin + chunk;  // of the chunk's first query
      if (now.begin + chunk >= tile.asking) break;
      const int before = before_window(position, window);
      if (key > position + CHUNK - 1 || (WINDOWED && key + 15 <= before)) continue;
      const bf16* chunk_queries = shared + stage * STAGE + chunk * STRIDE;
      const bf16* chunk_grads = chunk_queries + STEP * STRIDE;
      float weights[CHUNK / 8][4], d_scores[CHUNK / 8][4];
      if constexpr (IN_REGISTERS) {
        products_of(weights, InRegisters{keys}, chunk_queries);
        products_of(d_scores, InRegisters{values}, chunk_grads);
      } else {
        products_of(weights, InSharedMemory{own_keys}, chunk_queries);
        products_of(d_scores, InSharedMemory{own_values}, chunk_grads);
      }
      bound(weights, inner);
      const bool masked = key + 15 > position, windowed = WINDOWED && key <= before + CHUNK - 1;
#pragma unroll
      for (int n = 0; n < CHUNK / 8; ++n) {
        const int column = n * 8 + lane % 4 * 2;
        const float2 sums = *(const float2*)(log_sum + chunk + column), shifts = *(const float2*)(log_sum + STEP + chunk + column);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float weight = power_of_two(fmaf(weights[n][i], scale_2, -(i % 2 ? sums.y : sums.x)));
          if (masked && key + lane / 4 + i / 2 * 8 > position + column + i % 2) weight = 0.0f;
          if (windowed && key + lane / 4 + i / 2 * 8 <= before + column + i % 2) weight = 0.0f;
          const float steepness = slope(weights[n][i]);
          weights[n][i] = weight;
          d_scores[n][i] = weight * (d_scores[n][i] - (i % 2 ? shifts.y : shifts.x)) * steepness;
        }
      }
      unsigned left[CHUNK / 16][4];
      as_left(left, weights);
      accumulate(d_values, left, chunk_grads);
      as_left(left, d_scores);
      accumulate(d_keys, left, chunk_queries);
    }
    put_statistic(next_statistic, stage ^ 1);
    advance(now);
  }
  __syncthreads();
  const float scales[2] = {scale, scale}, ones[2] = {1.0f, 1.0f};
  real* to = d_key_value + place + warp * 16 * narrow;
  write_rows(to, narrow, tile.count - warp * 16, d_keys, scales, shared + warp * 16 * STRIDE);
  write_rows(to + kv_heads * D, narrow, tile.count - warp * 16, d_values, ones, shared + warp * 16 * STRIDE);
}

#else

extern "C" __global__ void __launch_bounds__(128)
    attention_backward_query(const real* query, const real* key_value, const real* grad, const float* log_sums, const float* delta,
                             const int* spans, const int2* tiles, real* d_query, int heads, int kv_heads, float scale,
                             float cap, int window) {
  using namespace attention;
  DYNAMIC_SHARED(memory);
  float* queries = (float*)memory;                 // (TILE, STRIDE)
  float* grads = queries + TILE * STRIDE;          // (TILE, STRIDE)
  float* step_keys = grads + TILE * STRIDE;        // (STEP, STRIDE)
  float* step_values = step_keys + STEP * STRIDE;  // (STEP, STRIDE)
  float* shared_scores = step_values + STEP * STRIDE;  // dS (TILE, WEIGHTS_STRIDE)
  Tile tile = tile_of(spans, tiles[blockIdx.x], false);
  skip_keys<STEP>(tile, window);
  const int head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const int wide = heads * D, narrow = 2 * kv_heads * D;
  const long long place = (tile.queries + tile.begin) * wide + head * D;
  const real* keys = key_value + tile.keys * narrow + kv_head * D;
  const real* values = keys + kv_heads * D;
  const float inner = scale / cap, scale_2 = outer_scale(scale, cap) * LOG2_E;
  float log_sum[ROWS], shift[ROWS], factors[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const int row = thread_y() + 8 * i;
    const long long at = (tile.queries + tile.begin + row) * heads + head;
    log_sum[i] = row < tile.count ? log_sums[at] * LOG2_E : INFINITY;
    shift[i] = row < tile.count ? delta[at] : 0.0f;
    factors[i] = scale;
  }
  Sums d_queries;
  clear(d_queries);

  load_rows<TILE>(queries, query + place, wide, tile.count);
  load_rows<TILE>(grads, grad + place, wide, tile.count);
  const int seen = tile.first + tile.begin + tile.count;
  for (int key = 0; key < seen; key += STEP) {
    __syncthreads();
    load_rows<STEP>(step_keys, keys + (long long)key * narrow, narrow, tile.length - key);
    load_rows<STEP>(step_values, values + (long long)key * narrow, narrow, tile.length - key);
    __syncthreads();
    Products scores, d_weights;
    products_of(scores, queries, step_keys);
    products_of(d_weights, grads, step_values);
    bound(scores, inner);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      const int position = tile.first + tile.begin + thread_y() + 8 * i, before = before_window(position, window);
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        const bool sees = key + thread_x() + 16 * j <= position && key + thread_x() + 16 * j > before;
        const float weight = sees ? power_of_two(fmaf(scores[i][j], scale_2, -log_sum[i])) : 0.0f;
        scores[i][j] = weight * (d_weights[i][j] - shift[i]) * slope(scores[i][j]);
      }
    }
    put(shared_scores, scores);
    __syncwarp();
    accumulate(d_queries, shared_scores, step_keys);
  }
  write_rows(d_query + place, wide, tile.count, d_queries, factors);
}

extern "C" __global__ void __launch_bounds__(128)
    attention_backward_key_value(const real* query, const real* key_value, const real* grad, const float* log_sums,
                                 const float* delta, const int* spans, const int2* tiles, real* d_key_value, int heads, int kv_heads,
                                 float scale, float cap, int window) {
  using namespace attention;
  DYNAMIC_SHARED(memory);
  float* keys = (float*)memory;                         // (TILE, STRIDE)
  float* values = keys + TILE * STRIDE;                 // (TILE, STRIDE)
  float* step_queries = values + TILE * STRIDE;         // (STEP, STRIDE)
  float* step_grads = step_queries + STEP * STRIDE;     // (STEP, STRIDE)
  float* weights = step_grads + STEP * STRIDE;          // Pᵀ (TILE, WEIGHTS_STRIDE)
  float* d_scores = weights + TILE * WEIGHTS_STRIDE;    // dSᵀ (TILE, WEIGHTS_STRIDE)
  Tile tile = tile_of(spans, tiles[blockIdx.x], true);
  skip_queries(tile, window);
  const int kv_head = blockIdx.y, group = heads / kv_heads;
  const int wide = heads * D, narrow = 2 * kv_heads * D;
  const long long place = (tile.keys + tile.begin) * narrow + kv_head * D;
  const float inner = scale / cap, scale_2 = outer_scale(scale, cap) * LOG2_E;
  Sums d_keys, d_values;
  clear(d_keys);
  clear(d_values);

  load_rows<TILE>(keys, key_value + place, narrow, tile.count);
  load_rows<TILE>(values, key_value + place + kv_heads * D, narrow, tile.count);
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    // From the first query that sees the tile's first key on.
    for (int begin = max(0, tile.begin - tile.first); begin < tile.asking; begin += STEP) {
      const long long from = (tile.queries + begin) * wide + head * D;
      __syncthreads();
      load_rows<STEP>(step_queries, query + from, wide, tile.asking - begin);
      load_rows<STEP>(step_grads, grad + from, wide, tile.asking - begin);
      __syncthreads();
      Products p, ds;
      products_of(p, keys, step_queries);
      products_of(ds, values, step_grads);
      bound(p, inner);
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        const int at = begin + thread_x() + 16 * j, position = tile.first + at, before = before_window(position, window);
        const bool asks = at < tile.asking;
        const float log_sum = asks ? log_sums[(tile.queries + at) * heads + head] * LOG2_E : 0.0f;
        const float shift = asks ? delta[(tile.queries + at) * heads + head] : 0.0f;
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
          const int key = tile.begin + thread_y() + 8 * i;
          const bool sees = asks && key <= position && (!WINDOWED || key > before);
          const float steepness = slope(p[i][j]);
          p[i][j] = sees ? power_of_two(fmaf(p[i][j], scale_2, -log_sum)) : 0.0f;
          ds[i][j] = p[i][j] * (ds[i][j] - shift) * steepness;
        }
      }
      put(weights, p);
      put(d_scores, ds);
      __syncwarp();
      accumulate(d_values, weights, step_grads);
      accumulate(d_keys, d_scores, step_queries);
    }
  }
  float scales[ROWS], ones[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i) scales[i] = scale, ones[i] = 1.0f;
  write_rows(d_key_value + place, narrow, tile.count, d_keys, scales);
  write_rows(d_key_value + place + kv_heads * D, narrow, tile.count, d_values, ones);
}

#endif
