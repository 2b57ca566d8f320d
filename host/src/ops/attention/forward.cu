// Forward pass: O = softmax(Q · Kᵀ · scale) · V for a tile of queries of one head, key by key upwards, with the softmax's
// maximum and sum kept up to date (Dao 2023, arXiv:2307.08691, algorithm 1). What is kept for the backward pass is the
// natural log of the sum of exponentials of every query's scores.
//
// Keys after a query, and before its window, weigh exactly nothing, and steps begin at the row's first key or a multiple of STEP
// after it, so a query's result has the same bits whichever others ask.

#if ATTENTION_TENSOR_CORES

// query (m, H·D), key_value (n, 2·K·D) → out (m, H·D), log_sums (m, H). Grid (query tiles, H).
extern "C" __global__ void __launch_bounds__(128)
    attention_forward(const real* query, const real* key_value, const int* spans, const int2* tiles, real* out, float* log_sums,
                      int heads, int kv_heads, float scale, float cap, int window) {
  using namespace attention;
  DYNAMIC_SHARED(memory);
  bf16* shared = (bf16*)memory;  // (2 stages, keys and values, STEP, STRIDE)
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
  // A lane has parts of two rows, eight apart: entries 0 and 1 of a fragment are the upper one's, 2 and 3 the lower's.
  const int rows = tile.count - warp * 16;                    // how many of the warp's rows there are
  const int position = tile.first + tile.begin + warp * 16;  // of the warp's first query in its row
  const int before = before_window(position, window);
  const float inner = scale / cap, outer = outer_scale(scale, cap), scale_2 = outer * LOG2_E;
  float highest[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
  Sums mixed;
  clear(mixed);

  const int seen = tile.first + tile.begin + tile.count;  // keys that the tile's last query sees
  const int steps = (seen + STEP - 1) / STEP;
  fetch_rows<TILE>(shared + STAGE, query + place, wide, tile.count);  // until the second stage is needed
  fetch(0);
  copy_async_wait<0>();
  __syncthreads();
  Operand queries;
  read_operand(queries, shared + STAGE + warp * 16 * STRIDE);
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<0>();
    __syncthreads();  // the step's stage is there, and nobody reads the other any more
    if (step + 1 < steps) fetch(step + 1);
    const int key = step * STEP;
    if (rows <= 0 || key > position + 15 || key + STEP - 1 <= before) continue;
    const bf16* stage = shared + step % 2 * STAGE;
    float scores[STEP / 8][4];
    products_of(scores, InRegisters{queries}, stage);
    bound(scores, inner);
    if (key + STEP - 1 > position) {
#pragma unroll
      for (int n = 0; n < STEP / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (key + n * 8 + lane % 4 * 2 + i % 2 > position + lane / 4 + i / 2 * 8) scores[n][i] = -INFINITY;
        }
      }
    }
    if (key <= before + 15) {
#pragma unroll
      for (int n = 0; n < STEP / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (key + n * 8 + lane % 4 * 2 + i % 2 <= before + lane / 4 + i / 2 * 8) scores[n][i] = BEFORE_WINDOW;
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float highest_now = highest[half];
#pragma unroll
      for (int n = 0; n < STEP / 8; ++n) highest_now = fmaxf(highest_now, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      highest_now = fmaxf(highest_now, __shfl_xor_sync(FULL_WARP, highest_now, 1));
      highest_now = fmaxf(highest_now, __shfl_xor_sync(FULL_WARP, highest_now, 2));
      const float factor = power_of_two((highest[half] - highest_now) * scale_2);
      const float shift = highest_now * scale_2;
      highest[half] = highest_now;
      float sum_now = 0.0f;
#pragma unroll
      for (int n = 0; n < STEP / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[n][i] = power_of_two(fmaf(scores[n][i], scale_2, -shift));
          sum_now += scores[n][i];
        }
      }
      sum[half] = sum[half] * factor + sum_now;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) mixed[n][2 * half] *= factor, mixed[n][2 * half + 1] *= factor;
    }
    unsigned weights[STEP / 16][4];
    as_left(weights, scores);
    accumulate(mixed, weights, stage + STEP * STRIDE);
  }

  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = sum[half];
    total += __shfl_xor_sync(FULL_WARP, total, 1);
    total += __shfl_xor_sync(FULL_WARP, total, 2);
    inverse[half] = 1.0f / total;
    const int row = warp * 16 + lane / 4 + 8 * half;
    if (lane % 4 == 0 && row < tile.count) {
      log_sums[(tile.queries + tile.begin + row) * heads + head] = highest[half] * outer + logf(total);
    }
  }
  __syncthreads();
  write_rows(out + place + warp * 16 * wide, wide, rows, mixed, inverse, shared + warp * 16 * STRIDE);
}

