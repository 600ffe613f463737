#pragma once
// A value for each action of a program of given shape.

#include <cstddef>
#include <utility>
#include <vector>

#include "parallel/pipeline/program.h"

namespace foretoken {

template <class Value>
class ActionTable {
 public:
  ActionTable(const PipelineShape& shape, Value initial)
      : stages_(shape.stages()),
        microbatches_(shape.microbatches),
        values_(kinds * size(stages_) * size(microbatches_), std::move(initial)) {}

  /// Whether the shape has the action's stage and microbatch.
  bool covers(const Action& action) const {
    return action.stage >= 0 && action.stage < stages_ && action.microbatch >= 0 &&
           action.microbatch < microbatches_;
  }
  // The table must cover the action.
  Value& operator[](const Action& action) { return values_[place_of(action)]; }
  const Value& operator[](const Action& action) const { return values_[place_of(action)]; }

 private:
  static constexpr std::size_t kinds = static_cast<std::size_t>(ActionKind::receive_gradient) + 1;

  static std::size_t size(int count) { return count > 0 ? static_cast<std::size_t>(count) : 0; }
  std::size_t place_of(const Action& action) const {
    return (static_cast<std::size_t>(action.kind) * size(stages_) + size(action.stage)) *
               size(microbatches_) +
           size(action.microbatch);
  }

  int stages_;
  int microbatches_;
  std::vector<Value> values_;
};

}  // namespace foretoken
