#pragma once
// Matrix products with cuBLASLt. For each new shape, the candidates of cuBLASLt are timed once on the current
// operands, and the fastest is used from then on.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "runtime/cuda/handle.h"
#include "runtime/operators/rowwise/quantize.h"
#include "runtime/tensor.h"

namespace foretoken::cuda {

class Context;

/// D[m,n] = op(A)[m,k] · op(B)[k,n] (+ beta · C), all row-major and dense. A and B have one dtype, or are
/// both quantized (quantize.h), with A as [m, k] and B as [n, k]; C and D have one; sums are taken in fp32.
struct Product {
  bool transpose_a = false;  // A is stored as [k, m]
  bool transpose_b = false;  // B is stored as [n, k]
  std::int64_t m, n, k;
  Tensor a, b;
  struct Scales {
    Tensor values;  // undefined if the operand is not quantized
    Scaling scaling = Scaling::tensor;
  };
  Scales a_scales, b_scales;
  bool fast_accumulation = false;
  Tensor c;        // optional; may be d
  float beta = 1;  // 0: C is not read. Not part of the plan: a sum and its first term use one algorithm
  Tensor d;
};

class Matmul {
 public:
  explicit Matmul(Context& gpu);
  ~Matmul();

  /// Runs on the context's stream. Throws a DefectError if cuBLASLt has no algorithm for the product.
  void run(const Product& op);

 private:
  struct Library;
  struct Plan;
  using Key = std::array<std::int64_t, 16>;

  Plan make_plan(Product op);
  /// Milliseconds of one run of the algorithm, with scratch as the output; nullopt if cuBLASLt rejects it.
  std::optional<float> time(const Product& op, const Plan& plan, void* scratch, int runs);
  /// cuBLASLt takes the addresses of the operands' scales from the descriptor, not as launch arguments.
  static void set_scales(const Product& op, const Plan& plan);
  int launch(const Product& op, const Plan& plan, void* d);

  Context& gpu_;
  std::unique_ptr<Library> library_;
  Buffer workspace_;
  std::map<Key, Plan> plans_;
};

}  // namespace foretoken::cuda
