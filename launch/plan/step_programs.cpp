#include "launch/plan/step_programs.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "launch/config/layout.h"
#include "parallel/pipeline/schedules.h"

namespace foretoken {

void StepPrograms::set(SessionPlan& session, const PipelineShape& shape) {
  const std::string& schedule = session.config.parallel.schedule;
  const auto find = [&](auto& all, const std::string& name, int microbatches,
                        const auto& make) -> const auto& {
    const auto [found, is_new] = all.try_emplace({name, shape.pp, shape.virtual_stages, microbatches});
    if (is_new) found->second = make();
    return found->second;
  };
  session.training.footprint = find(training_, schedule, shape.microbatches,
                                    [&] { return make_ready(make_program(schedule, shape)).footprint; });
  session.evaluation.footprint =
      find(evaluation_, "", shape.microbatches, [&] { return make_ready(forward_only(shape)).footprint; });
  session.training.program = find(programs_, schedule, 1, [&] {
    return make_program(schedule, {shape.pp, shape.virtual_stages, 1});
  });
}

bool StepPrograms::visit(SessionPlan& session, const std::function<bool()>& fits) {
  const PipelineShape whole = shape_of(session.config, session.grid());
  const int rest = whole.microbatches % whole.pp;
  std::pair<std::vector<int>, std::vector<int>> slots;
  for (std::int64_t groups = 2; rest == 0 && groups * whole.pp < whole.microbatches; groups *= 4) {
    PipelineShape shape = whole;
    shape.microbatches = static_cast<int>(groups * whole.pp);
    set(session, shape);
    std::pair next(session.training.footprint.slots, session.evaluation.footprint.slots);
    if (next == slots) return true;
    if (!fits()) return false;
    slots = std::move(next);
  }
  set(session, whole);
  return fits();
}

}  // namespace foretoken
