// Rotary position embedding (Su et al. 2021, eq. 34) in half-split order: the pair (low, high) of channels (i, i + D/2) of
// a token at position p becomes low cos a − high sin a and high cos a + low sin a with a = p · frequency; the table holds
// cosines and sines times the frequencies' factor.
//
// Launch: grid any (⌈rows / 8⌉ at most is of use), block 128, no dynamic shared memory.

// Rows that a block turns together: one alone has too few pairs for a block.
#define ROPE_ROWS 8

template <int N>
__device__ __forceinline__ void turn_rows(real* values, const int* positions, const float* table, int rows, int width,
                                          int heads, float direction) {
  const int half = HEAD_DIM / 2, pieces = half / N;
  int items = heads * pieces;
  for (long long first = (long long)blockIdx.x * ROPE_ROWS; first < rows; first += (long long)gridDim.x * ROPE_ROWS) {
    int count = (rows - first < ROPE_ROWS ? (int)(rows - first) : ROPE_ROWS) * items;
    for (int item = threadIdx.x; item < count; item += blockDim.x) {
      long long row = first + item / items;
      int head = item % items / pieces, at = item % pieces * N;
      real* place = values + row * width + head * HEAD_DIM + at;
      float low[N], high[N];
      load(place, low);
      load(place + half, high);
      turn_pairs(low, high, table + ((long long)positions[row] * half + at) * 2, direction);
      store(place, low);
      store(place + half, high);
    }
  }
}

// Turns in place the first `heads` heads of every row: values (rows, width), positions (rows,), table (positions, D/2, 2) of
// cosine and sine; `direction` is 1 forwards, and −1 backwards, where the gradient of the result becomes that of the operand.
extern "C" __global__ void rope_turn(real* values, const int* positions, const float* table, int rows, int width,
                                     int heads, float direction) {
  if constexpr (HEAD_DIM / 2 % PACK == 0) {
    if (in_packs(values, width) && on_16_bytes(table)) {
      turn_rows<PACK>(values, positions, table, rows, width, heads, direction);
      return;
    }
  }
  turn_rows<1>(values, positions, table, rows, width, heads, direction);
}
