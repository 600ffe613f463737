#include "parallel/pipeline/prerequisites.h"

namespace foretoken {

std::vector<Action> prerequisites(const Action& action, const PipelineShape& shape) {
  using enum ActionKind;
  const int s = action.stage;
  const int m = action.microbatch;
  switch (action.kind) {
    case forward:
      if (s == 0) return {};
      if (shape.rank_of(s - 1) == shape.rank_of(s)) return {{forward, s - 1, m}};
      return {{receive_activation, s, m}};
    case backward:
    case backward_input:
      if (s == shape.stages() - 1) return {{forward, s, m}};
      if (shape.rank_of(s + 1) == shape.rank_of(s)) return {{forward, s, m}, {backward_input, s + 1, m}};
      return {{forward, s, m}, {receive_gradient, s, m}};
    case backward_weight:
      return {{backward_input, s, m}};
    case send_activation:
      return {{forward, s, m}};
    case receive_activation:
      return {{send_activation, s - 1, m}};
    case send_gradient:
      return {{backward_input, s, m}};
    case receive_gradient:
      return {{send_gradient, s + 1, m}};
  }
  return {};
}

bool fulfils(const Action& done, const Action& needed) {
  if (done == needed) return true;
  return done.kind == ActionKind::backward && done.stage == needed.stage &&
         done.microbatch == needed.microbatch &&
         (needed.kind == ActionKind::backward_input || needed.kind == ActionKind::backward_weight);
}

}  // namespace foretoken
