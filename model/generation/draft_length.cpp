#include "model/generation/draft_length.h"

#include <algorithm>
#include <chrono>

#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr double memory = 0.985;      // decay of an acceptance count per new draft
constexpr double old_drafts = 3;      // drafts that an acceptance measured before a probe may count for
constexpr double newness = 0.25;      // weight of a new time in the average
constexpr double good_newness = 0.5;  // the same for a shorter time: slow rounds have other causes
constexpr int first_times = 3;   // times of which the shortest counts, while kernels are still being prepared
constexpr int enough_times = 2;  // times after which a cost is known
constexpr double outlier = 1.5;  // times the known cost: a round's excess over it is not the depth's
constexpr int probe_rounds = 3;  // one to adapt, two to measure the time
constexpr int promising_rounds = 8;   // rounds of a probe whose drafts are accepted: enough to decide
constexpr double probe_share = 0.02;  // share of all time that probes may lose
constexpr int shortest_interval = 32, longest_interval = 1024;  // rounds between probes
constexpr int quiet_interval = 192;  // interval if probes change nothing, even if they lose little

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

DraftLength::DraftLength(int longest, int trained) : DraftLength(longest, trained, seconds_now) {}

DraftLength::DraftLength(int longest, int trained, Clock clock)
    : longest_(longest),
      trained_(std::min(trained, longest)),
      clock_(std::move(clock)),
      costs_(static_cast<std::size_t>(longest) + 1),
      acceptance_(static_cast<std::size_t>(longest) + 1),
      interval_(shortest_interval) {}

int DraftLength::begin_round(std::size_t texts) {
  rescale_ = rescale_ || (texts_ != 0 && texts != texts_);
  texts_ = texts;
  const int depth = choose();
  repeated_ = depth == depth_ ? repeated_ + 1 : 0;
  depth_ = depth;
  timed_ = depth == 0;
  begin_ = clock_();
  return depth;
}

void DraftLength::learn(std::size_t depth, std::size_t accepted) {
  timed_ = static_cast<int>(depth) == depth_;
  promising_ = promising_ || static_cast<int>(accepted) > usual_;
  for (std::size_t j = 1; j <= std::min(depth, accepted + 1); ++j) {
    Acceptance& at = acceptance_[j];
    at.seen = memory * at.seen + 1;
    at.accepted = memory * at.accepted + (accepted >= j ? 1 : 0);
  }
}

/// The first round of a depth is not a measurement: the drafter catches up with tokens it has not seen, or
/// kernels are prepared.
void DraftLength::end_round() {
  if (depth_ < 0) throw DefectError("draft length: a round ended that had not begun");
  ++rounds_;
  const double seconds = clock_() - begin_;
  Cost& cost = costs_[static_cast<std::size_t>(depth_)];
  if (cost.first < 0)
    cost.first = seconds;
  else if (timed_ && repeated_ > 0)
    take_time(seconds);
}

void DraftLength::take_time(double seconds) {
  Cost& cost = costs_[static_cast<std::size_t>(depth_)];
  if (cost.times < first_times) {
    cost.seconds = cost.times == 0 ? seconds : std::min(cost.seconds, seconds);
    if (++cost.times == enough_times) preparation_ = std::max(cost.first - cost.seconds, 0.0);
  } else if (rescale_) {
    const double ratio = seconds / cost.seconds;
    for (Cost& each : costs_) each.seconds *= ratio;
  } else {
    const double taken = std::min(seconds, outlier * cost.seconds);
    cost.seconds += (taken < cost.seconds ? good_newness : newness) * (taken - cost.seconds);
  }
  rescale_ = false;
}

bool DraftLength::known(int depth) const {
  return costs_[static_cast<std::size_t>(depth)].times >= enough_times;
}

bool DraftLength::begun(int depth) const {
  return costs_[static_cast<std::size_t>(depth)].first >= 0;
}

double DraftLength::rate(int depth) const {
  return tokens(depth) / seconds(depth);
}

