#include "runtime/cuda/matmul.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <cublasLt.h>

#include "runtime/cuda/context.h"
#include "runtime/error.h"

namespace foretoken::cuda {

namespace {

constexpr std::size_t workspace_bytes = std::size_t{64} << 20;
constexpr int candidates = 24;
// Every candidate is timed for a few runs. The fastest ones are then timed again, each long enough for the
// GPU's clocks to settle: under a power limit, the fastest candidate in a short burst may not be the fastest
// one in a training step.
constexpr int first_runs = 4;
constexpr std::size_t finalists = 6;
constexpr double lasting_flops = 1e10;  // repeated products of this size can reach a GPU's power limit
constexpr float settle_milliseconds = 25, measured_milliseconds = 50;
constexpr float brief_milliseconds = 8;  // time to measure smaller products, without settling

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DefectError("cublasLt: {}: {}", what, cublasLtGetStatusString(status));
}

using MatmulDesc = Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t blas_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f8e4m3:
      return CUDA_R_8F_E4M3;
    case DType::f8e5m2:
      return CUDA_R_8F_E5M2;
    default:
      throw DefectError("matmul: dtype {}, a floating one of at most 32 bits expected", name_of(dtype));
  }
}

cublasLtMatmulMatrixScale_t blas_scaling(Scaling scaling) {
  switch (scaling) {
    case Scaling::tensor:
      return CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
    case Scaling::vector128:
      return CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    case Scaling::block128:
      return CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
  }
  throw DefectError("matmul: scaling {} is unknown", static_cast<int>(scaling));
}

/// The largest power of two up to 256 that divides the address.
std::uint32_t alignment_of(const Tensor& tensor) {
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.data) | 256;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

}  // namespace

struct Matmul::Library {
  Handle<cublasLtHandle_t, cublasLtDestroy> handle;
};

struct Matmul::Plan {
  MatmulDesc operation;
  Layout a, b,
      d;  // for cuBLASLt's column-major product Dᵀ = Bᵀ · Aᵀ: `a` describes Product::b, `b` Product::a
  cublasLtMatmulAlgo_t algorithm{};
};

Matmul::Matmul(Context& gpu) : gpu_(gpu), library_(std::make_unique<Library>()) {
  check_blas(cublasLtCreate(library_->handle.out()), "handle");
  workspace_.reserve(workspace_bytes);
}

Matmul::~Matmul() = default;

void Matmul::run(const Product& op) {
  if (op.m == 0 || op.n == 0) return;
  const Key key{op.m,
                op.n,
                op.k,
                op.transpose_a,
                op.transpose_b,
                static_cast<std::int64_t>(op.a.dtype),
                static_cast<std::int64_t>(op.d.dtype),
                op.c.defined() ? (op.c.data == op.d.data ? 2 : 1) : 0,
                alignment_of(op.a),
                alignment_of(op.b),
                alignment_of(op.d),
                op.c.defined() ? alignment_of(op.c) : 0,
                static_cast<std::int64_t>(op.b.dtype),
                static_cast<std::int64_t>(op.a_scales.scaling),
                static_cast<std::int64_t>(op.b_scales.scaling),
                op.fast_accumulation};
  auto found = plans_.find(key);
  if (found == plans_.end()) found = plans_.emplace(key, make_plan(op)).first;
  check_blas(static_cast<cublasStatus_t>(launch(op, found->second, op.d.data)), "matmul");
}

void Matmul::set_scales(const Product& op, const Plan& plan) {
  const auto set = [&](cublasLtMatmulDescAttributes_t which, const Product::Scales& scales) {
    if (const void* values = scales.values.data)
      check_blas(cublasLtMatmulDescSetAttribute(plan.operation.get(), which, &values, sizeof(values)),
                 "scales");
  };
  set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, op.b_scales);
  set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, op.a_scales);
}

int Matmul::launch(const Product& op, const Plan& plan, void* d) {
  set_scales(op, plan);
  const float alpha = 1, beta = op.c.defined() ? op.beta : 0;
  const void* c = !op.c.defined() || op.c.data == op.d.data ? d : op.c.data;
  return cublasLtMatmul(library_->handle.get(), plan.operation.get(), &alpha, op.b.data, plan.a.get(),
                        op.a.data, plan.b.get(), &beta, c, plan.d.get(), d, plan.d.get(), &plan.algorithm,
                        workspace_.reserve(workspace_bytes), workspace_bytes, gpu_.stream());
}

