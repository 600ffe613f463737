#include "parallel/planning/step_bound.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace foretoken {

namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

/// What a rank does with a part of the model: `load` for every microbatch, and `fill` while it passes the
/// first or the last microbatch to other ranks.
struct Work {
  double load = 0;
  double fill = 0;

  Work& operator+=(const Work& other) {
    load += other.load;
    fill += other.fill;
    return *this;
  }
};

using WorkOf = Work (*)(const StageDurations&);

Work of_whole_backward(const StageDurations& part) {
  return {part.total(), part.total()};
}
/// The weight halves may all run at the end, while the gradient passes the other ranks.
Work of_input_halves(const StageDurations& part) {
  const double work = part.forward + part.backward_input;
  return {work, work};
}
Work of_split_backward(const StageDurations& part) {
  return {part.total(), part.forward};
}

class Bound {
 public:
  Bound(const LayerCosts& costs, const BoundedProgram& program, WorkOf work, double message)
      : shape_(program.shape), message_(message), halves_(static_cast<int>(costs.halves.size())) {
    for (int stage = 0; stage < shape_.stages(); ++stage)
      ranges_.push_back(range_of_halves(costs, stage, shape_.stages()));
    head_stage_ = shape_.stages() - 1 - static_cast<int>(costs.after.size());
    fixed_.resize(ranges_.size());
    fixed_[0] += work(costs.first);
    fixed_[at(head_stage_)] += work(costs.last);
    for (std::size_t i = 0; i < costs.after.size(); ++i)
      fixed_[at(head_stage_) + 1 + i] += work(costs.after[i]);
    sums_.push_back({});
    Work least{std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
    for (const StageDurations& half : costs.halves) {
      const Work of_half = work(half);
      least = {std::min(least.load, of_half.load), std::min(least.fill, of_half.fill)};
      sums_.push_back(sums_.back());
      sums_.back() += of_half;
    }
    least_half_ = costs.halves.empty() ? Work{} : least;
  }

  double seconds() const {
    const double over_ranks = mean_over_ranks();
    if (shape_.virtual_stages > 1) return over_ranks;
    // The greedy assignment is possible at `high`, not at `low`.
    double low = over_ranks, high = sum_of_all();
    if (is_possible(low)) return low;
    for (int i = 0; i < 60 && high - low > 1e-9 * high; ++i) {
      const double middle = (low + high) / 2;
      (is_possible(middle) ? high : low) = middle;
    }
    return low;
  }

 private:
  Work least_of(int stage) const {
    Work work = fixed_[at(stage)];
    work.load += ranges_[at(stage)].least * least_half_.load;
    work.fill += ranges_[at(stage)].least * least_half_.fill;
    return work;
  }

  double sum_of_all() const {
    Work all = sums_.back();
    for (const Work& fixed : fixed_) all += fixed;
    return shape_.microbatches * all.load + all.fill + shape_.stages() * message_;
  }

  /// The bound of single ranks, and of the mean over all of them.
  double mean_over_ranks() const {
    double longest = 0, fill = 0, fills = 0;
    for (int rank = 0; rank < shape_.pp; ++rank) {
      double load = 0;
      for (int stage = rank; stage < shape_.stages(); stage += shape_.pp) load += least_of(stage).load;
      longest = std::max(longest, fill + shape_.microbatches * load);
      fills += fill;
      fill += least_of(rank).fill + message_;
    }
    Work all = sums_.back();
    for (const Work& fixed : fixed_) all += fixed;
    return std::max(longest, (shape_.microbatches * all.load + fills) / shape_.pp);
  }

  /// Whether all ranks of one stage each can end by this time. A stage that has as many halves as possible
  /// leaves the most time to the later ones: a half in an earlier stage adds its fill to their start, which
  /// is at most its load.
  bool is_possible(double time) const {
    int least_later = 0;
    for (const HalvesRange& range : ranges_) least_later += range.least;
    int begin = 0;
    double fill = 0;
    for (int stage = 0; stage < shape_.stages(); ++stage) {
      const HalvesRange& range = ranges_[at(stage)];
      least_later -= range.least;
      const int most =
          std::min<std::int64_t>(halves_ - begin - least_later, std::min<std::int64_t>(range.most, halves_));
      int end = begin;
      const auto fits = [&](int next) {
        const double load = sums_[at(next)].load - sums_[at(begin)].load + fixed_[at(stage)].load;
        return fill + shape_.microbatches * load <= time;
      };
      if (!fits(begin + range.least)) return false;
      for (end = begin + range.least; end < begin + most && fits(end + 1);) ++end;
      fill += sums_[at(end)].fill - sums_[at(begin)].fill + fixed_[at(stage)].fill + message_;
      begin = end;
    }
    return begin == halves_;
  }

  PipelineShape shape_;
  double message_;
  int halves_;
  int head_stage_ = 0;
  std::vector<HalvesRange> ranges_;  // by stage
  std::vector<Work> fixed_;          // by stage: work besides halves
  std::vector<Work> sums_;           // of the halves before
  Work least_half_;
};

}  // namespace

double least_program_time(const LayerCosts& costs, const BoundedProgram& program) {
  require_enough_layers(costs, {.pp = program.shape.pp, .virtual_stages = program.shape.virtual_stages});
  const auto bound = [&](WorkOf work, double messages) {
    return Bound(costs, program, work, messages * program.message).seconds();
  };
  if (!program.split_backward) return bound(of_whole_backward, 2);
  return std::max(bound(of_split_backward, 1), bound(of_input_halves, 2));
}

}  // namespace foretoken
