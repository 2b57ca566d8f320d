// Token embedding: one row of the table for every id. The backward pass adds the rows of the gradient to the row of the
// table that they came from; rows are grouped by id on the host, so each row of the table has one writer and a fixed order.
//
// Launch:
//   embedding_forward    grid any (⌈rows / (block / 32)⌉ at most is of use), block 256; a warp has a row; no dynamic shared
//                        memory
//   embedding_backward   grid any (at most count is of use), block 256 (at most), none

template <int N>
__device__ __forceinline__ void embed_rows(const real* table, const int* ids, real* out, int rows, int channels) {
  int lane = threadIdx.x & 31, warps = blockDim.x >> 5;
  for (long long row = (long long)blockIdx.x * warps + (threadIdx.x >> 5); row < rows;
       row += (long long)gridDim.x * warps) {
    const real* from = table + (long long)ids[row] * channels;
    real* to = out + row * channels;
    for (int c = lane * N; c < channels; c += 32 * N) {
      float values[N];
      load(from + c, values);
      store(to + c, values);
    }
  }
}

// table (V, C), ids (rows,), each below V → out (rows, C).
extern "C" __global__ void embedding_forward(const real* table, const int* ids, real* out, int rows, int channels) {
  if (in_packs(table, channels) && on_16_bytes(out))
    embed_rows<PACK>(table, ids, out, rows, channels);
  else
    embed_rows<1>(table, ids, out, rows, channels);
}

#define EMBEDDING_THREADS 256

// A group of threads has a whole row of the gradient, as many groups as fit into the block share the rows of an id, and the
// groups' sums are added in their order.
template <int N>
__device__ __forceinline__ void add_rows_by_id(const real* grad, const int* unique, const int* offsets,
                                               const int* order, float* d_table, int count, int channels,
                                               float* sums) {
  int packs = channels / N;
  int lanes = packs < (int)blockDim.x ? packs : (int)blockDim.x;
  int groups = blockDim.x / lanes, group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
  for (int u = blockIdx.x; u < count; u += gridDim.x) {
    int end = offsets[u + 1];
    float* out = d_table + (long long)unique[u] * channels;
    for (int first = 0; first < packs; first += lanes) {
      int c = (first + lane) * N;
      bool busy = group < groups && first + lane < packs;
      float sum[N];
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] = 0.0f;
      if (busy) {
#pragma unroll 4
        for (int at = offsets[u] + group; at < end; at += groups) {
          float values[N];
          load(grad + (long long)order[at] * channels + c, values);
#pragma unroll
          for (int i = 0; i < N; i++) sum[i] += values[i];
        }
#pragma unroll
        for (int i = 0; i < N; i++) sums[(i * groups + group) * lanes + lane] = sum[i];
      }
      __syncthreads();
      if (busy && group == 0) {
        for (int other = 1; other < groups; other++)
#pragma unroll
          for (int i = 0; i < N; i++) sum[i] += sums[(i * groups + other) * lanes + lane];
        float before[N];
        load(out + c, before);
#pragma unroll
        for (int i = 0; i < N; i++) before[i] += sum[i];
        store(out + c, before);
      }
      __syncthreads();
    }
  }
}

// Adds to row unique[u] of d_table (V, C) the rows order[offsets[u] .. offsets[u + 1]] of grad (n, C), for each of `count`
// distinct ids.
extern "C" __global__ void embedding_backward(const real* grad, const int* unique, const int* offsets,
                                              const int* order, float* d_table, int count, int channels) {
  __shared__ float sums[EMBEDDING_THREADS * PACK];
  if (in_packs(grad, channels) && on_16_bytes(d_table))
    add_rows_by_id<PACK>(grad, unique, offsets, order, d_table, count, channels, sums);
  else
    add_rows_by_id<1>(grad, unique, offsets, order, d_table, count, channels, sums);
}
