#include "launch/training/step_profile.h"

#include <algorithm>
#include <vector>

#include "runtime/median.h"

namespace foretoken {

namespace {

/// Actions are named by their stage: "2F0". Other spans of the compute stream are named in words.
bool is_action(const TimelineSpan& span) {
  return !span.name.empty() && span.name[0] >= '0' && span.name[0] <= '9';
}

}  // namespace

RankTimes rank_times(std::span<const TimelineSpan> spans, double data, double exchanged, double end,
                     std::int64_t memory) {
  RankTimes times{.end = end - exchanged, .step = end, .data = data, .memory = static_cast<double>(memory)};
  bool first = true;
  for (const TimelineSpan& span : spans) {
    if (span.kind != TimelineSpan::Kind::compute || !is_action(span)) continue;
    times.actions += span.end - span.begin;
    times.pass_begin = first ? span.begin - exchanged : std::min(times.pass_begin, span.begin - exchanged);
    times.pass_end = first ? span.end - exchanged : std::max(times.pass_end, span.end - exchanged);
    first = false;
  }
  for (const TimelineSpan& span : spans) {
    if (span.kind != TimelineSpan::Kind::compute || is_action(span)) continue;
    times.other += span.end - span.begin;
    if (span.begin - exchanged >= times.pass_end) times.other_after += span.end - span.begin;
  }
  return times;
}

StepTimes step_times(std::span<const RankTimes> ranks) {
  double begin = ranks[0].pass_begin, end = ranks[0].pass_end, length = 0;
  for (const RankTimes& rank : ranks) {
    begin = std::min(begin, rank.pass_begin);
    end = std::max(end, rank.pass_end);
    length += rank.step;
  }
  StepTimes times;
  for (const RankTimes& rank : ranks) {
    times.compute += rank.actions / length;
    // Not in the bubble: what the rank did before its rows were there, and optimizer work during the pass.
    const double ready = rank.end - rank.step + rank.data;
    const double optimizer = std::max(0.0, rank.other_after - (rank.end - end));
    times.bubble += std::max(0.0, end - std::max(begin, ready) - rank.actions - optimizer) / length;
    // A rank alone has no communication: what remains after its pass is the host's work.
    if (ranks.size() > 1)
      times.exposed_communication += std::max(0.0, rank.end - end - rank.other_after) / length;
    times.optimizer += rank.other / length;
    times.data += rank.data / length;
    times.compute_seconds.push_back(rank.actions + rank.other);
    times.memory_bytes.push_back(static_cast<std::int64_t>(rank.memory));
  }
  const auto slowest = std::max_element(times.compute_seconds.begin(), times.compute_seconds.end());
  times.slowest_rank = static_cast<int>(slowest - times.compute_seconds.begin());
  const double median = lower_median(times.compute_seconds);
  times.slowest_excess = median > 0 ? *slowest / median - 1 : 0;
  return times;
}

StepProfile::StepProfile(Session& session) : session_(session) {
  Stream& stream = session.stream();
  if (!stream.timeline()) stream.set_timeline(&own_.emplace(stream));
  start_ = std::chrono::steady_clock::now();
}

StepProfile::~StepProfile() {
  if (own_) session_.stream().set_timeline(nullptr);
}

StepTimes StepProfile::finish(std::int64_t memory) {
  session_.synchronize();
  const double end = seconds();
  Communicator& world = session_.groups().world;
  std::vector<RankTimes> ranks(static_cast<std::size_t>(world.size()));
  ranks[static_cast<std::size_t>(world.rank())] =
      rank_times(session_.stream().timeline()->spans(), data_, exchanged_, end, memory);
  constexpr std::size_t fields = sizeof(RankTimes) / sizeof(double);
  const std::span<double> all(&ranks[0].pass_begin, fields * ranks.size());
  world.all_reduce(tensor_over(all, {static_cast<std::int64_t>(all.size())}));
  return step_times(ranks);
}

}  // namespace foretoken
