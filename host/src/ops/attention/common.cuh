// What the attention kernels share. The source of a program is, in this order: ops/cuda/prelude.cuh, and of this folder
// common.cuh, tensor.cuh, plain.cuh, forward.cu, backward.cu, decode.cu.
//
// Legend: n tokens, m tokens that ask, H heads, K key/value heads, G = H / K, D head size, R rows of a decoding step.
//
// There are two versions of the passes. In bf16 with D a multiple of 16 up to 128, tensor cores (tensor.cuh); everywhere
// else, for every even D up to 256, f32 arithmetic from shared memory (plain.cuh).
//
// Launches. Every block has 128 threads. T = 64 for D ≤ 128, else 32: queries or keys of a tile, for both versions.
// `tiles` of the passes over queries: for every span, (span, 0) to (span, ⌈queries / T⌉ − 1); of the pass over keys the
// same with its keys. Dynamic shared memory in bytes:
//
//   kernel                        grid                  tensor cores          plain
//                                                       S = 64 for D ≤ 64,    S = 32 for D ≤ 64, else 16;
//                                                       else 32; W = D + 8    W = 4 · (⌈D / 4⌉ | 1)
//   attention_forward             (query tiles, H)      8·S·W                 4·(T·W + 2·S·W + T·(S + 4))
//   attention_delta               (⌈m·H / 16⌉)          0                     0
//   attention_backward_query      (query tiles, H)      8·S·W                 4·(2·T·W + 2·S·W + T·(S + 4))
//                                                       + (D > 64: 2·T·W)
//   attention_backward_key_value  (key tiles, K)        8·S·W + 16·S          4·(2·T·W + 2·S·W + 2·T·(S + 4))
//                                                       + (D > 64: 4·T·W)
//   attention_decode              (R, K)                4·(16·D + 32)         the same
//
// Scoring, of every kernel but attention_delta: a score is the product of query and key times `scale`. Where the program is
// compiled with CAPPED, it becomes cap · tanh(score / cap) after that; where it is with WINDOWED, a query sees `window` tokens,
// itself included, else all before it. Both are matters of compiling, because either takes registers: with a window of no end
// as an argument, attention_backward_query of D = 64 in bf16 took 158 for 128, which is three blocks for four.
//
// For D = 64: 36864, 36864, 37888 with tensor cores; 44032, 61440, 70656 plain. For D = 128: 34816, 52224, 70144; 55808,
// 89600, 94720. For D = 256: 69120, 102400, 104960, which needs a GPU with 163 KB of shared memory a block (8.0, 9.0).
// More than 48 KB must be asked for (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES). A grid of no blocks is not launched.

#define ATTENTION_TENSOR_CORES (REAL_BF16 && HEAD_DIM % 16 == 0 && HEAD_DIM <= 128)

