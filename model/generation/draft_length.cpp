#include "model/generation/draft_length.h"

#include <algorithm>
#include <chrono>

namespace foretoken {

namespace {

constexpr double memory = 0.985;      // weight of what was known of an acceptance beside one more draft
constexpr double old_memory = 0.25;   // of what was known before a probe
constexpr double newness = 0.25;      // weight of one more time
constexpr double good_newness = 0.5;  // of a shorter one than was known: delays are not the depth's
constexpr int first_times = 3;        // of which the shortest counts: kernels are still prepared
constexpr double outlier = 1.5;       // times the known cost: what a round takes beyond is not the depth's
constexpr int shortest_interval = 32, longest_interval = 512;  // rounds between probes
constexpr int probe_rounds = 8;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

DraftLength::DraftLength(int longest) : DraftLength(longest, seconds_now) {}

DraftLength::DraftLength(int longest, Clock clock)
    : longest_(longest),
      clock_(std::move(clock)),
      costs_(static_cast<std::size_t>(longest) + 1),
      acceptance_(static_cast<std::size_t>(longest) + 1),
      interval_(shortest_interval),
      until_probe_(shortest_interval) {}

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
  for (std::size_t j = 1; j <= std::min(depth, accepted + 1); ++j) {
    Acceptance& at = acceptance_[j];
    at.seen = memory * at.seen + 1;
    at.accepted = memory * at.accepted + (accepted >= j ? 1 : 0);
  }
}

/// The first round of a depth also catches up with what the drafter has not seen, or prepares kernels.
void DraftLength::end_round() {
  if (timed_ && repeated_ > 0) take_time(clock_() - begin_);
}

void DraftLength::take_time(double seconds) {
  Cost& cost = costs_[static_cast<std::size_t>(depth_)];
  if (cost.times < first_times) {
    cost.seconds = cost.times == 0 ? seconds : std::min(cost.seconds, seconds);
    ++cost.times;
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
  return costs_[static_cast<std::size_t>(depth)].times >= 2;
}

/// Measured, or on the line through the two nearest measured depths below, or between its neighbours.
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

/// At most one deeper than what was measured: estimates of more are hopes.
int DraftLength::best() const {
  int deepest = longest_;
  while (!known(deepest)) --deepest;
  int best = 0;
  double most = 1 / seconds(0), tokens = 1, all = 1, share = 1;
  for (int depth = 1; depth <= std::min(deepest + 1, longest_); ++depth) {
    // An acceptance that was hardly seen is taken for that of the depth before.
    const auto [accepted, seen] = acceptance_[static_cast<std::size_t>(depth)];
    share = (accepted + share) / (seen + 1);
    all *= share;
    tokens += all;
    if (tokens / seconds(depth) > most) {
      most = tokens / seconds(depth);
      best = depth;
    }
  }
  return best;
}

/// Costs of the two shortest first, then what is best; at least two rounds of a depth, for its time.
int DraftLength::choose() {
  if (!known(0) || longest_ == 0) return 0;
  if (!known(1)) return 1;
  if (!probes_.empty()) {
    const int depth = probes_.back();
    probes_.pop_back();
    if (probes_.empty()) until_probe_ = -1;
    return depth;
  }
  if (until_probe_ >= 0 && (repeated_ == 0 || (repeated_ < 3 && !known(depth_)))) return depth_;
  const int best_now = best();
  if (until_probe_ < 0) {
    interval_ = best_now == usual_ ? std::min(2 * interval_, longest_interval) : shortest_interval;
    until_probe_ = interval_;
  }
  if (--until_probe_ == 0) {
    begin_probe(best_now);
    return choose();
  }
  return best_now;
}

/// Deeper by one, or by as much again and one; where that is too deep, or drafts are worth it, plain rounds.
void DraftLength::begin_probe(int usual) {
  usual_ = usual;
  const int deeper = probed_++ % 2 == 0 ? usual + 1 : 2 * usual + 2;
  if (usual > 0) probes_.assign(2, 0);
  if (usual < longest_) {
    const int depth = std::min(deeper, longest_);
    probes_.insert(probes_.end(), probe_rounds, depth);
    for (int j = usual + 1; j <= depth; ++j) {
      acceptance_[static_cast<std::size_t>(j)].accepted *= old_memory;
      acceptance_[static_cast<std::size_t>(j)].seen *= old_memory;
    }
  }
}

}  // namespace foretoken