/// The measured time; if there is none, interpolated between the nearest measured depths, or extrapolated
/// from the two nearest shallower ones.
double DraftLength::seconds(int depth) const {
  const auto cost = [&](int at) { return costs_[static_cast<std::size_t>(at)].seconds; };
  if (known(depth)) return cost(depth);
  int below = depth, above = depth;
  while (!known(below)) --below;
  while (above <= longest_ && !known(above)) ++above;
  if (above > longest_) {
    above = below;
    do --below;
    while (below > 0 && !known(below));
    if (below < 0) return cost(above);
  }
  return cost(below) + (cost(above) - cost(below)) * (depth - below) / (above - below);
}

/// The acceptance of a depth with few observations is close to that of the previous depth.
double DraftLength::tokens(int depth) const {
  double tokens = 1, all = 1, share = 0.5;
  for (int j = 1; j <= depth; ++j) {
    const auto [accepted, seen] = acceptance_[static_cast<std::size_t>(j)];
    share = (accepted + share) / (seen + 1);
    all *= share;
    tokens += all;
  }
  return tokens;
}

/// At most one depth deeper than the deepest measured one: estimates beyond that are unreliable.
int DraftLength::best() const {
  int deepest = longest_;
  while (!known(deepest)) --deepest;
  int best = 0, best_begun = 0;
  for (int depth = 1; depth <= std::min(deepest + 1, longest_); ++depth) {
    if (rate(depth) > rate(best)) best = depth;
    if (begun(depth) && rate(depth) > rate(best_begun)) best_begun = depth;
  }
  const double lost = (rate(best) / rate(best_begun) - 1) * rounds_ * seconds(best_begun);
  return lost > preparation_ ? best : best_begun;
}

/// Measures the trained depth and depth 0 first, then takes the best. Runs at least two rounds at a depth, so
/// that its time is measured.
int DraftLength::choose() {
  if (longest_ == 0) return 0;
  if (!known(trained_)) return trained_;
  if (!known(0)) return 0;
  if (probing_ && repeated_ + 1 < (promising_ ? promising_rounds : probe_rounds)) return depth_;
  probing_ = false;
  ++since_probe_;
  if (repeated_ == 0 || (repeated_ < 3 && !known(depth_))) return depth_;
  const int usual = best(), probe = next_probe(usual);
  if (since_probe_ < rounds_before_probe(usual, probe)) return usual;
  begin_probe(usual, probe);
  return probe;
}

/// Reduces the weight of old observations, because the text may have changed: a few new drafts then outweigh
/// them.
void DraftLength::begin_probe(int usual, int depth) {
  interval_ = usual == usual_ ? std::min(2 * interval_, quiet_interval) : shortest_interval;
  usual_ = usual;
  ++probed_;
  since_probe_ = 0;
  probing_ = true;
  promising_ = false;
  for (int j = usual + 1; j <= depth; ++j) {
    Acceptance& at = acceptance_[static_cast<std::size_t>(j)];
    const double kept = std::min(1.0, old_drafts / std::max(at.seen, 1.0));
    at.accepted *= kept;
    at.seen *= kept;
  }
}

/// Probes in turn one deeper, depth 0, and twice the usual depth plus two, because costs may fall again after
/// a rise.
int DraftLength::next_probe(int usual) {
  for (;; ++probed_) {
    const int turn = probed_ % 3;
    const int probe = turn == 1 ? 0 : std::min(turn == 0 ? usual + 1 : 2 * usual + 2, longest_);
    if (probe != usual) return probe;
  }
}

/// Number of rounds before the probe, so that it loses a small share of their time even if no deeper draft is
/// accepted.
int DraftLength::rounds_before_probe(int usual, int depth) const {
  const double loss = seconds(depth) / seconds(usual) - tokens(std::min(depth, usual)) / tokens(usual);
  const double lost = probe_rounds * loss + (begun(depth) ? 0 : preparation_ / seconds(usual));
  return static_cast<int>(std::clamp<double>(lost / probe_share, interval_, longest_interval));
}

}  // namespace foretoken
