// The output head's loss and the number of drafts that the main model accepts.

#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/vocabulary/acceptance.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"
#include "tests/runtime/bench.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("the cross-entropy head's gradients match finite differences whatever the chunk") {
  const std::int64_t chunk = GENERATE(1, 3, 10);
  Bench bench;
  const Tensor tokens = bench.integers({2, 7}, {1, 3, 3, 0, 2, 1, 4, 3, 3, 0, 2, 1, 3, 0});
  // In row 0 a second document starts at position 3. Row 1 is ignored from its third position on
  // (document_start −1).
  const Tensor starts = bench.integers({2, 7}, {0, 0, 0, 3, 3, 3, 3, 0, 0, -1, -1, -1, -1, -1});
  const Targets targets{.tokens = tokens, .document_start = starts, .ahead = 2};
  const Tensor x = bench.normal("x", {2, 5, 3}), w = bench.normal("w", {5, 3}),
               logits = bench.poisoned({chunk, 5});
  const bool accumulate = GENERATE(false, true);
  const Tensor dx = bench.poisoned({2, 5, 3}), dw = accumulate ? bench.zeros({5, 3}) : bench.poisoned({5, 3});
  const Tensor sum = bench.zeros({1}), argmax = bench.integers({2, 5}, {});
  const auto loss = [&] {
    set_zero(bench.stream, sum);
    cross_entropy_head(bench.stream,
                       {.x = x, .weight = w, .targets = targets, .logits = logits, .loss_sum = sum});
    return 0.25 * *sum.as<double>();
  };
  // In row 0 the pairs 0→2, 3→5 and 4→6 stay within their documents; in row 1 no pair does.
  CHECK(count_targets(targets, 5) == 3);
  cross_entropy_head(bench.stream, {.x = x,
                                    .weight = w,
                                    .targets = targets,
                                    .gradient_scale = 0.25,
                                    .logits = logits,
                                    .loss_sum = sum,
                                    .argmax = argmax,
                                    .dx = dx,
                                    .dweight = dw,
                                    .accumulate = accumulate});
  CHECK(0.25 * *sum.as<double>() == Approx(loss()).epsilon(1e-12));
  for (std::int64_t n = 0; n < 10; ++n) {
    const auto logit = [&](std::int64_t v) {
      double product = 0;
      for (std::int64_t i = 0; i < 3; ++i) product += x.as<double>()[n * 3 + i] * w.as<double>()[v * 3 + i];
      return product;
    };
    for (std::int64_t v = 0; v < 5; ++v) CHECK(logit(argmax.as<std::int32_t>()[n]) >= logit(v) - 1e-12);
  }
  CHECK(gradient_mismatch(loss, x, dx) == "");
  CHECK(gradient_mismatch(loss, w, dw) == "");

  // Each gradient computed alone has the same bits.
  const Tensor dx_alone = bench.poisoned({2, 5, 3}), dw_alone = bench.zeros({5, 3});
  CrossEntropyHead alone{.x = x,
                         .weight = w,
                         .targets = targets,
                         .gradient_scale = 0.25,
                         .logits = logits,
                         .loss_sum = sum,
                         .dx = dx_alone};
  cross_entropy_head(bench.stream, alone);
  alone.dx = {};
  alone.dweight = dw_alone;
  cross_entropy_head(bench.stream, alone);
  CHECK(mismatch(dx_alone, dx, 0, 0) == "");
  CHECK(mismatch(dw_alone, dw, 0, 0) == "");

  // The most likely tokens computed alone have the same bits, too.
  const Tensor argmax_alone = bench.integers({2, 5}, {});
  cross_entropy_head(bench.stream,
                     {.x = x, .weight = w, .targets = targets, .logits = logits, .argmax = argmax_alone});
  for (std::int64_t n = 0; n < 10; ++n)
    CHECK(argmax_alone.as<std::int32_t>()[n] == argmax.as<std::int32_t>()[n]);
}

TEST_CASE("drafts are accepted as a prefix, inside the row and the document") {
  Bench bench;
  // Two rows of 5, depths 1 and 2. The second row's document ends after its third token.
  const Tensor main = bench.integers({2, 5}, {1, 2, 3, 4, 5, 1, 2, 3, 4, 5});
  const Tensor first = bench.integers({2, 5}, {2, 3, 9, 5, 9, 2, 3, 4, 5, 9}),
               second = bench.integers({2, 5}, {3, 9, 5, 9, 9, 3, 4, 5, 9, 9});
  const Tensor start = bench.integers({2, 8}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3});
  const Tensor agrees = bench.integers({2, 5}, {7, 7, 7, 7, 7, 0, 0, 0, 0, 0});
  const Tensor drafts = bench.zeros({3}), accepted = bench.zeros({3});
  const auto count = [&](std::int64_t depth, const Tensor& draft) {
    count_acceptances(bench.stream, {.main = main,
                                     .draft = draft,
                                     .document_start = start,
                                     .depth = depth,
                                     .agrees = agrees,
                                     .drafts = drafts.flat(depth - 1, 1),
                                     .accepted = accepted.flat(depth - 1, 1)});
  };
  count(1, first);
  count(2, second);
  // Row 1: i = 0..3 at depth 1 and 0..2 at depth 2. Row 2: i = 0 has t₂ in its document, i = 3 has t₅; i = 3
  // at depth 2 is past the end of the row.
  CHECK(drafts.as<double>()[0] == 4 + 2);
  CHECK(accepted.as<double>()[0] == 3 + 2);
  CHECK(drafts.as<double>()[1] == 3 + 0);
  CHECK(accepted.as<double>()[1] == 1);  // at i = 2 depth 2 is correct, but depth 1 is not
  CHECK_THROWS_WITH(count(3, first), contains("count_acceptances") && contains("at depth 3"));
}
