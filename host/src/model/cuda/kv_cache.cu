// Keys and values of growing rows: keys and values (slots, room, K·D) of one layer. A slot is a row's place in the cache.
//
// Launch, none with dynamic shared memory:
//   cache_store     grid any (⌈tokens / 8⌉ at most is of use), block 256; a warp has a token
//   decode_store    grid rows, block 128
//   gather_tokens   grid ⌈rows / 256⌉, block 256

template <int N>
__device__ __forceinline__ void store_tokens(const real* key_value, const int* slots, const int* positions, real* keys,
                                             real* values, int tokens, int room, int width) {
  int lane = threadIdx.x & 31, warps = blockDim.x >> 5;
  for (long long token = (long long)blockIdx.x * warps + (threadIdx.x >> 5); token < tokens;
       token += (long long)gridDim.x * warps) {
    const real* from = key_value + token * 2 * width;
    long long start = ((long long)slots[token] * room + positions[token]) * width;
    for (int c = lane * N; c < width; c += 32 * N) {
      float key[N], value[N];
      load(from + c, key);
      load(from + width + c, value);
      store(keys + start + c, key);
      store(values + start + c, value);
    }
  }
}

// Stores key and value of each token of prompts, keys turned already: key_value (tokens, 2·K·D), slots and positions
// (tokens,), width K·D.
extern "C" __global__ void cache_store(const real* key_value, const int* slots, const int* positions, real* keys,
                                       real* values, int tokens, int room, int width) {
  if (in_packs(key_value, width) && on_16_bytes(keys) && on_16_bytes(values))
    store_tokens<PACK>(key_value, slots, positions, keys, values, tokens, room, width);
  else
    store_tokens<1>(key_value, slots, positions, keys, values, tokens, room, width);
}

// query and key_value of one row; key and value are the places in the cache.
template <int N>
__device__ __forceinline__ void turn_and_store(real* query, const real* key_value, real* key, real* value,
                                               const float* by, int heads, int kv_heads) {
  const int half = HEAD_DIM / 2, pieces = half / N;
  int width = kv_heads * HEAD_DIM;
  for (int item = threadIdx.x; item < (heads + kv_heads) * pieces; item += blockDim.x) {
    int head = item / pieces, at = item % pieces * N;
    bool asks = head < heads;
    const real* from = asks ? query + head * HEAD_DIM + at : key_value + (head - heads) * HEAD_DIM + at;
    real* to = asks ? query + head * HEAD_DIM + at : key + (head - heads) * HEAD_DIM + at;
    float low[N], high[N];
    load(from, low);
    load(from + half, high);
    turn_pairs(low, high, by + 2 * at, 1.0f);
    store(to, low);
    store(to + half, high);
  }
  for (int c = threadIdx.x * N; c < width; c += blockDim.x * N) {
    float values[N];
    load(key_value + width + c, values);
    store(value + c, values);
  }
}

// One new token of each row r, which lives in slot active[r] and stands at positions[active[r]]: turns its query in place,
// and stores its key, turned, and its value. query (rows, H·D), key_value (rows, 2·K·D), table (positions, D/2, 2).
extern "C" __global__ void decode_store(real* query, const real* key_value, const int* active, const int* positions,
                                        const float* table, real* keys, real* values, int rows, int room, int heads,
                                        int kv_heads) {
  int width = kv_heads * HEAD_DIM;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    int slot = active[row], position = positions[slot];
    real* asks = query + row * heads * HEAD_DIM;
    const real* stores = key_value + row * 2 * width;
    long long start = ((long long)slot * room + position) * width;
    const float* by = table + (long long)position * HEAD_DIM;
    if constexpr (HEAD_DIM / 2 % PACK == 0) {
      if (on_16_bytes(query) && on_16_bytes(key_value) && on_16_bytes(keys) && on_16_bytes(values) &&
          on_16_bytes(table)) {
        turn_and_store<PACK>(asks, stores, keys + start, values + start, by, heads, kv_heads);
        continue;
      }
    }
    turn_and_store<1>(asks, stores, keys + start, values + start, by, heads, kv_heads);
  }
}

// ids[r] = tokens[active[r]]: the newest token of each row.
extern "C" __global__ void gather_tokens(const int* tokens, const int* active, int* ids, int rows) {
  for (long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x; row < rows;
       row += (long long)gridDim.x * blockDim.x)
    ids[row] = tokens[active[row]];
}
