#include "parallel/pipeline/schedules.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

namespace {

using enum ActionKind;

/// Maximum number of actions: a larger program is a configuration mistake.
constexpr std::int64_t largest_program = 100'000'000;

void require_shape(std::string_view name, const PipelineShape& shape) {
  if (shape.pp < 1 || shape.virtual_stages < 1 || shape.microbatches < 1)
    throw UsageError("schedule {}: {}: every factor must be at least 1", name, to_string(shape));
  const double actions = 2.0 * shape.pp * shape.virtual_stages * shape.microbatches;
  if (actions > static_cast<double>(largest_program))
    throw UsageError("schedule {}: {}: {:.0f} actions, expected at most {}", name, to_string(shape), actions,
                     largest_program);
}

void require_one_stage_per_rank(std::string_view name, const PipelineShape& shape) {
  require_shape(name, shape);
  if (shape.virtual_stages != 1)
    throw UsageError(
        "schedule {}: needs one stage per rank (v 1), but v is {}; gpipe and interleaved_1f1b accept more",
        name, shape.virtual_stages);
}

template <class ActionsOfRank>
Program build(const PipelineShape& shape, ActionsOfRank actions_of_rank) {
  Program program{shape, {}};
  for (int rank = 0; rank < shape.pp; ++rank) program.ranks.push_back(actions_of_rank(rank));
  return program;
}

/// A microbatch on one of a rank's v stages (its chunk).
struct Visit {
  int chunk;
  int microbatch;
};

/// The order of a rank's visits: one group of microbatches after another and, in a group, one chunk after
/// another. If the microbatches do not divide evenly among the groups, the first groups have one more.
std::vector<Visit> interleaved_order(const PipelineShape& shape, bool backward_order) {
  const int v = shape.virtual_stages;
  const int groups = std::max(1, shape.microbatches / shape.pp);
  std::vector<Visit> order;
  int begin = 0;
  for (int group = 0; group < groups; ++group) {
    const int end = begin + shape.microbatches / groups + (group < shape.microbatches % groups ? 1 : 0);
    for (int i = 0; i < v; ++i)
      for (int m = begin; m < end; ++m) order.push_back({backward_order ? v - 1 - i : i, m});
    begin = end;
  }
  return order;
}

}  // namespace

Program gpipe(const PipelineShape& shape) {
  require_shape("gpipe", shape);
  return build(shape, [&](int rank) {
    std::vector<Action> actions;
    for (int chunk = 0; chunk < shape.virtual_stages; ++chunk)
      for (int m = 0; m < shape.microbatches; ++m) actions.push_back({forward, chunk * shape.pp + rank, m});
    for (int chunk = shape.virtual_stages - 1; chunk >= 0; --chunk)
      for (int m = 0; m < shape.microbatches; ++m) actions.push_back({backward, chunk * shape.pp + rank, m});
    return actions;
  });
}

Program one_f_one_b(const PipelineShape& shape) {
  require_one_stage_per_rank("1f1b", shape);
  return build(shape, [&](int rank) {
    std::vector<Action> actions;
    const int downstream = shape.pp - 1 - rank;  // number of later ranks
    const int warm_up = std::min(shape.microbatches, downstream > 0 ? downstream + 1 : 0);
    for (int m = 0; m < warm_up; ++m) actions.push_back({forward, rank, m});
    for (int m = 0; m < shape.microbatches; ++m) {
      if (warm_up + m < shape.microbatches) actions.push_back({forward, rank, warm_up + m});
      actions.push_back({backward, rank, m});
    }
    return actions;
  });
}

Program interleaved_1f1b(const PipelineShape& shape) {
  require_shape("interleaved_1f1b", shape);
  if (shape.virtual_stages < 2)
    throw UsageError(
        "schedule interleaved_1f1b: needs at least 2 stages per rank, but v is {}; use 1f1b for one",
        shape.virtual_stages);
  const std::vector<Visit> forwards = interleaved_order(shape, false);
  const std::vector<Visit> backwards = interleaved_order(shape, true);
  const int groups = std::max(1, shape.microbatches / shape.pp);
  const int largest_group = (shape.microbatches + groups - 1) / groups;

  return build(shape, [&](int rank) {
    // Before its first backward a rank runs one group through all its chunks but the last, and two more
    // forwards for each later rank: one while the activation travels downstream to that rank, one while the
    // gradient travels back upstream.
    const std::size_t warm_up = std::min(
        forwards.size(),
        static_cast<std::size_t>((shape.virtual_stages - 1) * largest_group + 2 * (shape.pp - 1 - rank)));
    const auto action = [&](ActionKind kind, const Visit& visit) {
      return Action{kind, visit.chunk * shape.pp + rank, visit.microbatch};
    };
    std::vector<Action> actions;
    for (std::size_t i = 0; i < warm_up; ++i) actions.push_back(action(forward, forwards[i]));
    for (std::size_t i = 0; i < backwards.size(); ++i) {
      if (warm_up + i < forwards.size()) actions.push_back(action(forward, forwards[warm_up + i]));
      actions.push_back(action(backward, backwards[i]));
    }
    return actions;
  });
}

Program zero_bubble_h1(const PipelineShape& shape) {
  require_one_stage_per_rank("zero_bubble_h1", shape);
  return build(shape, [&](int rank) {
    std::vector<Action> actions;
    const int microbatches = shape.microbatches;
    int forwards = 0;
    int weights = 0;
    while (forwards < std::min(microbatches, shape.pp - 1 - rank))
      actions.push_back({forward, rank, forwards++});
    for (int m = 0; m < microbatches; ++m) {
      if (forwards < microbatches) actions.push_back({forward, rank, forwards++});
      actions.push_back({backward_input, rank, m});
      if (m >= rank) actions.push_back({backward_weight, rank, weights++});
    }
    while (weights < microbatches) actions.push_back({backward_weight, rank, weights++});
    return actions;
  });
}

Program forward_only(const PipelineShape& shape) {
  require_shape("forward_only", shape);
  const std::vector<Visit> order = interleaved_order(shape, false);
  return build(shape, [&](int rank) {
    std::vector<Action> actions;
    for (const Visit& visit : order)
      actions.push_back({forward, visit.chunk * shape.pp + rank, visit.microbatch});
    return actions;
  });
}

namespace {

struct Generator {
  std::string_view name;
  Program (*generate)(const PipelineShape&);
  bool splits_backward = false;
};

constexpr std::array<Generator, 4> generators = {{
    {"gpipe", gpipe},
    {"1f1b", one_f_one_b},
    {"interleaved_1f1b", interleaved_1f1b},
    {"zero_bubble_h1", zero_bubble_h1, true},
}};

const Generator& generator_of(std::string_view name) {
  for (const Generator& generator : generators)
    if (generator.name == name) return generator;
  throw UsageError("schedule {}: unknown, expected one of {}", name, fmt::join(schedule_names(), ", "));
}

}  // namespace

std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const Generator& generator : generators) names.emplace_back(generator.name);
  return names;
}

bool splits_backward(std::string_view schedule) {
  return generator_of(schedule).splits_backward;
}

Program make_program(std::string_view name, const PipelineShape& shape) {
  return generator_of(name).generate(shape);
}

}  // namespace foretoken
