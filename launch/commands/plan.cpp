#include "launch/commands/plan.h"

#include <algorithm>

#include "launch/config/config_loader.h"
#include "launch/config/number_flag.h"
#include "launch/plan/plan_text.h"
#include "runtime/error.h"

namespace foretoken {

int plan(const Config& config, const PlanArguments& arguments, std::ostream& out) {
  const bool on_cpu = config.run.device == RunConfig::Device::cpu;
  const std::string device = !arguments.device.empty() ? arguments.device : on_cpu ? "cpu" : "h100";
  PlanOptions options{.rates = rates_of(device), .per_node = arguments.per_node, .top = arguments.top};
  options.memory = arguments.memory.empty() ? options.rates.memory : memory_size(arguments.memory);
  if (options.rates.kind == DeviceKind::cpu && config.train.precision == TrainConfig::Precision::bf16)
    throw usage_error(config, {"train.precision"},
                      "train: precision \"bf16\" needs GPUs, but the plan is for the CPU");
  Config planned = config;
  planned.run.device = RunConfig::Device::automatic;  // this machine and this build need no such device
  if (planned.data.path.empty()) planned.data.path = "data.h5";  // a plan reads no data
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