#else

extern "C" __global__ void __launch_bounds__(128)
    attention_forward(const real* query, const real* key_value, const int* spans, const int2* tiles, real* out, float* log_sums,
                      int heads, int kv_heads, float scale, float cap, int window) {
  using namespace attention;
  DYNAMIC_SHARED(memory);
  float* queries = (float*)memory;                  // (TILE, STRIDE)
  float* step_keys = queries + TILE * STRIDE;       // (STEP, STRIDE)
  float* step_values = step_keys + STEP * STRIDE;   // (STEP, STRIDE)
  float* weights = step_values + STEP * STRIDE;     // (TILE, WEIGHTS_STRIDE)
  Tile tile = tile_of(spans, tiles[blockIdx.x], false);
  skip_keys<STEP>(tile, window);
  const int head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const int wide = heads * D, narrow = 2 * kv_heads * D;
  const long long place = (tile.queries + tile.begin) * wide + head * D;
  const real* keys = key_value + tile.keys * narrow + kv_head * D;
  const real* values = keys + kv_heads * D;
  const float inner = scale / cap, outer = outer_scale(scale, cap), scale_2 = outer * LOG2_E;
  float highest[ROWS], sum[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i) highest[i] = -INFINITY, sum[i] = 0.0f;
  Sums mixed;
  clear(mixed);

  load_rows<TILE>(queries, query + place, wide, tile.count);
  const int seen = tile.first + tile.begin + tile.count;
  for (int key = 0; key < seen; key += STEP) {
    __syncthreads();
    load_rows<STEP>(step_keys, keys + (long long)key * narrow, narrow, tile.length - key);
    load_rows<STEP>(step_values, values + (long long)key * narrow, narrow, tile.length - key);
    __syncthreads();
    Products scores;
    products_of(scores, queries, step_keys);
    bound(scores, inner);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      const int position = tile.first + tile.begin + thread_y() + 8 * i, before = before_window(position, window);
      float highest_now = highest[i];
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        if (key + thread_x() + 16 * j > position) scores[i][j] = -INFINITY;
        if (key + thread_x() + 16 * j <= before) scores[i][j] = BEFORE_WINDOW;
        highest_now = fmaxf(highest_now, scores[i][j]);
      }
      highest_now = row_max(highest_now);
      const float factor = power_of_two((highest[i] - highest_now) * scale_2);
      highest[i] = highest_now;
      sum[i] *= factor;
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        scores[i][j] = power_of_two((scores[i][j] - highest_now) * scale_2);
        sum[i] += scores[i][j];
      }
#pragma unroll
      for (int j = 0; j < QUARTERS; ++j) {
        mixed[i][j].x *= factor, mixed[i][j].y *= factor, mixed[i][j].z *= factor, mixed[i][j].w *= factor;
      }
    }
    put(weights, scores);
    __syncwarp();
    accumulate(mixed, weights, step_values);
  }

  float inverse[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const float total = row_sum(sum[i]);
    inverse[i] = 1.0f / total;
    const int row = thread_y() + 8 * i;
    if (thread_x() == 0 && row < tile.count) {
      log_sums[(tile.queries + tile.begin + row) * heads + head] = highest[i] * outer + logf(total);
    }
  }
  write_rows(out + place, wide, tile.count, mixed, inverse);
}

#endif