namespace attention {

constexpr int D = HEAD_DIM;
constexpr int THREADS = 128;
constexpr int TILE = D <= 128 ? 64 : 32;
constexpr float LOG2_E = 1.44269504088896341f;
constexpr float LN_2 = 0.693147180559945309f;

static_assert(D % 2 == 0 && D >= 2 && D <= 256, "head sizes are even numbers up to 256");

// A tile of a row: `count` of its queries or keys from `begin` on.
struct Tile {
  long long keys, queries;  // the row's first token among those that have keys, and its first among those that ask
  int length, asking;       // how many there are of either
  int first;                // where in the row the first that asks stands
  int begin, count;
};

__device__ __forceinline__ Tile tile_of(const int* spans, int2 tile, bool of_keys) {
  const int* span = spans + 5 * tile.x;
  Tile t;
  t.keys = span[0];
  t.length = span[1];
  t.queries = span[2];
  t.asking = span[3];
  t.first = span[4];
  t.begin = tile.y * TILE;
  t.count = min(TILE, (of_keys ? t.length : t.asking) - t.begin);
  return t;
}

// Moves the beginning of the tile's row to a multiple of STEP at or before the first key that the tile's first query sees.
template <int STEP>
__device__ __forceinline__ void skip_keys(Tile& tile, int window) {
  if (!WINDOWED) return;
  const int skipped = max(0, tile.first + tile.begin + 1 - window) / STEP * STEP;
  tile.keys += skipped;
  tile.length -= skipped;
  tile.first -= skipped;
}

// Of a tile of keys: forgets the queries after the last that sees one of them.
__device__ __forceinline__ void skip_queries(Tile& tile, int window) {
  if (WINDOWED) tile.asking = min((long long)tile.asking, (long long)tile.begin + tile.count - 1 + window - tile.first);
}

// The last key before the window of the query at `position`; one before all where there are no windows.
__device__ __forceinline__ int before_window(int position, int window) { return WINDOWED ? position - window : -(1 << 30); }

// The score of a key before the window, below every true one: a step may hold nothing else, whose weights, 1 each, are then
// multiplied by exactly 0 once a true score has come. −∞ would give ∞ − ∞; a power of two has no rounding that 2^x would blow up.
constexpr float BEFORE_WINDOW = -1.2676506002282294e30f;  // −2^100

// What a score is multiplied by after the tanh, if any: cap · tanh(product · scale / cap), or product · scale.
__device__ __forceinline__ float outer_scale(float scale, float cap) { return CAPPED ? cap : scale; }

// Products of queries and keys become tanh(product · inner) where scores are capped.
template <int M, int N>
__device__ __forceinline__ void bound(float (&products)[M][N], float inner) {
#if CAPPED
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < N; ++n) products[m][n] = tanhf(products[m][n] * inner);
  }
#endif
}

// tanh′ of a bounded product, 1 where none is.
__device__ __forceinline__ float slope(float bounded) { return CAPPED ? fmaf(-bounded, bounded, 1.0f) : 1.0f; }

// 2^x; 0 for −∞. Scores are counted in powers of two, because that is what the GPU has an instruction for.
__device__ __forceinline__ float power_of_two(float x) {
#ifdef FINEGRAIN_EMULATOR
  return exp2f(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}

// As many elements as one load takes: 16 bytes where every row of D is aligned to that, else two elements.
constexpr int VECTOR = REAL_BF16 ? (D % 8 == 0 ? 8 : 2) : (D % 4 == 0 ? 4 : 2);

__device__ __forceinline__ void unpack(unsigned bits, float& low, float& high) {
  low = __uint_as_float(bits << 16);
  high = __uint_as_float(bits & 0xffff0000u);
}

// VECTOR elements as they lie in memory, so that many loads can be under way before the first is used.
struct Raw {
  unsigned words[VECTOR * sizeof(real) / 4];
};

__device__ __forceinline__ Raw read_raw(const real* from) {
  Raw raw;
  if constexpr (sizeof(Raw) == 16) {
    const uint4 bits = *(const uint4*)from;
    raw.words[0] = bits.x, raw.words[1] = bits.y, raw.words[2] = bits.z, raw.words[3] = bits.w;
  } else if constexpr (sizeof(Raw) == 8) {
    const uint2 bits = *(const uint2*)from;
    raw.words[0] = bits.x, raw.words[1] = bits.y;
  } else {
    raw.words[0] = *(const unsigned*)from;
  }
  return raw;
}

__device__ __forceinline__ void to_floats(const Raw& raw, float (&to)[VECTOR]) {
#pragma unroll
  for (int i = 0; i < (int)(sizeof(Raw) / 4); ++i) {
#if REAL_BF16
    unpack(raw.words[i], to[2 * i], to[2 * i + 1]);
#else
    to[i] = __uint_as_float(raw.words[i]);
#endif
  }
}

// Lanes that share a row of D, VECTOR elements each: a power of two, so that they can sum over themselves.
__device__ constexpr int team_size() {
  int size = 1;
  while (size < 32 && size * VECTOR < D) size *= 2;
  return size;
}
constexpr int TEAM = team_size();

__device__ __forceinline__ float team_sum(float x) {
#pragma unroll
  for (int offset = TEAM / 2; offset > 0; offset >>= 1) x += __shfl_xor_sync(FULL_WARP, x, offset);
  return x;
}

}  // namespace attention
