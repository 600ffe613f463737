#pragma once
// The parameters of one rank in flat buffers. Reduction, optimizer, norm and checkpoint therefore work on
// ranges, and a fused matrix (qkv, gate+up) consists of its unfused tensors stored consecutively. There are
// three buffers: the values that training updates, their gradients, and the weights that layers compute with.
// The weights are the values rounded to the compute dtype, or the values themselves if both dtypes are equal.
//
// A unit is the parameters of one layer. It is contiguous. All its gradients become final together, so
// gradient reduction works on whole units. Units start at multiples of the alignment that the caller passes
// (a multiple of the data-parallel size, so that every unit splits evenly); the padding is zero and stays
// zero.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/arena.h"
#include "runtime/stream.h"

namespace foretoken {

enum class Init : std::uint8_t { normal, ones, zeros };

struct ParameterSpec {
  std::string name;  // Hugging Face name with global layer numbers, as checkpoints hold it
  Shape shape;
  bool decay = true;  // weight decay applies (not on norms)
  Init init = Init::normal;
  double std = 0.02;  // standard deviation of Init::normal
  /// True: a step's first contribution overwrites the gradient. False: the gradient is zeroed before the step
  /// and every contribution adds.
  bool gradient_overwritten = false;
  /// Name of another parameter of the same shape and distribution, whose initial values this one copies.
  /// Empty: the values are drawn for this parameter's own name.
  std::string copy_of{};
  std::int64_t offset = 0;  // into the flat buffer; set by Parameters
};

struct ParameterUnit {
  std::string name;  // "embedding", "layer 3", "mtp 1", "head"
  /// For a shared unit, the pipeline ranks that hold a replica, ascending: its gradient is summed over them,
  /// and the norm counts only the canonical replica.
  std::vector<int> holders;
  bool shared() const { return !holders.empty(); }
  /// For a shared unit: this replica is saved and counted.
  bool canonical = true;
  bool head = false;    // belongs to a head beside the main model
  bool frozen = false;  // not trained: it has no gradient and no optimizer state
  std::vector<ParameterSpec> specs;
  std::int64_t begin = 0;  // the unit's range in the flat buffer, padding included; set by Parameters
  std::int64_t end = 0;
};

class Parameters {
 public:
  struct Buffers {
    DType values = DType::f32;  // dtype of values and gradients
    DType weights = DType::f32;
    bool gradients = true;  // false: gradients() and views of gradients are undefined
  };
  /// Computes the layout of the units and allocates the buffers from the arena.
  Parameters(Arena& arena, const Buffers& buffers, std::vector<ParameterUnit> units, std::int64_t alignment);

  const std::vector<ParameterUnit>& units() const { return units_; }
  Tensor values() const { return values_; }  // [elements]
  /// Gradients of all elements up to the end of the last unit that is not frozen. Views of gradients of later
  /// parameters are undefined.
  Tensor gradients() const { return gradients_; }
  Tensor weights() const { return weights_; }  // [elements]
  /// Whether the weights have a separate buffer.
  bool has_rounded_weights() const { return weights_.data != values_.data; }

  /// Index of the unit of this name. Throws DefectError if this rank has no such unit.
  int unit(std::string_view name) const;
  /// Throws DefectError if this rank has no parameter of this name.
  const ParameterSpec& spec(std::string_view name) const;
  Tensor value(std::string_view name) const { return view(values_, spec(name)); }
  Tensor gradient(std::string_view name) const { return view(gradients_, spec(name)); }
  Tensor weight(std::string_view name) const { return view(weights_, spec(name)); }
  static Tensor view(const Tensor& flat, const ParameterSpec& spec);
  /// Returns matrices that are consecutive in `flat` (one of the buffers) as one matrix with all their rows.
  Tensor fused(const Tensor& flat, std::span<const std::string> names) const;

  /// Draws every value from (seed, name, element), independently of the layout, then calls round_weights().
  void initialize(Stream& stream, std::uint64_t seed);
  /// Call before a step: zeros the padding and all gradients without `gradient_overwritten`.
  void zero_summed_gradients(Stream& stream) const;
  /// Call after code other than the optimizer changed the values: weights = values, rounded.
  void round_weights(Stream& stream);

 private:
  std::vector<ParameterUnit> units_;
  Tensor values_;
  Tensor gradients_;
  Tensor weights_;
};

}  // namespace foretoken
