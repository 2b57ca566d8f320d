// Tiles on tensor cores: D a multiple of 16 up to 128, bf16. A warp owns sixteen rows of what it computes and holds them in
// fragments of mma.m16n8k16; the other operand lies in shared memory and is read by all four warps.
//
// A lane of a fragment (16, 8) of sums holds row lane / 4, columns 2 · (lane % 4) and the next, and the same eight rows
// below. Two such fragments side by side, rounded to bf16, are just a left operand (16, 16) of the next product
// (`as_left`), so weights never leave the registers (Dao 2023, arXiv:2307.08691).
#if ATTENTION_TENSOR_CORES

namespace attention {

// Elements between rows in shared memory: an odd number of 16 bytes, so that the eight rows of a matrix that ldmatrix
// reads lie in different banks.
constexpr int STRIDE = D + 8;
// Keys (in the pass over keys: queries) that are in shared memory at a time; twice, to fetch the next meanwhile.
constexpr int STEP = D <= 64 ? 64 : 32;
// One stage: STEP rows of one operand, then STEP rows of the other.
constexpr int STAGE = 2 * STEP * STRIDE;

// Begins to fetch ROWS rows of a head. Rows after the last of `valid` repeat it: what is computed from them is masked or
// never written, but it must be finite where the row's data are.
template <int ROWS>
__device__ __forceinline__ void fetch_rows(bf16* to, const bf16* from, int width, int valid) {
  constexpr int PARTS = D / 8, ROWS_A_TURN = THREADS / PARTS, TURNS = (ROWS + ROWS_A_TURN - 1) / ROWS_A_TURN;
  const int first = threadIdx.x / PARTS, part = threadIdx.x % PARTS * 8;
  if (THREADS % PARTS != 0 && first >= ROWS_A_TURN) return;
  to += first * STRIDE + part;
#pragma unroll
  for (int turn = 0; turn < TURNS; ++turn) {
    const int row = first + turn * ROWS_A_TURN;
    if (ROWS % ROWS_A_TURN != 0 && row >= ROWS) return;
    copy_async_16(to + turn * ROWS_A_TURN * STRIDE, from + (unsigned)(min(row, valid - 1) * width + part));
  }
}

// The row that a lane names to ldmatrix. For left operands, and for right operands (k, columns) as they lie (transposed):
__device__ __forceinline__ const bf16* lane_row(const bf16* rows) {
  int lane = threadIdx.x & 31;
  return rows + (lane & 15) * STRIDE + (lane >> 4) * 8;
}
// For right operands that lie as (columns, k):
__device__ __forceinline__ const bf16* lane_row_of_columns(const bf16* rows) {
  int lane = threadIdx.x & 31;
  return rows + ((lane & 7) + ((lane >> 4) << 3)) * STRIDE + ((lane >> 3) & 1) * 8;
}

// Two columns of sums at once, because ldmatrix brings two right operands.
__device__ __forceinline__ void multiply_pair(float (&left_sums)[4], float (&right_sums)[4], const unsigned (&a)[4],
                                              const unsigned (&b)[4]) {
  const unsigned first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
  mma_m16n8k16_bf16(left_sums, a, first);
  mma_m16n8k16_bf16(right_sums, a, second);
}

// Sixteen rows (16, D) as left operands.
typedef unsigned Operand[D / 16][4];

__device__ __forceinline__ void read_operand(Operand& operand, const bf16* rows) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) ldmatrix_x4(operand[k], lane_row(rows) + k * 16);
}

// products (16, 8·N) = left (16, D) · rows (8·N, D)ᵀ, the left operand in registers or, where there are too few, in shared
// memory.
template <int N, class Left>
__device__ __forceinline__ void products_of(float (&products)[N][4], const Left& left, const bf16* rows) {
#pragma unroll
  for (int n = 0; n < N; ++n) products[n][0] = products[n][1] = products[n][2] = products[n][3] = 0.0f;
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    unsigned a[4];
    left.get(a, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      unsigned b[4];
      ldmatrix_x4(b, lane_row_of_columns(rows) + n * 8 * STRIDE + k * 16);
      multiply_pair(products[n], products[n + 1], a, b);
    }
  }
}

struct InRegisters {
  const Operand& operand;
  __device__ __forceinline__ void get(unsigned (&a)[4], int k) const {
    for (int i = 0; i < 4; ++i) a[i] = operand[k][i];
  }
};

struct InSharedMemory {
  const bf16* rows;
  __device__ __forceinline__ void get(unsigned (&a)[4], int k) const { ldmatrix_x4(a, lane_row(rows) + k * 16); }
};

// Sums (16, 8·N) rounded to bf16, as left operands.
template <int N>
__device__ __forceinline__ void as_left(unsigned (&left)[N / 2][4], const float (&sums)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    left[n / 2][0] = pack_bf16(sums[n][0], sums[n][1]);
    left[n / 2][1] = pack_bf16(sums[n][2], sums[n][3]);
    left[n / 2][2] = pack_bf16(sums[n + 1][0], sums[n + 1][1]);
    left[n / 2][3] = pack_bf16(sums[n + 1][2], sums[n + 1][3]);
  }
}

// Sixteen rows (16, D) of a result.
typedef float Sums[D / 8][4];

__device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
  for (int n = 0; n < D / 8; ++n) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0.0f;
}

// sums (16, D) += left (16, 16·COUNT) · rows (16·COUNT, D).
template <int COUNT>
__device__ __forceinline__ void accumulate(Sums& sums, const unsigned (&left)[COUNT][4], const bf16* rows) {
#pragma unroll
  for (int k = 0; k < COUNT; ++k) {
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      unsigned b[4];
      ldmatrix_x4_trans(b, lane_row(rows) + k * 16 * STRIDE + n * 8);
      multiply_pair(sums[n], sums[n + 1], left[k], b);
    }
  }
}

// Writes the first `valid` of a warp's sixteen rows, the upper eight times factors[0], the lower times factors[1], by way
// of sixteen rows of shared memory that nobody else uses: 16 bytes a lane instead of four.
__device__ __forceinline__ void write_rows(bf16* to, int width, int valid, const Sums& sums, const float (&factors)[2],
                                           bf16* shared) {
  constexpr int PARTS = D / 8;
  int lane = threadIdx.x & 31;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < D / 8; ++n) {
    bf16* place = shared + lane / 4 * STRIDE + n * 8 + lane % 4 * 2;
    *(unsigned*)place = pack_bf16(sums[n][0] * factors[0], sums[n][1] * factors[0]);
    *(unsigned*)(place + 8 * STRIDE) = pack_bf16(sums[n][2] * factors[1], sums[n][3] * factors[1]);
  }
  __syncwarp();
#pragma unroll
  for (int turn = 0; turn < PARTS / 2; ++turn) {
    int i = turn * 32 + lane, row = i / PARTS, part = i % PARTS * 8;
    if (row < valid) *(uint4*)(to + row * width + part) = *(const uint4*)(shared + row * STRIDE + part);
  }
}

}  // namespace attention

#endif