Matmul::Plan Matmul::make_plan(Product op) {
  Plan plan;
  check_blas(cublasLtMatmulDescCreate(plan.operation.out(), CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
  const auto describe = [&](cublasLtMatmulDescAttributes_t which, auto value) {
    check_blas(cublasLtMatmulDescSetAttribute(plan.operation.get(), which, &value, sizeof(value)),
               "operation");
  };
  describe(CUBLASLT_MATMUL_DESC_TRANSA, op.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  describe(CUBLASLT_MATMUL_DESC_TRANSB, op.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (op.a_scales.values.defined()) {
    describe(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, static_cast<std::int32_t>(blas_scaling(op.b_scales.scaling)));
    describe(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, static_cast<std::int32_t>(blas_scaling(op.a_scales.scaling)));
    describe(CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<std::int8_t>(op.fast_accumulation));
    set_scales(op, plan);  // with block scaling, cuBLASLt finds no algorithm before the addresses are set
  }
  const auto layout = [](Layout& to, DType dtype, bool transposed, std::int64_t rows, std::int64_t columns) {
    if (transposed) std::swap(rows, columns);
    check_blas(cublasLtMatrixLayoutCreate(to.out(), blas_type(dtype), static_cast<std::uint64_t>(rows),
                                          static_cast<std::uint64_t>(columns), rows),
               "layout");
  };
  layout(plan.a, op.b.dtype, op.transpose_b, op.n, op.k);
  layout(plan.b, op.a.dtype, op.transpose_a, op.k, op.m);
  layout(plan.d, op.d.dtype, false, op.n, op.m);

  Preference preference;
  check_blas(cublasLtMatmulPreferenceCreate(preference.out()), "preference");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, auto value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(preference.get(), which, &value, sizeof(value)),
               "preference");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(op.b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(op.a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(op.c.defined() ? op.c : op.d));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(op.d));
  if (gpu_.deterministic())
    prefer(
        CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));

  std::vector<cublasLtMatmulHeuristicResult_t> results(gpu_.deterministic() ? 1 : candidates);
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      library_->handle.get(), plan.operation.get(), plan.a.get(), plan.b.get(), plan.d.get(), plan.d.get(),
      preference.get(), static_cast<int>(results.size()), results.data(), &count);
  if (status != CUBLAS_STATUS_SUCCESS || count == 0)
    throw DefectError("cublasLt: no algorithm for [{}, {}] · [{}, {}] in {} to {}: {}", op.m, op.k, op.k,
                      op.n, name_of(op.a.dtype), name_of(op.d.dtype), cublasLtGetStatusString(status));
  plan.algorithm = results.front().algo;
  if (count == 1) return plan;

  // The timed runs write to scratch, because D may hold a sum that must not change. They use beta = 1, as
  // most runs of a plan with C do.
  op.beta = 1;
  Buffer scratch;
  void* d = scratch.reserve(op.d.bytes());
  check(cudaMemsetAsync(d, 0, op.d.bytes(), gpu_.stream()), "matmul");
  struct Candidate {
    float milliseconds;
    cublasLtMatmulAlgo_t algorithm;
  };
  std::vector<Candidate> timed;
  for (int i = 0; i < count; ++i) {
    plan.algorithm = results[static_cast<std::size_t>(i)].algo;
    if (const std::optional<float> milliseconds = time(op, plan, d, first_runs))
      timed.push_back({*milliseconds, plan.algorithm});
  }
  if (timed.empty()) throw DefectError("cublasLt: none of {} algorithms runs", count);
  std::stable_sort(timed.begin(), timed.end(),
                   [](const Candidate& a, const Candidate& b) { return a.milliseconds < b.milliseconds; });
  timed.resize(std::min(timed.size(), finalists));
  const bool lasting = 2.0 * double(op.m) * double(op.n) * double(op.k) >= lasting_flops;
  for (Candidate& candidate : timed) {
    plan.algorithm = candidate.algorithm;
    const auto runs_of = [&](float milliseconds) {
      return std::clamp(static_cast<int>(milliseconds / candidate.milliseconds), first_runs, 1000);
    };
    const int runs = runs_of(lasting ? measured_milliseconds : brief_milliseconds);
    if (lasting) time(op, plan, d, runs_of(settle_milliseconds));
    candidate.milliseconds = time(op, plan, d, runs).value_or(std::numeric_limits<float>::infinity());
  }
  plan.algorithm = std::min_element(timed.begin(), timed.end(), [](const Candidate& a, const Candidate& b) {
                     return a.milliseconds < b.milliseconds;
                   })->algorithm;
  gpu_.synchronize();
  return plan;
}

std::optional<float> Matmul::time(const Product& op, const Plan& plan, void* scratch, int runs) {
  const EventHandle begin = make_event(cudaEventDefault), end = make_event(cudaEventDefault);
  if (launch(op, plan, scratch) != CUBLAS_STATUS_SUCCESS) return std::nullopt;
  check(cudaEventRecord(begin.get(), gpu_.stream()), "matmul");
  for (int i = 0; i < runs; ++i) launch(op, plan, scratch);
  check(cudaEventRecord(end.get(), gpu_.stream()), "matmul");
  check(cudaEventSynchronize(end.get()), "matmul");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "matmul");
  return milliseconds / static_cast<float>(runs);
}

}  // namespace foretoken::cuda
