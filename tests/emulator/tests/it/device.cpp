// What the device header promises, checked without the driver: shuffles, barriers, shared memory, fragment layouts.
#include "direct.hpp"

extern "C" __global__ void block_sum(const float* __restrict__ x, float* __restrict__ sums, int n) {
  __shared__ float partial[32];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = i < n ? x[i] : 0.0f;
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0f;
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_down_sync(0xffffffffu, sum, lanes);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
}

// One warp: d = a · b with a (16 × 16) and b (16 × 8) row by row in global memory.
extern "C" __global__ void multiply(const unsigned short* a, const unsigned short* b, float* d) {
  DYNAMIC_SHARED(memory);
  auto* shared_a = reinterpret_cast<unsigned short*>(memory);
  auto* shared_b = shared_a + 16 * 16;
  const int lane = threadIdx.x;
  copy_async_16(shared_a + lane * 8, a + lane * 8);
  if (lane < 16) copy_async_16(shared_b + lane * 8, b + lane * 8);
  copy_async_commit();
  copy_async_wait<0>();
  __syncwarp();
  unsigned fragment_a[4], fragment_b[2];
  ldmatrix_x4(fragment_a, shared_a + (lane % 16) * 16 + (lane / 16) * 8);
  ldmatrix_x2_trans(fragment_b, shared_b + (lane % 16) * 8);
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_m16n8k16_bf16(sums, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = sums[i];
}

// The same product with fragments filled by the formulas of the PTX ISA ("Matrix Fragments for mma.m16n8k16 with
// floating point type"), element by element, without ldmatrix: so that a mistake in both would not cancel.
extern "C" __global__ void multiply_by_formulas(const unsigned short* a, const unsigned short* b, float* d) {
  const int group = threadIdx.x >> 2, in_group = threadIdx.x % 4;
  unsigned fragment_a[4] = {0, 0, 0, 0}, fragment_b[2] = {0, 0};
  for (int i = 0; i < 8; ++i) {
    const int row = (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8;
    const int column = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
    fragment_a[i / 2] |= static_cast<unsigned>(a[row * 16 + column]) << (16 * (i % 2));
  }
  for (int i = 0; i < 4; ++i) {
    const int row = i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
    fragment_b[i / 2] |= static_cast<unsigned>(b[row * 8 + group]) << (16 * (i % 2));
  }
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_m16n8k16_bf16(sums, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = sums[i];
}

// Two stages of copies: sums what the first brought while the second is under way. `waits` = false forgets to wait.
extern "C" __global__ void staged(const float4* x, float* sums, int waits) {
  __shared__ float4 stage[2][32];
  const int lane = threadIdx.x;
  float sum = 0.0f;
  copy_async_16(&stage[0][lane], x + lane);
  copy_async_commit();
  for (int i = 0; i < 8; ++i) {
    if (i + 1 < 8) copy_async_16(&stage[(i + 1) % 2][lane], x + (i + 1) * 32 + lane);
    copy_async_commit();
    if (waits) copy_async_wait<1>();
    __syncthreads();
    const float4 other = stage[i % 2][31 - lane];
    sum += other.x + other.y + other.z + other.w;
    __syncthreads();
  }
  sums[lane] = sum;
}

extern "C" __global__ void diverging(int* out) {
  if (threadIdx.x < 7) __syncthreads();
  else out[threadIdx.x] = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x), 0);
}

extern "C" __global__ void votes(unsigned* out) {
  const unsigned lane = threadIdx.x;
  out[lane] = __ballot_sync(0xffffffffu, lane % 3 == 0) + (__any_sync(0xffffffffu, lane == 5) ? 0 : 1) +
              (__all_sync(0xffffffffu, lane < 32) ? 0 : 2);
  out[32 + lane] = __syncthreads_count(lane < 10);
  out[64 + lane] = __shfl_up_sync(0xffffffffu, lane, 4);
  out[96 + lane] = __shfl_xor_sync(0xffffffffu, lane, 3, 8);
}

static int failures = 0;
static void expect(bool true_, const char* what) {
  if (true_) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  ++failures;
}

static unsigned short to_bf16(float x) { return static_cast<unsigned short>(emulator::bits<unsigned>(x) >> 16); }

int main() {
  const int n = 10000;
  std::vector<float> x(n);
  for (int i = 0; i < n; ++i) x[i] = static_cast<float>(i % 17);
  emulator::Buffer<float> device_x(x), sums(40);
  expect(EMULATOR_LAUNCH(block_sum, 40, 256, 0, device_x.data(), sums.data(), n), "block_sum runs");
  for (int b = 0; b < 40; ++b) {
    float expected = 0.0f;
    for (int i = b * 256; i < (b + 1) * 256 && i < n; ++i) expected += x[i];
    expect(sums[b] == expected, "a block's sum, exact in small integers");
  }

  std::vector<unsigned short> a(256), b(128);
  for (int i = 0; i < 256; ++i) a[i] = to_bf16(static_cast<float>(i * 7 % 23 - 11));
  for (int i = 0; i < 128; ++i) b[i] = to_bf16(static_cast<float>(i * 5 % 19 - 9));
  emulator::Buffer<unsigned short> device_a(a), device_b(b);
  emulator::Buffer<float> d(128);
  emulator::Buffer<float> by_formulas(128);
  expect(EMULATOR_LAUNCH(multiply, 1, 32, 384 * 2, device_a.data(), device_b.data(), d.data()), "multiply runs");
  expect(EMULATOR_LAUNCH(multiply_by_formulas, 1, 32, 0, device_a.data(), device_b.data(), by_formulas.data()),
         "multiply_by_formulas runs");
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float expected = 0.0f;
      for (int k = 0; k < 16; ++k)
        expected +=
            static_cast<float>((row * 16 + k) * 7 % 23 - 11) * static_cast<float>((k * 8 + column) * 5 % 19 - 9);
      expect(d[row * 8 + column] == expected, "a product by ldmatrix and mma, exact in small integers");
      expect(by_formulas[row * 8 + column] == expected, "a product by PTX's formulas of fragments");
    }
  }

  std::vector<float4> chunks(256);
  for (int i = 0; i < 256; ++i) chunks[i] = float4{i / 32 + 1.0f, i / 32 + 1.0f, i / 32 + 1.0f, i / 32 + 1.0f};
  emulator::Buffer<float4> values(chunks);
  emulator::Buffer<float> staged_sums(32);
  expect(EMULATOR_LAUNCH(staged, 1, 32, 0, values.data(), staged_sums.data(), 1), "staged copies run");
  for (int lane = 0; lane < 32; ++lane) expect(staged_sums[lane] == 144.0f, "a sum over copies in two stages");
  EMULATOR_LAUNCH(staged, 1, 32, 0, values.data(), staged_sums.data(), 0);
  bool seen = false;
  for (int lane = 0; lane < 32; ++lane) seen = seen || staged_sums[lane] != 144.0f;
  expect(seen == (emulator::order_from_environment() != emulator::Order::forward),
         "a wait that is missing shows, except where copies are made at once");

  emulator::Buffer<unsigned> out(128);
  expect(EMULATOR_LAUNCH(votes, 1, 32, 0, out.data()), "votes runs");
  for (unsigned lane = 0; lane < 32; ++lane) {
    expect(out[lane] == 0x49249249u, "a ballot of every third lane");
    expect(out[32 + lane] == 10, "__syncthreads_count");
    expect(out[64 + lane] == (lane < 4 ? lane : lane - 4), "__shfl_up_sync keeps the lowest lanes");
    expect(out[96 + lane] == (lane ^ 3), "__shfl_xor_sync within segments");
  }

  emulator::Buffer<int> integers(64);
  expect(!EMULATOR_LAUNCH(diverging, 1, 64, 0, integers.data()), "divergence is detected");
  std::printf("%d failures\n", failures);
  return failures != 0;
}
