#include "runtime/operators/attention/cudnn_attention.h"

#include <cmath>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

#define CUDNN_FRONTEND_SKIP_JSON_LIB  // plans are never written out, and the library costs compile time
#include <cudnn_frontend.h>

#include "runtime/cuda/handle.h"
#include "runtime/error.h"

namespace foretoken::cuda {

namespace fe = cudnn_frontend;
using fe::graph::Graph;
using fe::graph::Tensor_attributes;

namespace {

void check(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) throw DefectError("cudnn: {}: {}", what, cudnnGetErrorString(status));
}

void check(fe::error_t status, const char* what) {
  if (status.is_bad()) throw DefectError("cudnn: {}: {}", what, status.get_message());
}

/// Whether an error means that cuDNN has no kernel for the graph. Other errors are defects.
bool is_refusal(fe::error_t& status) {
  return status == fe::error_code_t::GRAPH_NOT_SUPPORTED ||
         status == fe::error_code_t::HEURISTIC_QUERY_FAILED ||
         status.get_message().find("NOT_SUPPORTED") != std::string::npos;
}

struct Problem {
  bool backward;
  std::int64_t b, t, nh, nkv, hs;

  friend auto operator<=>(const Problem&, const Problem&) = default;
  std::int64_t width() const { return (nh + 2 * nkv) * hs; }
};

/// The arguments of either operator: problem and addresses. dout and dqkv are null in forward.
struct Call {
  Problem problem;
  void *qkv, *out, *lse, *dout, *dqkv;
  const char* refusal;  // why cuDNN cannot support the call, or null
};

const char* name_of(const Problem& p) {
  return p.backward ? "attention_backward" : "attention_forward";
}

Call call_of(bool backward, const AttentionHeads& heads, const Tensor& qkv, const Tensor& document_start,
             const Tensor& out, const Tensor& lse, const Tensor& dout, const Tensor& dqkv) {
  const Problem problem{backward, qkv.shape[0], qkv.shape[1], heads.query, heads.key_value, heads.dim};
  const auto [_, b, t, nh, nkv, hs] = problem;
  const bool dtypes = qkv.dtype == DType::bf16 && out.dtype == DType::bf16 && lse.dtype == DType::f32 &&
                      (!backward || (dout.dtype == DType::bf16 && dqkv.dtype == DType::bf16));
  const char* refusal = document_start.defined()  ? "it has documents"
                        : !dtypes                 ? "its tensors are not bf16, with lse in f32"
                        : hs % 8 != 0 || hs > 128 ? "its head dim is no multiple of 8 up to 128"
                        : b * t * nh * hs == 0    ? "it is empty"
                                                  : nullptr;
  return {problem, qkv.data, out.data, lse.data, dout.data, dqkv.data, refusal};
}

Call call_of(const AttentionForward& op) {
  return call_of(false, op.heads, op.qkv, op.document_start, op.out, op.lse, {}, {});
}

Call call_of(const AttentionBackward& op) {
  return call_of(true, op.heads, op.qkv, op.document_start, op.out, op.lse, op.dout, op.dqkv);
}

namespace uid {
enum : std::int64_t { q = 1, k, v, out, lse, dout, dq, dk, dv };
}

using Pointers = std::unordered_map<std::int64_t, void*>;

/// Sets the tensors' addresses. The map keeps its nodes, so only a plan's first call allocates.
void point(Pointers& pointers, const Call& call) {
  const auto heads = [&](void* fused, std::int64_t first) -> void* {
    return static_cast<std::uint16_t*>(fused) + first * call.problem.hs;
  };
  const auto [backward, b, t, nh, nkv, hs] = call.problem;
  pointers[uid::q] = heads(call.qkv, 0);
  pointers[uid::k] = heads(call.qkv, nh);
  pointers[uid::v] = heads(call.qkv, nh + nkv);
  pointers[uid::out] = call.out;
  pointers[uid::lse] = call.lse;
  if (!backward) return;
  pointers[uid::dout] = call.dout;
  pointers[uid::dq] = heads(call.dqkv, 0);
  pointers[uid::dk] = heads(call.dqkv, nh);
  pointers[uid::dv] = heads(call.dqkv, nh + nkv);
}

/// Describes heads [B, H, T, HS] that are stored in a tensor [B, T, width].
Tensor_attributes& lay_out(Tensor_attributes& tensor, std::int64_t id, const Problem& p, std::int64_t heads,
                           std::int64_t width) {
  return tensor.set_uid(id).set_dim({p.b, heads, p.t, p.hs}).set_stride({p.t * width, p.hs, width, 1});
}

/// Describes lse [B, NH, T, 1]. It equals cuDNN's statistics, max + log(Σ exp).
Tensor_attributes& lay_out_lse(Tensor_attributes& tensor, const Problem& p) {
  return tensor.set_uid(uid::lse)
      .set_dim({p.b, p.nh, p.t, 1})
      .set_stride({p.nh * p.t, p.t, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

template <class Attributes>
Attributes causal(const Problem& p) {
  return Attributes()
      .set_name(name_of(p))
      .set_attn_scale(1.0f / std::sqrt(static_cast<float>(p.hs)))
      .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
      .set_diagonal_band_right_bound(0);
}

void describe(Graph& graph, const Problem& p, bool deterministic) {
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto input = [&](std::int64_t id, std::int64_t heads, std::int64_t width) {
    Tensor_attributes tensor;
    return graph.tensor(lay_out(tensor, id, p, heads, width));
  };
  const auto q = input(uid::q, p.nh, p.width());
  const auto k = input(uid::k, p.nkv, p.width());
  const auto v = input(uid::v, p.nkv, p.width());

  if (!p.backward) {
    const auto [out, lse] =
        graph.sdpa(q, k, v, causal<fe::graph::SDPA_attributes>(p).set_generate_stats(true));
    lay_out(*out, uid::out, p, p.nh, p.nh * p.hs).set_output(true);
    lay_out_lse(*lse, p).set_output(true);
    return;
  }
  const auto out = input(uid::out, p.nh, p.nh * p.hs);
  const auto dout = input(uid::dout, p.nh, p.nh * p.hs);
  Tensor_attributes lse;
  const auto [dq, dk, dv] = graph.sdpa_backward(
      q, k, v, out, dout, graph.tensor(lay_out_lse(lse, p)),
      causal<fe::graph::SDPA_backward_attributes>(p).set_deterministic_algorithm(deterministic));
  lay_out(*dq, uid::dq, p, p.nh, p.width()).set_output(true);
  lay_out(*dk, uid::dk, p, p.nkv, p.width()).set_output(true);
  lay_out(*dv, uid::dv, p, p.nkv, p.width()).set_output(true);
}

/// Times the candidate plans and selects the fastest one. The tensors are zeros, because the time does not
/// depend on the values.
void choose_fastest(Graph& graph, cudnnHandle_t handle, const Problem& p) {
  const auto aligned = [](std::int64_t bytes) { return static_cast<std::size_t>(bytes + 255) / 256 * 256; };
  const std::size_t fused = aligned(2 * p.b * p.t * p.width());
  const std::size_t out = aligned(2 * p.b * p.t * p.nh * p.hs);
  const std::size_t lse = aligned(4 * p.b * p.nh * p.t);
  const std::size_t bytes = 2 * fused + 2 * out + lse + aligned(graph.get_autotune_workspace_size());

  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) != cudaSuccess) {
    cudaGetLastError();  // not enough memory to time them: keep cuDNN's first choice
    return;
  }
  const std::unique_ptr<void, decltype(&cudaFree)> scratch(memory, &cudaFree);
  cuda::check(cudaMemset(memory, 0, bytes), "cudnn attention scratch");
  char* at = static_cast<char*>(memory);
  const auto take = [&](std::size_t size) { return std::exchange(at, at + size); };

  Pointers pointers;
  point(pointers, {p, take(fused), take(out), take(lse), take(out), take(fused), nullptr});
  check(graph.autotune(handle, pointers, at), "timing attention plans");
}

}  // namespace

class CudnnAttention::Plans {
 public:
  Plans(cudaStream_t stream, bool deterministic) : deterministic_(deterministic) {
    check(cudnnCreate(handle_.out()), "cudnnCreate");
    check(cudnnSetStream(handle_.get(), stream), "cudnnSetStream");
  }

