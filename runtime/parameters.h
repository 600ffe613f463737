#pragma once
// The parameters of one rank in flat buffers, so that reduction, optimizer, norm and checkpoint work over
// ranges, and a fused matrix (qkv, gate+up) is simply its unfused tensors one after another. There are three:
// the values that training keeps, their gradients, and the weights that layers compute with, which are the
// values rounded to the compute dtype, or the values themselves where that is their own.
//
// Parameters come in units: what one layer owns. A unit is contiguous; its gradient becomes final as a whole,
// so it is the grain of gradient reduction. Units start at multiples of the alignment that the caller gives
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
  double std = 0.02;  // of Init::normal
  /// In a step the first contribution to its gradient overwrites it; else all of them add, from zero on.
  bool gradient_overwritten = false;
  /// Of a parameter that starts as a copy of another one of its shape and distribution: that one's name,
  /// whose values are drawn for it. Empty: its own name.
  std::string copy_of{};
  std::int64_t offset = 0;  // into the flat buffer; set by Parameters
};

struct ParameterUnit {
  std::string name;  // "embedding", "layer 3", "mtp 1", "head"
  /// The pipeline ranks that hold a replica of this unit, ascending, where there are several: its gradient is
  /// summed over them, and the norm counts it on the canonical one alone.
  std::vector<int> holders;
  bool shared() const { return !holders.empty(); }
  /// Of a shared unit: this replica is the one that is saved and counted.
  bool canonical = true;
  bool head = false;    // of what predicts beside the main model
  bool frozen = false;  // keeps its values: no gradient is taken, no optimizer state kept
  std::vector<ParameterSpec> specs;
  std::int64_t begin = 0;  // the unit's range in the flat buffer, padding included; set by Parameters
  std::int64_t end = 0;
};

class Parameters {
 public:
  struct Buffers {
    DType values = DType::f32;  // and gradients
    DType weights = DType::f32;
    bool gradients = true;  // without them views of gradients are undefined
  };
  /// Lays the units out and takes the buffers from the arena.
  Parameters(Arena& arena, const Buffers& buffers, std::vector<ParameterUnit> units, std::int64_t alignment);

  const std::vector<ParameterUnit>& units() const { return units_; }
  Tensor values() const { return values_; }  // [elements]
  /// To the end of the last unit that is not frozen: views of what lies behind are undefined.
  Tensor gradients() const { return gradients_; }
  Tensor weights() const { return weights_; }  // [elements]
  /// Whether the weights are a buffer of their own.
  bool has_rounded_weights() const { return weights_.data != values_.data; }

  /// Index of the unit of that name. A DefectError where this rank has none.
  int unit(std::string_view name) const;
  /// A DefectError where this rank has no parameter of that name.
  const ParameterSpec& spec(std::string_view name) const;
  Tensor value(std::string_view name) const { return view(values_, spec(name)); }
  Tensor gradient(std::string_view name) const { return view(gradients_, spec(name)); }
  Tensor weight(std::string_view name) const { return view(weights_, spec(name)); }
  static Tensor view(const Tensor& flat, const ParameterSpec& spec);
  /// Matrices that lie one after another in `flat` (one of the buffers), as one matrix of all their rows.
  Tensor fused(const Tensor& flat, std::span<const std::string> names) const;

  /// Draws every value from (seed, name, element): the same whatever the layout. Then round_weights().
  void initialize(Stream& stream, std::uint64_t seed);
  /// Before a step: all gradients to which contributions only add, and padding, become zero.
  void zero_summed_gradients(Stream& stream) const;
  /// After values were changed by other means than the optimizer: weights = values, rounded.
  void round_weights(Stream& stream);

 private:
  std::vector<ParameterUnit> units_;
  Tensor values_;
  Tensor gradients_;
  Tensor weights_;
};

}  // namespace foretoken
