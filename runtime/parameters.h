#pragma once
// The parameters of one rank in one flat buffer: values and gradients, so that reduction, optimizer, norm and
// checkpoint work over ranges, and a fused matrix (qkv, gate+up) is simply its unfused tensors one after
// another.
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
#include "runtime/tensor.h"

namespace foretoken {

enum class Init : std::uint8_t { normal, ones };

struct ParameterSpec {
  std::string name;  // Hugging Face name with global layer numbers, as checkpoints hold it
  Shape shape;
  bool decay = true;  // weight decay applies (not on norms)
  Init init = Init::normal;
  double std = 0.02;        // of Init::normal
  std::int64_t offset = 0;  // into the flat buffer; set by Parameters
};

struct ParameterUnit {
  std::string name;  // "embedding", "layer 3", "mtp 1", "head"
  /// Another pipeline rank holds a replica of this unit: its gradient is summed over both, and the norm
  /// counts it on the canonical side alone.
  bool shared = false;
  /// Of a shared unit: this side is the one that is saved and counted.
  bool canonical = true;
  std::vector<ParameterSpec> specs;
  std::int64_t begin = 0;  // the unit's range in the flat buffer, padding included; set by Parameters
  std::int64_t end = 0;
};

class Parameters {
 public:
  /// Lays the units out and takes values and gradients from the arena.
  Parameters(Arena& arena, DType dtype, std::vector<ParameterUnit> units, std::int64_t alignment);

  const std::vector<ParameterUnit>& units() const { return units_; }
  Tensor values() const { return values_; }        // [elements]
  Tensor gradients() const { return gradients_; }  // [elements]

  /// A DefectError where this rank has no parameter of that name.
  const ParameterSpec& spec(std::string_view name) const;
  Tensor value(std::string_view name) const { return view(values_, spec(name)); }
  Tensor gradient(std::string_view name) const { return view(gradients_, spec(name)); }
  static Tensor view(const Tensor& flat, const ParameterSpec& spec);
  /// Matrices that lie one after another in `flat` (values or gradients), as one matrix of all their rows.
  Tensor fused(const Tensor& flat, std::span<const std::string> names) const;

  /// Draws every value from (seed, name, element): the same whatever the layout.
  void initialize(std::uint64_t seed);

 private:
  std::vector<ParameterUnit> units_;
  Tensor values_;
  Tensor gradients_;
};

}  // namespace foretoken
