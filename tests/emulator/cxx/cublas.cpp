// libcublas: general matrix products in f32 and bf16.
#include <cstdarg>
#include <cstdio>

#include "gemm.hpp"
#include "shared_services.hpp"

#define EMULATOR_API extern "C" EMULATOR_EXPORT

using cublasStatus = int;
enum : cublasStatus {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_NOT_SUPPORTED = 15,
};

namespace emulator {
namespace {

constexpr int r_32f = 0, r_16bf = 14;  // cudaDataType_t
constexpr int compute_32f = 68, compute_32f_pedantic = 69, compute_fast_16bf = 75,
              compute_fast_tf32 = 77;  // cublasComputeType_t
constexpr int math_tf32 = 3;           // CUBLAS_TF32_TENSOR_OP_MATH

struct Handle {
  void* stream = nullptr;
  int pointer_mode = 0;  // 0: alpha and beta are on the host
  int math_mode = 0;
};

cublasStatus refuse(cublasStatus status, const char* format, ...) __attribute__((format(printf, 2, 3)));
cublasStatus refuse(cublasStatus status, const char* format, ...) {
  char text[512];
  va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof text, format, values);
  va_end(values);
  std::fprintf(stderr, "finegrain emulator: %s (cuBLAS status %d)\n", text, status);
  return status;
}

struct Operand {
  const void* data;
  int type;
  int operation;
  int leading;
  long long stride;
};

// Bytes from the first to behind the last element of a batch of matrices of rows × columns as they lie in memory.
std::size_t extent(const Matrix& matrix, std::int64_t rows, std::int64_t columns, std::int64_t batch) {
  if (rows == 0 || columns == 0 || batch == 0) return 0;
  return static_cast<std::size_t>((batch - 1) * matrix.stride + (columns - 1) * matrix.leading + rows) *
         bytes_of(matrix.type);
}

bool is_product_type(int type) { return type == r_32f || type == r_16bf; }

cublasStatus multiply(Handle* handle, const char* call, int m, int n, int k, const void* alpha, const Operand& a,
                      const Operand& b, const void* beta, void* c, int c_type, int c_leading, long long c_stride,
                      int batch, int compute) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (m < 0 || n < 0 || k < 0 || batch < 0)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: m %d, n %d, k %d, batch %d", call, m, n, k, batch);
  if (alpha == nullptr || beta == nullptr)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: alpha or beta is null", call);
  if (a.operation < 0 || a.operation > 2 || b.operation < 0 || b.operation > 2)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: operations %d and %d", call, a.operation, b.operation);
  const bool computes = compute == compute_32f || compute == compute_32f_pedantic || compute == compute_fast_16bf ||
                        compute == compute_fast_tf32;
  if (!computes || !is_product_type(a.type) || a.type != b.type || !is_product_type(c_type) ||
      (c_type == r_16bf && a.type == r_32f)) {
    return refuse(
        CUBLAS_STATUS_NOT_SUPPORTED,
        "%s: types %d, %d, %d with compute type %d; emulated are f32 and bf16 (C may be f32), with 32-bit sums", call,
        a.type, b.type, c_type, compute);
  }
  Gemm gemm{m, n, k, batch, {}, {}, {}, 23};
  const auto type_of = [](int type) { return type == r_32f ? Type::f32 : Type::bf16; };
  gemm.a = {const_cast<void*>(a.data), type_of(a.type), a.leading, a.stride, a.operation != 0};
  gemm.b = {const_cast<void*>(b.data), type_of(b.type), b.leading, b.stride, b.operation != 0};
  gemm.c = {c, type_of(c_type), c_leading, c_stride, false};
  if (compute == compute_fast_tf32 || (compute == compute_32f && handle->math_mode == math_tf32))
    gemm.mantissa_bits = 10;
  if (compute == compute_fast_16bf) gemm.mantissa_bits = 7;
  const int rows_a = gemm.a.transposed ? k : m, columns_a = gemm.a.transposed ? m : k;
  const int rows_b = gemm.b.transposed ? n : k, columns_b = gemm.b.transposed ? k : n;
  if (a.leading < std::max(1, rows_a) || b.leading < std::max(1, rows_b) || c_leading < std::max(1, m)) {
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: leading dimensions %d, %d, %d for %d, %d and %d rows", call,
                  a.leading, b.leading, c_leading, rows_a, rows_b, m);
  }
  if (a.stride < 0 || b.stride < 0 ||
      (batch > 1 && m != 0 && n != 0 && c_stride < static_cast<long long>(n - 1) * c_leading + m)) {
    return refuse(CUBLAS_STATUS_INVALID_VALUE,
                  "%s: strides %lld, %lld, %lld: the matrices of C overlap, or a stride is negative", call, a.stride,
                  b.stride, c_stride);
  }
  if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
  const bool on_device = handle->pointer_mode != 0;
  // Copied now where they are the host's; read when the work is done where they are the device's.
  const float alpha_now = on_device ? 0.0f : *static_cast<const float*>(alpha);
  const float beta_now = on_device ? 0.0f : *static_cast<const float*>(beta);
  cublasStatus status = CUBLAS_STATUS_SUCCESS;
  // Recorded operations outlive this call, so the status is passed out by the driver's error alone.
  const int error = services::submit(handle->stream, call, [=]() -> int {
    constexpr int invalid_value = 1, illegal_address = 700;
    if (!services::check_range(call, "A", gemm.a.data, extent(gemm.a, rows_a, columns_a, batch)) ||
        !services::check_range(call, "B", gemm.b.data, extent(gemm.b, rows_b, columns_b, batch)) ||
        !services::check_range(call, "C", gemm.c.data, extent(gemm.c, m, n, batch))) {
      return invalid_value;
    }
    if (on_device && (!services::check_range(call, "alpha", alpha, 4) || !services::check_range(call, "beta", beta, 4)))
      return illegal_address;
    const float alpha_then = on_device ? *static_cast<const float*>(alpha) : alpha_now;
    const float beta_then = on_device ? *static_cast<const float*>(beta) : beta_now;
    emulator::multiply(gemm, static_cast<double>(alpha_then), static_cast<double>(beta_then),
                       services::over_all_threads);
    return 0;
  });
  if (error == 1) status = CUBLAS_STATUS_INVALID_VALUE;
  else if (error != 0) status = CUBLAS_STATUS_EXECUTION_FAILED;
  return status;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EMULATOR_API cublasStatus cublasCreate_v2(Handle** handle) {
  *handle = new Handle;
  return CUBLAS_STATUS_SUCCESS;
}
EMULATOR_API cublasStatus cublasDestroy_v2(Handle* handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
EMULATOR_API cublasStatus cublasGetVersion_v2(Handle*, int* version) {
  *version = 130000;
  return CUBLAS_STATUS_SUCCESS;
}
EMULATOR_API cublasStatus cublasSetStream_v2(Handle* handle, void* stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
EMULATOR_API cublasStatus cublasGetStream_v2(Handle* handle, void** stream) {
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}
EMULATOR_API cublasStatus cublasSetWorkspace_v2(Handle*, void* workspace, std::size_t bytes) {
  return services::check_range("cublasSetWorkspace", "the workspace", workspace, bytes) ? CUBLAS_STATUS_SUCCESS
                                                                                        : CUBLAS_STATUS_INVALID_VALUE;
}
EMULATOR_API cublasStatus cublasSetMathMode(Handle* handle, int mode) {
  handle->math_mode = mode & 15;
  return CUBLAS_STATUS_SUCCESS;
}
EMULATOR_API cublasStatus cublasSetPointerMode_v2(Handle* handle, int mode) {
  handle->pointer_mode = mode;
  return mode == 0 || mode == 1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
EMULATOR_API cublasStatus cublasGetPointerMode_v2(Handle* handle, int* mode) {
  *mode = handle->pointer_mode;
  return CUBLAS_STATUS_SUCCESS;
}
EMULATOR_API const char* cublasGetStatusString(cublasStatus status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "unknown";
  }
}

EMULATOR_API cublasStatus cublasGemmStridedBatchedEx(Handle* handle, int op_a, int op_b, int m, int n, int k,
                                                     const void* alpha, const void* a, int a_type, int lda,
                                                     long long stride_a, const void* b, int b_type, int ldb,
                                                     long long stride_b, const void* beta, void* c, int c_type, int ldc,
                                                     long long stride_c, int batch, int compute, int) {
  return multiply(handle, "cublasGemmStridedBatchedEx", m, n, k, alpha, {a, a_type, op_a, lda, stride_a},
                  {b, b_type, op_b, ldb, stride_b}, beta, c, c_type, ldc, stride_c, batch, compute);
}
EMULATOR_API cublasStatus cublasGemmEx(Handle* handle, int op_a, int op_b, int m, int n, int k, const void* alpha,
                                       const void* a, int a_type, int lda, const void* b, int b_type, int ldb,
                                       const void* beta, void* c, int c_type, int ldc, int compute, int) {
  return multiply(handle, "cublasGemmEx", m, n, k, alpha, {a, a_type, op_a, lda, 0}, {b, b_type, op_b, ldb, 0}, beta, c,
                  c_type, ldc, 0, 1, compute);
}
EMULATOR_API cublasStatus cublasSgemm_v2(Handle* handle, int op_a, int op_b, int m, int n, int k, const float* alpha,
                                         const float* a, int lda, const float* b, int ldb, const float* beta, float* c,
                                         int ldc) {
  return multiply(handle, "cublasSgemm", m, n, k, alpha, {a, r_32f, op_a, lda, 0}, {b, r_32f, op_b, ldb, 0}, beta, c,
                  r_32f, ldc, 0, 1, compute_32f);
}
EMULATOR_API cublasStatus cublasSgemmStridedBatched(Handle* handle, int op_a, int op_b, int m, int n, int k,
                                                    const float* alpha, const float* a, int lda, long long stride_a,
                                                    const float* b, int ldb, long long stride_b, const float* beta,
                                                    float* c, int ldc, long long stride_c, int batch) {
  return multiply(handle, "cublasSgemmStridedBatched", m, n, k, alpha, {a, r_32f, op_a, lda, stride_a},
                  {b, r_32f, op_b, ldb, stride_b}, beta, c, r_32f, ldc, stride_c, batch, compute_32f);
}
