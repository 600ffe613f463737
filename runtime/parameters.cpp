#include "runtime/parameters.h"

#include <algorithm>

#include "runtime/random.h"

namespace foretoken {

Parameters::Parameters(Arena& arena, DType dtype, std::vector<ParameterUnit> units, std::int64_t alignment)
    : units_(std::move(units)) {
  std::int64_t offset = 0;
  for (ParameterUnit& unit : units_) {
    unit.begin = offset;
    for (ParameterSpec& spec : unit.specs) {
      spec.offset = offset;
      offset += spec.shape.elements();
    }
    offset = (offset + alignment - 1) / alignment * alignment;
    unit.end = offset;
  }
  values_ = arena.tensor(dtype, {offset});
  gradients_ = arena.tensor(dtype, {offset});
}

const ParameterSpec& Parameters::spec(std::string_view name) const {
  for (const ParameterUnit& unit : units_)
    for (const ParameterSpec& spec : unit.specs)
      if (spec.name == name) return spec;
  throw DefectError("parameters: this rank holds no {}", name);
}

Tensor Parameters::view(const Tensor& flat, const ParameterSpec& spec) {
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
  return flat.flat(first.offset, rows * first.shape[1]).view({rows, first.shape[1]});
}

namespace {

template <class T>
void fill(std::span<T> values, const ParameterSpec& spec, std::uint64_t seed) {
  const CounterRng rng(seed, spec.name);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = spec.init == Init::ones ? T{1} : static_cast<T>(static_cast<float>(spec.std * rng.normal(i)));
}

}  // namespace

void Parameters::initialize(std::uint64_t seed) {
  for (const ParameterUnit& unit : units_)
    for (const ParameterSpec& spec : unit.specs) {
      const Tensor value = view(values_, spec);
      if (value.dtype == DType::f64)
        fill(value.span<double>(), spec, seed);
      else
        fill(value.span<float>(), spec, seed);
    }
}

}  // namespace foretoken
