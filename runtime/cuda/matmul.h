#pragma once
// Matrix products with cuBLASLt. For each new shape, cuBLASLt's candidate algorithms are timed once on the
// current operands, and the fastest one is used from then on. A deterministic context uses the first
// candidate instead.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "runtime/cuda/handle.h"
#include "runtime/scaling.h"
#include "runtime/tensor.h"

namespace foretoken::cuda {

class Context;

/// D[m,n] = op(A)[m,k] · op(B)[k,n] (+ beta · C), all row-major and dense. A and B have the same dtype, or
/// both are quantized (runtime/quantized_tensor.h), with A stored as [m, k] and B as [n, k]. C and D have the
/// same dtype. Products are summed in fp32, unless fast_accumulation is set. The selection of an algorithm
/// does not depend on beta, so the first term of a sum uses the same algorithm as the others.
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
  bool fast_accumulation = false;  // for quantized operands, as in QuantizedProduct
  Tensor c;                        // optional; may be d
  float beta = 1;                  // 0: C is not read
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
  /// Milliseconds of one run of the plan's algorithm, which writes to scratch instead of D; nullopt if
  /// cuBLASLt rejects the algorithm.
  std::optional<float> time(const Product& op, const Plan& plan, void* scratch, int runs);
  /// Sets the addresses of the operands' scales. cuBLASLt reads them from the plan's descriptor, not from
  /// launch arguments, so this precedes every launch.
  static void set_scales(const Product& op, const Plan& plan);
  int launch(const Product& op, const Plan& plan, void* d);

  Context& gpu_;
  std::unique_ptr<Library> library_;
  Buffer workspace_;
  std::map<Key, Plan> plans_;
};

}  // namespace foretoken::cuda
