// What the parsers' sources ask of the rest of the program, without the layers behind it. Parsing calls
// head_kind() alone.
#include <cstdlib>

#include "model/heads/head_kinds.h"
#include "model/layout.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"

namespace foretoken {

const HeadKind& head_kind(MtpConfig::Kind kind) {
  static const auto of = [](bool has_block, bool reads_last_input, bool in_turn) {
    HeadKind row{};
    row.cost = [](const ModelConfig&, const MtpConfig&, double block) { return block; };
    row.has_block = has_block;
    row.reads_last_input = reads_last_input;
    row.in_turn = in_turn;
    return row;
  };
  static const HeadKind sequential = of(true, false, false), parallel = of(true, true, true),
                        others = of(false, false, true);
  return kind == MtpConfig::Kind::sequential ? sequential
         : kind == MtpConfig::Kind::parallel ? parallel
                                             : others;
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
