// Compares the model with PyTorch and transformers' Llama layers, in fp32.

#include "tests/support/catch.h"
#include "tests/support/models/golden_model.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("logits, losses and every gradient equal those of PyTorch with transformers' Llama layers") {
  const GoldenCase golden = GENERATE(from_range(golden_cases()));
  CAPTURE(golden.name);
  TestStream stream;
  const auto compared = run_golden(stream, golden, DType::f32);
  const auto depths = static_cast<std::size_t>(golden.mtp.depths);
  CHECK(compared.size() == depths + 1 + 1 + 3 + 9 * 2 + golden.head_tensors - (golden.tied ? 1 : 0));
  for (const GoldenComparison& each : compared) {
    INFO(each.object);
    if (each.object == "losses")
      CHECK(mismatch(each.actual, each.expected, 1e-6, 0) == "");
    else if (each.object.starts_with("logits"))
      CHECK(mismatch(each.actual, each.expected, 1e-5, 1e-5) == "");
    else
      CHECK(mismatch(each.actual, each.expected, 1e-4, 1e-6) == "");
  }
}
