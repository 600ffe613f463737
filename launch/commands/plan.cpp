#include "launch/commands/plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "io/files/durable_file.h"
#include "io/files/printable.h"
#include "launch/commands/flight.h"
#include "launch/commands/ranks.h"
#include "launch/config/config_loader.h"
#include "launch/config/number_flag.h"
#include "launch/console/console.h"
#include "launch/plan/measure_profile.h"
#include "launch/plan/plan_input.h"
#include "launch/plan/plan_text.h"
#include "model/config_names.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

/// The configured rows and mode, one line for each part.
std::string table_of(const DeviceProfile& profile, const Config& config) {
  std::string text = fmt::format("{} rows of {} tokens, recompute {}, ms:\n  {:<15} {:>9} {:>9} {:>9}\n",
                                 config.train.microbatch, config.data.sequence_length,
                                 name_of(config.train.recompute), "part", "forward", "backward", "spread");
  for (const DeviceProfile::Part& part : profile.parts)
    if (part.recompute == config.train.recompute && part.microbatch == config.train.microbatch)
      text += fmt::format("  {:<15} {:>9.3f} {:>9.3f} {:>7.1f} %\n", part.name, 1e3 * part.seconds.forward,
                          1e3 * part.seconds.backward(), 100 * part.spread);
  return text;
}

}  // namespace

int measure_device(const Config& config, const PlanArguments& arguments) {
  constexpr Seconds longest_wait{120};
  return static_cast<int>(
      run_on_ranks(flight_folder_without_run(), longest_wait, [&](MpiCommunicator& world) {
        Config measured = config;
        if (measured.data.path.empty()) measured.data.path = "data.h5";  // measured on random tokens
        const bool root = world.rank() == 0;
        const DeviceProfile profile = measure_profile(world, measured, [&](const std::string& line) {
          if (root) print_text(printable_lines(line + "\n"));
        });
        if (!root) return ExitCode::done;
        write_durably(arguments.output, to_json_text(profile));
        print_text(printable_lines(fmt::format("\n{}, {} per rank, {} at the same time: {}\n", profile.device,
                                               counted(profile.threads, "thread"),
                                               counted(profile.ranks, "rank"), arguments.output) +
                                   table_of(profile, measured)));
        return ExitCode::done;
      }));
}

int plan(const Config& config, const PlanArguments& arguments, std::ostream& out) {
  PlanRequest request{.device = arguments.device,
                      .profiles = arguments.profiles,
                      .per_node = arguments.per_node,
                      .top = arguments.top};
  if (!arguments.memory.empty()) request.memory = memory_size(arguments.memory);
  const auto [planned, options] = plan_input(config, request);
  std::vector<RanksPlan> plans;
  for (const int ranks : arguments.ranks) plans.push_back(plan_ranks(planned, ranks, options));
  if (arguments.json)
    out << plan_json(planned, options, plans).dump(2) << '\n';
  else
    out << plan_text(planned, options, plans);
  return 0;
}

std::size_t memory_size(const std::string& text) {
  constexpr double largest = 1e15;
  for (const auto& [unit, bytes] : {std::pair("GiB", 1073741824.0), std::pair("MiB", 1048576.0)}) {
    if (!text.ends_with(unit)) continue;
    const auto number = read_number(std::string_view(text).substr(0, text.size() - 3));
    if (number && *number > 0 && *number * bytes < largest) return static_cast<std::size_t>(*number * bytes);
  }
  throw UsageError(
      "plan: --memory: expected a size such as 80GiB or 512MiB, found \"{}\"; see foretoken plan --help",
      text);
}

std::vector<int> rank_counts(const std::string& text) {
  constexpr std::int64_t most = 1 << 20;
  std::vector<int> counts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const auto count = read_integer(std::string_view(text).substr(begin, end - begin));
    if (!count || *count < 1 || *count > most)
      throw UsageError(
          "plan: --gpus: expected integers, 1 to {}, with commas between them, found \"{}\"; see foretoken "
          "plan "
          "--help",
          most, text);
    counts.push_back(static_cast<int>(*count));
    begin = end + 1;
  }
  return counts;
}

}  // namespace foretoken
