#include "launch/training/numerical_guard.h"

#include <cmath>
#include <cstring>
#include <span>

#include <fmt/ranges.h>

#include "launch/session/agreement.h"
#include "parallel/optimizer/shared_weights.h"
#include "runtime/error.h"
#include "runtime/operators/parameters/reductions.h"

namespace foretoken {

namespace {

/// The update runs if all of these are finite; the decision is the same on every rank and on the device.
bool is_finite(const StepMetrics& metrics) {
  return std::isfinite(metrics.grad_norm) && std::isfinite(metrics.heads_grad_norm.value_or(0));
}

std::string rank_text(const Groups& groups) {
  return fmt::format("{} (pp{} dp{})", groups.world.rank(), groups.pp_rank, groups.dp_rank);
}

std::string in_words(const StepMetrics& metrics) {
  const std::string heads =
      metrics.heads_grad_norm ? fmt::format(", heads' {:.4g}", *metrics.heads_grad_norm) : "";
  return fmt::format("loss {:.6g}, gradient norm {:.6g}{}", metrics.loss, metrics.grad_norm, heads);
}

}  // namespace

NumericalGuard::NumericalGuard(Arena& arena, Session& session, Optimizer& optimizer, const ShardPlan& plan,
                               Console& console)
    : session_(session),
      optimizer_(optimizer),
      plan_(plan),
      console_(console),
      digest_(arena, optimizer.state(), session.model().parameters()) {}

void NumericalGuard::restore(std::int64_t skipped, std::int64_t in_a_row) {
  skipped_ = skipped;
  in_a_row_ = in_a_row;
}

void NumericalGuard::check_state() {
  digest_.compare(session_.stream());
  examined_ = digested_;
}

void NumericalGuard::before_update() {
  digest_.close();
}

void NumericalGuard::after_update(std::int64_t step) {
  const std::int64_t every = session_.config().parallel.check_state_every;
  if (every == 0 || step % every != 0) return;
  digest_.take(session_.stream());
  digested_ = step;
}

std::string NumericalGuard::memory_fault() {
  if (!digest_.compared()) return {};
  const std::string tensor = digest_.changed(session_.stream());
  if (tensor.empty()) {
    verified_ = examined_;
    return {};
  }
  return fmt::format(
      "memory: {} has changed on rank {} since the update of step {}, although the program did not write to "
      "it",
      tensor, rank_text(session_.groups()), examined_);
}

void NumericalGuard::throw_memory_fault(const std::string& own) {
  Communicator& world = session_.groups().world;
  const std::string message = first_error(world, own);
  world.all_reduce(tensor_over(std::span(&verified_, 1), {1}), ReduceOp::min);
  suspect_after_ = verified_;
  throw NumericalError("{}; the state was last verified after step {}", message, verified_);
}

void NumericalGuard::begin(std::int64_t step) {
  verified_ = step;
  compare_replicas(step);
  after_update(step);
}

void NumericalGuard::compare_replicas(std::int64_t step) try {
  if (compared_ == step) return;
  check_replicas(session_.stream(), session_.model().parameters(), session_.groups());
  compared_ = step;
} catch (const NumericalError&) {
  suspect_after_ = compared_;
  throw;
}

void NumericalGuard::score(StepMetrics& metrics) const {
  metrics.loss_z = losses_.of(metrics.loss);
  metrics.grad_norm_z = norms_.of(metrics.grad_norm);
}

bool NumericalGuard::wants_replay(const StepMetrics& metrics) const {
  const TrainConfig& train = session_.config().train;
  if (!train.replay_suspicious) return false;
  const auto unusual = [&](const std::optional<double>& z) { return z && std::abs(*z) > train.replay_z; };
  return !is_finite(metrics) || unusual(metrics.loss_z) || unusual(metrics.grad_norm_z);
}

NumericalGuard::Bits NumericalGuard::bits() {
  Bits bits{.sums = session_.read_sums(), .gradients = {}};
  for (const Bucket& bucket : plan_.buckets) {
    if (bucket.frozen) continue;
    const Range part = plan_.part(bucket);
    bits.gradients.push_back(fingerprint_of(
        session_.stream(), session_.model().parameters().gradients().flat(part.begin, part.size())));
  }
  return bits;
}

StepMetrics NumericalGuard::replay(std::int64_t step, const StepMetrics& first,
                                   const std::function<StepMetrics()>& again) {
  const Bits before = bits();
  StepMetrics second = again();
  const Bits after = bits();
  const bool sums_differ =
      std::memcmp(before.sums.data(), after.sums.data(), before.sums.size() * sizeof(double)) != 0;
  std::string own;
  if (sums_differ)
    own = "sums of losses";
  else if (before.gradients != after.gradients)
    own = "gradients";
  const std::string differing = gathered(own);
  const bool deterministic =
      session_.stream().device() == DeviceKind::cpu || session_.config().train.deterministic;
  std::string verdict;
  if (deterministic)
    verdict = differing.empty()
                  ? "the same bits: the model and the data give these numbers, not a transient hardware fault"
                  : "other bits, a transient hardware fault: " + differing;
  else
    verdict = wants_replay(second) ? "unusual again: no sign of a transient hardware fault"
                                   : "no longer unusual: a transient hardware fault is likely";
  console_.warn(fmt::format("replay     step {}: first {}; second {}: {}", step, in_words(first),
                            in_words(second), verdict));
  return second;
}

std::string NumericalGuard::not_finite_here() {
  std::vector<std::string> found;
  const std::vector<double> sums = session_.read_sums();
  for (std::size_t k = 0; k < session_.objective().weights().size(); ++k)
    if (!std::isfinite(sums[k])) found.push_back(k == 0 ? "main loss" : fmt::format("mtp{} loss", k));
  if (const std::string state = optimizer_.not_finite_state(session_.stream()); !state.empty())
    found.push_back(state);
  if (const std::string gradient = optimizer_.not_finite_gradient(session_.stream()); !gradient.empty())
    found.push_back("gradient of " + gradient);
  return fmt::format("{}", fmt::join(found, ", "));
}

std::string NumericalGuard::gathered(const std::string& own) {
  constexpr std::size_t shown = 8;
  Communicator& world = session_.groups().world;
  const std::string nothing = "-";  // a message needs at least one byte
  std::vector<std::string> filled = gather_texts(
      world, own.empty() ? nothing : fmt::format("rank {}: {}", rank_text(session_.groups()), own));
  std::erase(filled, nothing);
  const std::size_t more = filled.size() > shown ? filled.size() - shown : 0;
  filled.resize(filled.size() - more);
  return broadcast_text(world, fmt::format("{}{}", fmt::join(filled, "; "),
                                           more > 0 ? fmt::format("; {} more ranks", more) : ""));
}

void NumericalGuard::count_skipped(std::int64_t step, StepMetrics& metrics) {
  if (is_finite(metrics)) {
    in_a_row_ = 0;
    losses_.add(metrics.loss);
    norms_.add(metrics.grad_norm);
    metrics.skipped_steps = skipped_;
    return;
  }
  metrics.skipped = true;
  metrics.skipped_steps = ++skipped_;
  ++in_a_row_;
  const std::string what =
      fmt::format("step {}: {}; not finite: {}", step, in_words(metrics), gathered(not_finite_here()));
  const std::int64_t limit = session_.config().train.skip_limit;
  if (in_a_row_ > limit)
    throw NumericalError("{}; {} consecutive step{} without an update, train.skip_limit is {}", what,
                         in_a_row_, in_a_row_ == 1 ? "" : "s", limit);
  console_.warn(
      fmt::format("skipped    {}; weights are unchanged, no checkpoint is written ({} in a row, {} in all)",
                  what, in_a_row_, skipped_));
}

void NumericalGuard::require_sound_state(std::int64_t step) {
  check_state();
  const std::string changed = memory_fault();
  Communicator& world = session_.groups().world;
  if (!first_error(world, changed).empty()) throw_memory_fault(changed);
  std::string message = optimizer_.not_finite_state(session_.stream());
  if (!message.empty()) message += " is not finite on rank " + rank_text(session_.groups());
  if (message = first_error(world, message); !message.empty())
    throw NumericalError("checkpoint: step {} is not saved: {}", step, message);
  compare_replicas(step);
}

}  // namespace foretoken
