#include "model/layer_costs.h"

#include "model/cost.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

const ModelConfig model{.hidden_size = 8,
                        .num_hidden_layers = 3,
                        .num_attention_heads = 2,
                        .num_key_value_heads = 2,
                        .head_dim = 4,
                        .intermediate_size = 24,
                        .vocab_size = 100};

StageDurations sum_of(const LayerCosts& costs) {
  StageDurations sum = costs.first + costs.last;
  for (const StageDurations& half : costs.halves) sum += half;
  for (const StageDurations& stage : costs.after) sum += stage;
  return sum;
}

}  // namespace

TEST_CASE("a step costs three times its forward products for every placement and kind of heads") {
  const ModelCost time = time_of(model, 16);
  for (const MtpConfig::Kind kind : {MtpConfig::Kind::sequential, MtpConfig::Kind::parallel,
                                     MtpConfig::Kind::residual, MtpConfig::Kind::linear})
    for (const MtpConfig::Placement placement :
         {MtpConfig::Placement::last, MtpConfig::Placement::stage_per_depth}) {
      const MtpConfig mtp{.kind = kind, .depths = 2, .placement = placement};
      const double forward = 3 * time.block() + predictor_cost(model, mtp, time);
      INFO("kind " << static_cast<int>(kind) << " placement " << static_cast<int>(placement));
      CHECK(sum_of(layer_costs(model, mtp, {.sequence_length = 16})).total() == Approx(3 * forward));
      const StageDurations evaluated =
          sum_of(layer_costs(model, mtp, {.sequence_length = 16, .trains = false}));
      CHECK(evaluated.forward == Approx(forward));
      CHECK(evaluated.backward() == 0);
    }
}

TEST_CASE("output matrices and heads in turn count as backward") {
  const double block = time_of(model, 16).block();
  const auto last = [&](MtpConfig::Kind kind) {
    return layer_costs(model, {.kind = kind, .depths = 2}, {.sequence_length = 16}).last;
  };
  // A module is a block and a product of 2C × C.
  CHECK(last(MtpConfig::Kind::sequential).forward == Approx(2 * (block + 4 * 8 * 8)));
  CHECK(last(MtpConfig::Kind::sequential).backward_weight == Approx(2 * (block + 4 * 8 * 8)));
  CHECK(last(MtpConfig::Kind::parallel).forward == 0);
  CHECK(last(MtpConfig::Kind::parallel).backward_weight == 0);
}

TEST_CASE("recomputation adds to backward, a frozen trunk has no backward, a detached head saves a product") {
  const ModelCost time = time_of(model, 16);
  const auto step = [&](const MtpConfig& mtp, const StepWork& work) {
    return sum_of(layer_costs(model, mtp, work));
  };
  const MtpConfig one{.depths = 1}, detached{.depths = 1, .detach_heads = true},
      parallel{.kind = MtpConfig::Kind::parallel, .depths = 1};
  const StageDurations plain = step(one, {.sequence_length = 16});
  const StageDurations full = step(parallel, {.sequence_length = 16, .recompute = Recompute::full});
  CHECK(full.total() - step(parallel, {.sequence_length = 16}).total() == Approx(4 * time.block()));
  CHECK(full.forward == Approx(3 * time.block()));
  CHECK(plain.total() - step(detached, {.sequence_length = 16}).total() == Approx(time.head));
  // A depth with a network and its own output matrix needs the product that other detached heads skip.
  MtpConfig own{.kind = MtpConfig::Kind::residual, .depths = 1, .own_output = true};
  const StageDurations attached = step(own, {.sequence_length = 16});
  own.detach_heads = true;
  CHECK(attached.total() == Approx(step(own, {.sequence_length = 16}).total()));
  const StageDurations frozen = step(detached, {.sequence_length = 16, .frozen_trunk = true});
  CHECK(frozen.forward == Approx(plain.forward));
  // The main head's loss, the module, and the logits of depth 1 with their gradient.
  CHECK(frozen.backward() == Approx(time.head + 2 * (time.block() + 4 * 8 * 8) + 2 * time.head));
}
