#include "runtime/operators/parameters/parameters.h"

#include <algorithm>

#include "runtime/error.h"
#include "runtime/operators/parameters/random_normal.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

Parameters::Parameters(Arena& arena, const Buffers& buffers, std::vector<ParameterUnit> units,
                       std::int64_t alignment)
    : units_(std::move(units)) {
  std::int64_t offset = 0, trained = 0;
  for (ParameterUnit& unit : units_) {
    unit.begin = offset;
    for (ParameterSpec& spec : unit.specs) {
      spec.offset = offset;
      offset += spec.shape.elements();
    }
    offset = (offset + alignment - 1) / alignment * alignment;
    unit.end = offset;
    if (!unit.frozen) trained = offset;
  }
  values_ = arena.tensor(buffers.values, {offset}, MemoryKind::weights);
  if (buffers.gradients) gradients_ = arena.tensor(buffers.values, {trained}, MemoryKind::gradients);
  weights_ = buffers.weights == buffers.values ? values_
                                               : arena.tensor(buffers.weights, {offset}, MemoryKind::weights);
}

int Parameters::unit(std::string_view name) const {
  for (std::size_t i = 0; i < units_.size(); ++i)
    if (units_[i].name == name) return static_cast<int>(i);
  throw DefectError("parameters: this rank holds no unit \"{}\"", name);
}

const ParameterSpec& Parameters::spec(std::string_view name) const {
  for (const ParameterUnit& unit : units_)
    for (const ParameterSpec& spec : unit.specs)
      if (spec.name == name) return spec;
  throw DefectError("parameters: this rank holds no {}", name);
}

Tensor Parameters::view(const Tensor& flat, const ParameterSpec& spec) {
  if (!flat.defined() || spec.offset >= flat.elements()) return {};
  return flat.flat(spec.offset, spec.shape.elements()).view(spec.shape);
}

Tensor Parameters::fused(const Tensor& flat, std::span<const std::string> names) const {
  const ParameterSpec& first = spec(names.front());
  std::int64_t rows = 0;
  for (const std::string& name : names) {
    const ParameterSpec& part = spec(name);
    if (part.shape[1] != first.shape[1] || part.offset != first.offset + rows * first.shape[1])
      throw DefectError("parameters: {} does not follow {} in one matrix", name, first.name);
    rows += part.shape[0];
  }
  if (!flat.defined() || first.offset >= flat.elements()) return {};
  return flat.flat(first.offset, rows * first.shape[1]).view({rows, first.shape[1]});
}

void Parameters::initialize(Stream& stream, std::uint64_t seed) {
  for (const ParameterUnit& unit : units_)
    for (const ParameterSpec& spec : unit.specs) {
      const Tensor value = view(values_, spec);
      switch (spec.init) {
        case Init::normal:
          random_normal(stream, {.out = value,
                                 .rng = {seed, spec.copy_of.empty() ? spec.name : spec.copy_of},
                                 .std = spec.std});
          break;
        case Init::ones:
          fill(stream, value, 1);
          break;
        case Init::zeros:
          set_zero(stream, value);
          break;
      }
    }
  round_weights(stream);
}

void Parameters::zero_summed_gradients(Stream& stream) const {
  std::int64_t begin = 0;
  const auto zero_until = [&](std::int64_t end) {
    if (begin < end) set_zero(stream, gradients_.flat(begin, end - begin));
  };
  for (const ParameterUnit& unit : units_)
    for (const ParameterSpec& spec : unit.specs) {
      if (!spec.gradient_overwritten || unit.begin >= gradients_.elements()) continue;
      zero_until(spec.offset);
      begin = spec.offset + spec.shape.elements();
    }
  zero_until(gradients_.elements());
}

void Parameters::round_weights(Stream& stream) {
  if (has_rounded_weights()) convert(stream, values_, weights_);
}

}  // namespace foretoken
