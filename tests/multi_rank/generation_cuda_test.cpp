// Compares the text that a pipeline of GPUs, or of ranks that share a GPU, generates with the text of one
// GPU, token for token.

#include "tests/multi_rank/gpu.h"
#include "tests/multi_rank/spread_generation.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("a pipeline of GPUs generates the text of one GPU", "[gpu][ranks2][ranks4]") {
  Device::Options options = multi_rank::own_gpu();
  options.deterministic = true;  // both runs then choose the same algorithms for matrix products
  Device device(options);
  const auto check = [&](const std::string& name, Spread spread) {
    INFO(name << ", " << name_of(spread.dtype));
    spread.stages = multi_rank::world().size();
    check_spread(multi_rank::world(), device.stream(), spread);
  };
  for (const DType dtype : {DType::f32, DType::bf16}) {
    check("plain", {.mtp = {}, .tied = true, .dtype = dtype});
    for (const NamedHeads& heads : every_kind_of_heads(2))
      check(heads.name, {.mtp = heads.mtp,
                         .dtype = dtype,
                         .sampling = {.temperature = dtype == DType::f32 ? 0.0 : 1.0},
                         .drafts = dtype == DType::f32 ? TreeShape{2, 2} : TreeShape{1, 1, 1}});
  }
}
