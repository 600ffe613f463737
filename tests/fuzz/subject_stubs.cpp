// Definitions that the parsers' sources need from model/, so that the layers need not be linked. No fuzzer
// calls them.
#include <cstdlib>

#include "model/layout.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"

namespace foretoken {

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
