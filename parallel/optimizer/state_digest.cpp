#include "parallel/optimizer/state_digest.h"

#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/timing/timeline.h"

namespace foretoken {

namespace {

constexpr std::int64_t slots = 3;

}  // namespace

StateDigest::StateDigest(Arena& arena, const OptimizerState& state, const Parameters& parameters) {
  const auto add = [&](std::string name, const Tensor& tensor) {
    names_.push_back(std::move(name));
    tensors_.push_back(tensor);
  };
  for (const StatePiece& piece : state.pieces_to_load()) add(describe(piece), piece.data);
  if (parameters.has_rounded_weights())
    for (const ParameterUnit& unit : parameters.units())
      for (const ParameterSpec& spec : unit.specs)
        add("rounded " + spec.name, Parameters::view(parameters.weights(), spec));
  bits_ =
      arena.tensor(DType::i64, {slots, static_cast<std::int64_t>(tensors_.size())}, MemoryKind::optimizer);
}

void StateDigest::fingerprints(Stream& stream, std::int64_t slot) {
  const TimelineScope scope(stream, "state digest");
  const auto tensors = static_cast<std::int64_t>(tensors_.size());
  for (std::int64_t i = 0; i < tensors; ++i)
    fingerprint(stream,
                {.x = tensors_[static_cast<std::size_t>(i)], .bits = bits_.flat(slot * tensors + i, 1)});
}

void StateDigest::take(Stream& stream) {
  slot_ = (slot_ + 2) % slots;
  fingerprints(stream, slot_);
  taken_ = true;
}

void StateDigest::compare(Stream& stream) {
  if (!taken_) return;
  first_ = slot_;
  fingerprints(stream, (first_ + 1) % slots);
  compared_ = true;
}

std::string StateDigest::changed(Stream& stream) {
  if (!compared_) return {};
  compared_ = false;
  std::vector<std::int64_t> bits(static_cast<std::size_t>(bits_.elements()));
  copy(stream, bits_, tensor_over(std::span(bits), bits_.shape));
  stream.synchronize();
  const std::size_t tensors = names_.size(), before = static_cast<std::size_t>(first_) * tensors,
                    now = static_cast<std::size_t>((first_ + 1) % slots) * tensors;
  for (std::size_t i = 0; i < tensors; ++i)
    if (bits[before + i] != bits[now + i]) return names_[i];
  return {};
}

}  // namespace foretoken