  bool supports(const Call& call) { return call.refusal == nullptr && plan(call.problem).graph != nullptr; }

  std::size_t workspace(const Call& call) { return usable(call).workspace; }

  void run(const Call& call, void* workspace) {
    Plan& plan = usable(call);
    point(plan.pointers, call);
    check(plan.graph->execute(handle_.get(), plan.pointers, workspace), name_of(call.problem));
  }

 private:
  struct Plan {
    std::unique_ptr<Graph> graph;  // null if cuDNN rejected it
    std::string refusal;
    std::size_t workspace = 0;
    Pointers pointers;
  };

  Plan& usable(const Call& call) {
    if (call.refusal != nullptr) throw DefectError("cudnn: {}: {}", name_of(call.problem), call.refusal);
    Plan& found = plan(call.problem);
    if (found.graph == nullptr)
      throw DefectError("cudnn: {}: not supported: {}", name_of(call.problem), found.refusal);
    return found;
  }

  Plan& plan(const Problem& problem) {
    const auto known = plans_.find(problem);
    if (known != plans_.end()) return known->second;
    return plans_.emplace(problem, build(problem)).first->second;
  }

  Plan build(const Problem& problem) {
    auto graph = std::make_unique<Graph>();
    describe(*graph, problem, deterministic_);
    // Timing may select another plan in the next run, and plans round differently.
    const auto policy =
        deterministic_ ? fe::BuildPlanPolicy_t::HEURISTICS_CHOICE : fe::BuildPlanPolicy_t::ALL;
    fe::error_t status = graph->build(handle_.get(), {fe::HeurMode_t::A}, policy);
    Plan plan;
    if (status.is_bad()) {
      if (!is_refusal(status)) check(status, name_of(problem));
      plan.refusal = status.get_message();
      return plan;
    }
    if (graph->get_execution_plan_count() > 1 && !deterministic_)
      choose_fastest(*graph, handle_.get(), problem);
    plan.workspace = static_cast<std::size_t>(graph->get_workspace_size());
    plan.graph = std::move(graph);
    return plan;
  }

  bool deterministic_;
  Handle<cudnnHandle_t, cudnnDestroy> handle_;
  std::map<Problem, Plan> plans_;
};

CudnnAttention::CudnnAttention(const Context& gpu)
    : plans_(std::make_unique<Plans>(gpu.stream(), gpu.deterministic())) {}
CudnnAttention::~CudnnAttention() = default;

bool CudnnAttention::supports(const AttentionForward& op) {
  return plans_->supports(call_of(op));
}
bool CudnnAttention::supports(const AttentionBackward& op) {
  return plans_->supports(call_of(op));
}

std::size_t CudnnAttention::workspace(const AttentionForward& op) {
  return plans_->workspace(call_of(op));
}
std::size_t CudnnAttention::workspace(const AttentionBackward& op) {
  return plans_->workspace(call_of(op));
}

void CudnnAttention::forward(const AttentionForward& op, void* workspace) {
  plans_->run(call_of(op), workspace);
}
void CudnnAttention::backward(const AttentionBackward& op, void* workspace) {
  plans_->run(call_of(op), workspace);
}

}  // namespace foretoken::cuda
