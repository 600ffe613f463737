#pragma once
// Matrix products through cuBLASLt. For every shape the library is asked for its candidates once; they are
// timed on the operands at hand, and the fastest is kept.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "runtime/cuda/handle.h"
#include "runtime/operators/quantize.h"
#include "runtime/tensor.h"

namespace foretoken::cuda {

class Context;

/// D[m,n] = op(A)[m,k] · op(B)[k,n] (+ beta · C), all row-major and dense. A and B have one dtype, or are
/// both quantized (quantize.h), with A as [m, k] and B as [n, k]; C and D have one; sums are taken in fp32.
struct Product {
  bool transpose_a = false;  // A lies as [k, m]
  bool transpose_b = false;  // B lies as [n, k]
  std::int64_t m, n, k;
  Tensor a, b;
  struct Scales {
    Tensor values;  // undefined where the operand is not quantized
    Scaling scaling = Scaling::tensor;
  };
  Scales a_scales, b_scales;
  bool fast_accumulation = false;
  Tensor c;        // optional; may be d
  float beta = 1;  // 0: C is not read. No part of the plan: a sum and its first term take one algorithm
  Tensor d;
};

class Matmul {
 public:
  explicit Matmul(Context& gpu);
  ~Matmul();

  /// On the context's stream. A DefectError where cuBLASLt has no algorithm for it.
  void run(const Product& op);

 private:
  struct Library;
  struct Plan;
  using Key = std::array<std::int64_t, 16>;

  Plan make_plan(Product op);
  /// Milliseconds of a run of the algorithm, into scratch instead of D; nothing where it is refused.
  std::optional<float> time(const Product& op, const Plan& plan, void* scratch, int runs);
  /// Where the operands' scales lie is part of an operation, not an argument of its launch.
  static void set_scales(const Product& op, const Plan& plan);
  int launch(const Product& op, const Plan& plan, void* d);

  Context& gpu_;
  std::unique_ptr<Library> library_;
  Buffer workspace_;
  std::map<Key, Plan> plans_;
};

}  // namespace foretoken::cuda
