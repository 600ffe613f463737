// Definitions that the parsers' sources need from model/, so that the layers need not be linked. Only
// head_kind() is called.
#include <cstdlib>

#include "model/heads/head_kinds.h"
#include "model/layout.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"

namespace foretoken {

const HeadKind& head_kind(MtpConfig::Kind kind) {
  static const auto of = [](HeadKind row) {
    row.noun = [](const MtpConfig&) -> std::string_view { return "head"; };
    row.cost = [](const ModelConfig&, const MtpConfig&, double block) { return block; };
    return row;
  };
  static const HeadKind sequential = of({.settings = {"repeat", "concat", "trunk_hidden", "recycled_hidden"},
                                         .reads_previous_depth = true,
                                         .has_block = true}),
                        parallel = of({.reads_last_input = true, .has_block = true, .in_turn = true}),
                        residual = of({.settings = {"residual_form", "own_output"}, .in_turn = true}),
                        linear = of({.in_turn = true});
  switch (kind) {
    case MtpConfig::Kind::sequential:
      return sequential;
    case MtpConfig::Kind::parallel:
      return parallel;
    case MtpConfig::Kind::residual:
      return residual;
    case MtpConfig::Kind::linear:
      return linear;
  }
  std::abort();
}

ModelLayout one_stage(const ModelConfig&) {
  std::abort();
}

std::vector<ParameterUnit> units_of(const ModelConfig&, const MtpConfig&, const ModelLayout&, int) {
  std::abort();
}

std::int64_t count_targets(const Targets&, std::int64_t) {
  std::abort();
}

}  // namespace foretoken
