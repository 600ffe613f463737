#include "model/objective.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/heads/head_facts.h"
#include "runtime/error.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"
#include "runtime/printed_nan.h"

namespace foretoken {

namespace {

constexpr double balance_limit = 1024;

double base_weight(const MtpConfig& mtp, std::size_t depth) {
  switch (mtp.weighting) {
    case MtpConfig::Weighting::mean:
      return mtp.loss_weight / static_cast<double>(mtp.depths);
    case MtpConfig::Weighting::per_depth:
      return mtp.depth_weights.at(depth - 1);
    case MtpConfig::Weighting::inverse_distance:
      return mtp.auxiliary_factor / static_cast<double>(depth + 1);
  }
  throw DefectError("objective: unknown weighting {}", static_cast<int>(mtp.weighting));
}

double factor_at(const MtpConfig& mtp, double tokens) {
  const auto& points = mtp.schedule;
  if (points.empty()) return 1;
  const auto next =
      std::find_if(points.begin(), points.end(), [&](const auto& point) { return point.first > tokens; });
  if (next == points.begin()) return next->second;
  const auto& [from, factor] = *std::prev(next);
  if (next == points.end() || mtp.schedule_form == MtpConfig::ScheduleForm::constant) return factor;
  return factor + (next->second - factor) * (tokens - from) / (next->first - from);
}

void validate_list(const char* key, const std::vector<double>& list, const MtpConfig& mtp,
                   const char* needed_by) {
  if (std::ssize(list) != mtp.depths)
    throw UsageError("mtp: {} has {} entr{}, but {} needs one for each of depths {}", key, list.size(),
                     list.size() == 1 ? "y" : "ies", needed_by, mtp.depths);
}

void validate_schedule(const MtpConfig& mtp) {
  const bool linear = mtp.schedule_form == MtpConfig::ScheduleForm::linear;
  for (std::size_t i = 1; i < mtp.schedule.size(); ++i) {
    const double before = mtp.schedule[i - 1].first, at = mtp.schedule[i].first;
    if (at < before || (at == before && !linear))
      throw UsageError("mtp: schedule: a point at {} tokens comes after one at {}, expected {} tokens", at,
                       before, linear ? "at least as many" : "more");
  }
}

}  // namespace

void add_target_counts(const MicrobatchInput& input, std::int64_t length, std::span<std::int64_t> counts) {
  for (std::size_t k = 0; k < counts.size(); ++k)
    counts[k] += count_targets({.tokens = input.tokens,
                                .document_start = input.document_start,
                                .ahead = static_cast<std::int64_t>(k) + 1},
                               length);
}

void validate_objective(const MtpConfig& mtp) {
  if (mtp.weighting == MtpConfig::Weighting::per_depth)
    validate_list("depth_weights", mtp.depth_weights, mtp, "weighting \"per_depth\"");
  validate_schedule(mtp);
  if (mtp.balance == MtpConfig::Balance::none) return;
  const bool dynamic = mtp.balance == MtpConfig::Balance::dynamic;
  if (mtp.depths == 0)
    throw UsageError("mtp: balance \"{}\" has nothing to balance: depths is 0",
                     dynamic ? "dynamic" : "sampling");
  if (dynamic) {
    if (mtp.diagnose_every == 0)
      throw UsageError(
          "mtp: balance \"dynamic\" needs diagnose_every: it uses the gradient norms of diagnosed steps");
    if (mtp.detach_heads)
      throw UsageError(
          "mtp: balance \"dynamic\" needs gradients at the trunk, which detached heads do not give");
    if (!mtp.schedule.empty())
      throw UsageError(
          "mtp: balance \"dynamic\" does not work with schedule: it would undo scheduled weights");
    return;
  }
  const std::vector<double>& probabilities = mtp.sample_probabilities;
  validate_list("sample_probabilities", probabilities, mtp, "balance \"sampling\"");
  for (std::size_t k = 1; k < probabilities.size(); ++k)
    if (head_facts(mtp.kind).reads_previous_depth && probabilities[k] > probabilities[k - 1])
      throw UsageError(
          "mtp: sample_probabilities: {} at depth {} is more than {} at depth {}, whose module comes before "
          "it in the chain",
          probabilities[k], k + 1, probabilities[k - 1], k);
}

Objective::Objective(const MtpConfig& mtp)
    : mtp_(mtp),
      balance_(static_cast<std::size_t>(mtp.depths), 1.0),
      weights_(static_cast<std::size_t>(mtp.depths) + 1) {
  set_tokens_seen(0);
}

void Objective::set_tokens_seen(std::int64_t tokens) {
  factor_ = factor_at(mtp_, static_cast<double>(tokens));
  update_weights();
}

void Objective::update_weights() {
  weights_[0] = mtp_.main_weight;
  for (std::size_t k = 1; k < weights_.size(); ++k)
    weights_[k] = base_weight(mtp_, k) * factor_ * balance_[k - 1];
}

void Objective::restore_balance(std::span<const double> balance) {
  if (balance.size() != balance_.size())
    throw DefectError("objective: {} balance factors, expected one for each of {} depths", balance.size(),
                      balance_.size());
  balance_.assign(balance.begin(), balance.end());
  update_weights();
}

void Objective::rebalance(std::span<const double> norms) {
  for (std::size_t k = 1; k < norms.size(); ++k) {
    const double step = std::sqrt(mtp_.balance_ratio * norms[0] / norms[k]);
    if (!std::isfinite(step) || step == 0) continue;
    balance_[k - 1] =
        std::clamp(balance_[k - 1] * std::clamp(step, 0.5, 2.0), 1 / balance_limit, balance_limit);
  }
  update_weights();
}

std::vector<double> Objective::gradient_scales(std::span<const std::int64_t> counts) const {
  std::vector<double> scales(weights_.size());
  for (std::size_t k = 0; k < scales.size(); ++k)
    scales[k] = counts[k] > 0 ? weights_[k] / static_cast<double>(counts[k]) : 0;
  return scales;
}

Objective::Losses Objective::losses(std::span<const double> sums,
                                    std::span<const std::int64_t> counts) const {
  Losses losses;
  for (std::size_t k = 0; k < weights_.size(); ++k) {
    const bool any = counts[k] > 0;
    losses.depths.push_back(any ? printed_nan(sums[k] / static_cast<double>(counts[k]))
                                : std::numeric_limits<double>::quiet_NaN());
    if (any) losses.total += weights_[k] * losses.depths.back();
  }
  losses.total = printed_nan(losses.total);
  return losses;
}

}  // namespace foretoken
