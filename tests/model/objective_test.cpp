// Tests the objective: weights of every form against values computed by hand, dynamic balance, and sampled
// depths.
#include "model/objective.h"

#include <array>
#include <cmath>

#include "model/depth_sampler.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

using Weighting = MtpConfig::Weighting;
using Balance = MtpConfig::Balance;

std::vector<double> weights_at(const MtpConfig& mtp, std::int64_t tokens) {
  Objective objective(mtp);
  objective.set_tokens_seen(tokens);
  return {objective.weights().begin(), objective.weights().end()};
}

std::string refusal(const MtpConfig& mtp) {
  try {
    validate_objective(mtp);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the weights of every form equal those computed by hand") {
  MtpConfig mtp{.depths = 3, .loss_weight = 0.6};
  CHECK(weights_at(mtp, 0) == std::vector<double>{1, 0.6 / 3, 0.6 / 3, 0.6 / 3});
  mtp.weighting = Weighting::per_depth;
  mtp.depth_weights = {0.5, 0.25, 0};
  CHECK(weights_at(mtp, 0) == std::vector<double>{1, 0.5, 0.25, 0});
  mtp.weighting = Weighting::inverse_distance;
  mtp.auxiliary_factor = 0.12;
  CHECK(weights_at(mtp, 0) == std::vector<double>{1, 0.12 / 2, 0.12 / 3, 0.12 / 4});
  CHECK(weights_at({.depths = 0}, 0) == std::vector<double>{1});
}

TEST_CASE("the auxiliary form that counts the next token twice is the objective with its main weight") {
  // L = CE₀ + a · (1/n) · Σᵢ CEᵢ / (i + 1), compared term by term. The sum is over all n heads, including the
  // main head i = 0.
  const double a = 0.3;
  const std::vector<double> sums{31.5, 44.25, 40.5, 51.75};
  const std::vector<std::int64_t> counts{21, 20, 18, 17};
  for (const std::size_t n : {1, 2, 4}) {
    double expected = sums[0] / 21;
    for (std::size_t i = 0; i < n; ++i)
      expected += a / double(n) * (sums[i] / double(counts[i])) / double(i + 1);
    const MtpConfig mtp{.depths = std::int64_t(n) - 1,
                        .main_weight = 1 + a / double(n),
                        .weighting = Weighting::inverse_distance,
                        .auxiliary_factor = a / double(n)};
    const Objective objective(mtp);
    const auto first = [&](const auto& all) { return std::span(all).first(n); };
    CHECK(objective.losses(first(sums), first(counts)).total == Approx(expected).epsilon(1e-14));
    // A scale is the factor of the gradient of a depth's summed loss: weightₖ / counts[k].
    const std::vector<double> scales = objective.gradient_scales(first(counts));
    CHECK(scales[0] == Approx((1 + a / double(n)) / 21).epsilon(1e-14));
    if (n > 2) CHECK(scales[2] == Approx(a / double(n) / 3 / 18).epsilon(1e-14));
  }
}

TEST_CASE("a schedule multiplies every weight by the factor of the tokens seen") {
  // DeepSeek-V3: 0.3, then 0.1 from two thirds on.
  MtpConfig mtp{.depths = 1, .loss_weight = 1};
  mtp.schedule = {{0, 0.3}, {1e13, 0.1}};
  CHECK(weights_at(mtp, 0)[1] == 0.3);
  CHECK(weights_at(mtp, 9999999999999)[1] == 0.3);
  CHECK(weights_at(mtp, 10000000000000)[1] == 0.1);
  CHECK(weights_at(mtp, 14800000000000)[1] == 0.1);
  CHECK(weights_at(mtp, 14800000000000)[0] == 1);

  mtp.schedule = {{100, 0.2}, {300, 0.6}, {300, 0.5}, {400, 0}};
  mtp.schedule_form = MtpConfig::ScheduleForm::linear;
  CHECK(weights_at(mtp, 0)[1] == 0.2);
  CHECK(weights_at(mtp, 150)[1] == Approx(0.3));
  CHECK(weights_at(mtp, 299)[1] == Approx(0.598));
  CHECK(weights_at(mtp, 300)[1] == 0.5);
  CHECK(weights_at(mtp, 350)[1] == Approx(0.25));
  CHECK(weights_at(mtp, 1000)[1] == 0);
}

TEST_CASE("every loss is a mean over its own targets, and the total is the weighted sum of the means") {
  MtpConfig mtp{.depths = 2, .weighting = Weighting::per_depth, .depth_weights = {0.5, 0.25}};
  const Objective objective(mtp);
  const std::vector<std::int64_t> counts{10, 8, 0};
  CHECK(objective.gradient_scales(counts) == std::vector<double>{1.0 / 10, 0.5 / 8, 0});
  const std::array sums{20.0, 24.0, 0.0};
  const Objective::Losses losses = objective.losses(sums, counts);
  CHECK(losses.total == 2 + 0.5 * 3);
  CHECK(std::isnan(losses.depths[2]));
}

TEST_CASE("a loss that is not a number prints as nan, whatever sign the hardware gave it") {
  const Objective objective({.depths = 1});
  const std::array sums{20.0, -std::numeric_limits<double>::quiet_NaN()};
  const Objective::Losses losses = objective.losses(sums, std::vector<std::int64_t>{10, 8});
  CHECK(fmt::format("{} {}", losses.depths[1], losses.total) == "nan nan");
}

TEST_CASE("dynamic balance brings gradients that differ tenfold to the ratio within its bounds") {
  MtpConfig mtp{.depths = 3, .balance = Balance::dynamic, .balance_ratio = 0.25, .diagnose_every = 1};
  Objective objective(mtp);
  const std::array gradients{2.0, 0.05, 0.5, 5.0};  // at the trunk, of unweighted losses
  const auto norms = [&] {
    std::vector<double> result;
    for (std::size_t k = 0; k < gradients.size(); ++k)
      result.push_back(objective.weights()[k] * gradients[k]);
    return result;
  };
  std::vector<double> before = norms();
  for (int step = 0; step < 20; ++step) {
    objective.rebalance(before);
    const std::vector<double> after = norms();
    CHECK(after[0] == before[0]);
    for (std::size_t k = 1; k < after.size(); ++k) {
      const double moved = after[k] / before[k], left = std::abs(std::log(0.25 * after[0] / after[k]));
      CHECK(moved >= 0.5);
      CHECK(moved <= 2);
      CHECK(left <= std::abs(std::log(0.25 * before[0] / before[k])));  // no step moves away from the ratio
    }
    before = after;
  }
  for (std::size_t k = 1; k < before.size(); ++k) CHECK(before[k] / before[0] == Approx(0.25).epsilon(1e-3));

  Objective restored(mtp);
  restored.restore_balance(objective.balance());
  CHECK(std::equal(restored.weights().begin(), restored.weights().end(), objective.weights().begin()));
  const std::vector<double> one{1.0};
  CHECK_THROWS_WITH(restored.restore_balance(one),
                    contains("1 balance factors, expected one for each of 3 depths"));
}

TEST_CASE("a depth without a gradient keeps its weight and no weight leaves the bounds") {
  MtpConfig mtp{.depths = 3, .balance = Balance::dynamic, .diagnose_every = 1};
  Objective objective(mtp);
  const std::array norms{1.0, 0.0, std::nan(""), 1e-30};
  for (int step = 0; step < 100; ++step) objective.rebalance(norms);
  CHECK(objective.balance()[0] == 1);
  CHECK(objective.balance()[1] == 1);
  CHECK(objective.balance()[2] == 1024);
}

TEST_CASE("invalid settings of the objective are refused with their values") {
  MtpConfig mtp{.depths = 2, .weighting = Weighting::per_depth, .depth_weights = {0.3}};
  CHECK(refusal(mtp) ==
        "mtp: depth_weights has 1 entry, but weighting \"per_depth\" needs one for each of depths 2");
  mtp.depth_weights = {0.3, 0.1};
  CHECK(refusal(mtp) == "");
  mtp.schedule = {{10, 1}, {5, 1}};
  CHECK(refusal(mtp) == "mtp: schedule: a point at 5 tokens comes after one at 10, expected more tokens");
  mtp.schedule = {{10, 1}, {10, 0.5}};
  CHECK(refusal(mtp) == "mtp: schedule: a point at 10 tokens comes after one at 10, expected more tokens");
  mtp.schedule_form = MtpConfig::ScheduleForm::linear;
  CHECK(refusal(mtp) == "");
  mtp.balance = Balance::dynamic;
  CHECK(refusal(mtp) ==
        "mtp: balance \"dynamic\" needs diagnose_every: it uses the gradient norms of diagnosed steps");
  mtp.diagnose_every = 10;
  CHECK(refusal(mtp) ==
        "mtp: balance \"dynamic\" does not work with schedule: it would undo scheduled weights");
  mtp.schedule = {};
  CHECK(refusal(mtp) == "");
  mtp.detach_heads = true;
  CHECK(refusal(mtp) ==
        "mtp: balance \"dynamic\" needs gradients at the trunk, which detached heads do not give");
  mtp.balance = Balance::sampling;
  CHECK(refusal(mtp) ==
        "mtp: sample_probabilities has 0 entries, but balance \"sampling\" needs one for each of depths 2");
  mtp.sample_probabilities = {0.5, 0.75};
  CHECK(
      refusal(mtp) ==
      "mtp: sample_probabilities: 0.75 at depth 2 is more than 0.5 at depth 1, whose module comes before it "
      "in the chain");
  mtp.kind = MtpConfig::Kind::linear;
  CHECK(refusal(mtp) == "");
  CHECK(refusal({.depths = 0, .balance = Balance::sampling}) ==
        "mtp: balance \"sampling\" has nothing to balance: depths is 0");
}

TEST_CASE("depths are drawn with their probabilities, and modules in a chain as a prefix") {
  const auto kind = GENERATE(MtpConfig::Kind::sequential, MtpConfig::Kind::residual);
  MtpConfig mtp{
      .kind = kind, .depths = 3, .balance = Balance::sampling, .sample_probabilities = {1, 0.6, 0.3}};
  const DepthSampler sampler(mtp, 7), again(mtp, 7), other(mtp, 8);
  constexpr int draws = 20000;
  std::array<int, 4> drawn{};
  int alone = 0, different = 0;
  for (int i = 0; i < draws; ++i) {
    const DepthSet depths = sampler.draw(i);
    CHECK(depths == again.draw(i));
    different += depths != other.draw(i);
    for (int k = 0; k <= 3; ++k) drawn[static_cast<std::size_t>(k)] += depths.has(k);
    alone += depths.has(3) && !depths.has(2);
  }
  CHECK(drawn[0] == draws);
  CHECK(drawn[1] == draws);
  for (const auto& [k, p] : {std::pair{2, 0.6}, std::pair{3, 0.3}})  // five standard deviations
    CHECK(std::abs(drawn[static_cast<std::size_t>(k)] - p * draws) < 5 * std::sqrt(p * (1 - p) * draws));
  CHECK(different > draws / 4);
  const double p_alone = kind == MtpConfig::Kind::sequential ? 0 : 0.3 * 0.4;
  CHECK(std::abs(alone - p_alone * draws) <= 5 * std::sqrt(p_alone * (1 - p_alone) * draws));
  std::array scales{1.0, 2.0, 3.0, 6.0};
  sampler.weigh(scales);
  CHECK(scales == std::array{1.0, 2.0, 3.0 / 0.6, 6.0 / 0.3});
}
