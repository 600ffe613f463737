// Tests how a trunk is assigned to the ranks of a generation pipeline.

#include "model/decoder/trunk_pipeline.h"

#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/models/tiny_model.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("half layers are assigned to a pipeline by parameters, and too few are an error") {
  // Parameter counts: attention 392, MLP 296, embedding 88, head 88. The last stage also holds the norm and
  // the head (96), and two modules with an embedding (1864) or four parallel heads (2848).
  ModelConfig model = tiny_model();
  model.num_hidden_layers = 8;
  const auto halves = [&](const MtpConfig& mtp, int stages) {
    return decoding_layout(model, mtp, stages).halves_per_stage;
  };
  CHECK(halves({}, 2) == std::vector<int>{8, 8});
  CHECK(halves({.depths = 2}, 2) == std::vector<int>{11, 5});
  CHECK(halves({.depths = 2}, 4) == std::vector<int>{4, 6, 6, 0});
  CHECK(halves({.kind = MtpConfig::Kind::parallel, .depths = 4}, 3) == std::vector<int>{6, 8, 2});
  expect_error<UsageError>("pp 18 × v 1 = 18 stages need at least 8.5 layers, the model has 8",
                           [&] { halves({}, 18); });
}
