#include "launch/plan/plan_text.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "launch/console/terminal.h"
#include "model/config_names.h"
#include "model/cost.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

constexpr double gib = 1 << 30;

std::string gibibytes(std::size_t bytes) {
  return fmt::format("{:.{}f} GiB", static_cast<double>(bytes) / gib, bytes < (1 << 30) ? 3 : 1);
}

/// Three significant digits and a unit of time.
std::string seconds_text(double seconds) {
  if (seconds < 1) return fmt::format("{:.3g} ms", 1e3 * seconds);
  return fmt::format("{:.3g} s", seconds);
}

double tokens_per_step(const Config& config) {
  return static_cast<double>(config.train.global_batch * config.data.sequence_length);
}

double days_of(const Config& config, const PlannedLayout& planned) {
  return static_cast<double>(config.train.steps) * planned.step.total / 86400;
}

/// A count with three digits and a unit: "55.7 G", "1.34 M", "950".
std::string short_count(std::int64_t count) {
  const auto number = static_cast<double>(count);
  for (const auto& [factor, unit] : {std::pair(1e9, "G"), std::pair(1e6, "M"), std::pair(1e3, "k")})
    if (number >= factor)
      return fmt::format("{:.{}f} {}", number / factor, number < 10 * factor ? 2 : 1, unit);
  return fmt::format("{}", count);
}

/// Short names, so that a row fits into 100 columns: "pp8 dp8 v2 interleaved mb1 full sharded own_stage".
std::string short_text(const PlanLayout& layout) {
  std::string schedule = layout.schedule;
  if (schedule == "interleaved_1f1b") schedule = "inter";
  if (schedule == "zero_bubble_h1") schedule = "zb_h1";
  std::string text = fmt::format("{}×{}", layout.pp, layout.dp);
  if (layout.virtual_stages > 1) text += fmt::format("×v{}", layout.virtual_stages);
  text += fmt::format(" {} mb{}", schedule, layout.microbatch);
  if (layout.recompute != Recompute::none) text += layout.recompute == Recompute::full ? " full" : " sel";
  if (layout.sharded_optimizer) text += " shard";
  if (layout.placement == MtpConfig::Placement::own_stage) text += " own";
  if (layout.placement == MtpConfig::Placement::stage_per_depth) text += " each";
  return text;
}

/// As arguments of foretoken train.
std::string sets_text(const PlannedLayout& planned) {
  const PlanLayout& layout = planned.layout;
  return fmt::format(
      "--set parallel.pp={} --set parallel.dp={} --set parallel.virtual_stages={} --set parallel.schedule={} "
      "--set train.microbatch={} --set train.recompute={} --set parallel.sharded_optimizer={} "
      "--set mtp.placement={}",
      layout.pp, layout.dp, layout.virtual_stages, layout.schedule, layout.microbatch,
      name_of(layout.recompute), layout.sharded_optimizer, name_of(layout.placement));
}

std::string table_of(const Config& config, const RanksPlan& plan) {
  using Row = std::array<std::string, 9>;
  std::vector<Row> rows{
      {"layout", "memory", "step", "tokens/s", "TFLOP/s", "bubble", "comm", "days", "device-h"}};
  for (const PlannedLayout& planned : plan.best) {
    const double days = days_of(config, planned);
    rows.push_back(
        {short_text(planned.layout), gibibytes(planned.memory), seconds_text(planned.step.total),
         fmt::format("{:.0f}", planned.tokens_per_second), fmt::format("{:.3g}", planned.model_flops / 1e12),
         fmt::format("{:.1f} %", 100 * std::max(0.0, planned.step.step.bubble / planned.step.total)),
         fmt::format("{:.1f} %", 100 * planned.step.step.communication() / planned.step.total),
         fmt::format("{:.3g}", days), fmt::format("{:.0f}", 24 * days * plan.ranks)});
  }
  std::array<int, 9> widths{};
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  std::string text;
  for (const Row& row : rows) {
    text += fmt::format("  {:<{}}", row[0], widths[0]);
    for (std::size_t i = 1; i < row.size(); ++i) text += fmt::format("  {:>{}}", row[i], widths[i]);
    text += '\n';
  }
  return text;
}

/// The fullest rank's memory: tensors, their padding, and what libraries allocate.
std::vector<std::pair<std::string, std::size_t>> bytes_by_kind(const PlannedLayout& planned) {
  const RankMemory& tensors = planned.fullest.memory;
  std::vector<std::pair<std::string, std::size_t>> bytes;
  for (const MemoryKind kind : enumerators<MemoryKind>())
    bytes.emplace_back(name_of(kind), tensors.use[kind]);
  bytes.emplace_back("padding", tensors.allocated - tensors.use.total());
  bytes.emplace_back("libraries", planned.memory - tensors.allocated - planned.communicators);
  bytes.emplace_back("communicators", planned.communicators);
  return bytes;
}

nlohmann::ordered_json json_of(const Config& config, const RanksPlan& plan, const PlannedLayout& planned,
                               bool timed) {
  const PlanLayout& layout = planned.layout;
  nlohmann::ordered_json json{{"pp", layout.pp},
                              {"dp", layout.dp},
                              {"virtual_stages", layout.virtual_stages},
                              {"schedule", layout.schedule},
                              {"microbatch", layout.microbatch},
                              {"recompute", name_of(layout.recompute)},
                              {"sharded_optimizer", layout.sharded_optimizer},
                              {"placement", name_of(layout.placement)},
                              {"fullest_pp_rank", planned.fullest.pp_rank},
                              {"memory_bytes", planned.memory},
                              {"tensor_bytes", planned.fullest.memory.allocated}};
  for (const auto& [kind, bytes] : bytes_by_kind(planned)) json["bytes"][kind] = bytes;
  if (!timed) return json;
  std::vector<double> layers;
  for (const int halves : planned.halves_per_stage) layers.push_back(halves / 2.0);
  json["blocks_per_stage"] = layers;
  json["step_seconds"] = planned.step.total;
  const StepShares& shares = planned.step.step;
  json["bubble"] = shares.bubble / planned.step.total;
  json["seconds"] = {{"compute", shares.compute},
                     {"bubble", shares.bubble},
                     {"exposed_messages", shares.exposed_messages},
                     {"exposed_reductions", shares.exposed_reductions},
                     {"exposed_gathers", shares.exposed_gathers},
                     {"optimizer", shares.optimizer},
                     {"host", shares.host}};
  json["tokens_per_second"] = planned.tokens_per_second;
  json["model_flops_per_device"] = planned.model_flops;
  json["days"] = days_of(config, planned);
  json["device_hours"] = 24 * days_of(config, planned) * plan.ranks;
  return json;
}

}  // namespace

std::string too_large_reason(const PlannedLayout& planned, std::size_t memory) {
  auto parts = bytes_by_kind(planned);
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string largest;
  for (std::size_t i = 0; i < std::min<std::size_t>(parts.size(), 3); ++i)
    if (parts[i].second > 0)
      largest += fmt::format("{}{} {}", i == 0 ? "" : ", ", parts[i].first, gibibytes(parts[i].second));
  return fmt::format("rank {} needs {} of {}: {}", planned.fullest.pp_rank, gibibytes(planned.memory),
                     gibibytes(memory), largest);
}

std::string plan_text(const Config& config, const PlanOptions& options, const std::vector<RanksPlan>& plans) {
  std::string text = fmt::format(
      "{} parameters, {:.0f} tokens per step, {} steps; {}{}, {} ranks per node; times are estimates\n",
      short_count(parameter_count(config.model, config.mtp)), tokens_per_step(config), config.train.steps,
      options.rates.name,
      options.memory ? " of " + gibibytes(*options.memory) : std::string(" without a limit of memory"),
      options.per_node);
  for (const RanksPlan& plan : plans) {
    text += fmt::format("\n{}: {}\n", counted(plan.ranks, "rank"), counted(plan.legal, "legal layout"));
    if (!plan.best.empty()) text += table_of(config, plan);
    if (plan.not_faster > 0)
      text += fmt::format("  {} {} not faster, whether {} or not\n", counted(plan.not_faster, "other layout"),
                          plan.not_faster == 1 ? "is" : "are", plan.not_faster == 1 ? "it fits" : "they fit");
    if (plan.nearest) {
      text +=
          fmt::format("  {}{} {} not fit. The smallest:\n    {}\n    {}\n", counted(plan.too_large, "layout"),
                      plan.not_faster > 0 ? " that might be faster" : "", plan.too_large == 1 ? "does" : "do",
                      short_text(plan.nearest->layout), too_large_reason(*plan.nearest, *options.memory));
    }
    if (!plan.best.empty()) {
      text += "  the first as settings:\n";
      text += wrapped("    " + sets_text(plan.best.front()), 100, 4) + '\n';
    }
  }
  return text;
}

nlohmann::ordered_json plan_json(const Config& config, const PlanOptions& options,
                                 const std::vector<RanksPlan>& plans) {
  nlohmann::ordered_json json{{"device", options.rates.name},
                              {"ranks_per_node", options.per_node},
                              {"parameters", parameter_count(config.model, config.mtp)},
                              {"tokens_per_step", tokens_per_step(config)},
                              {"steps", config.train.steps}};
  json["memory_limit_bytes"] = options.memory ? nlohmann::ordered_json(*options.memory) : nullptr;
  json["plans"] = nlohmann::ordered_json::array();
  for (const RanksPlan& plan : plans) {
    nlohmann::ordered_json entry{{"ranks", plan.ranks},
                                 {"legal_layouts", plan.legal},
                                 {"too_large", plan.too_large},
                                 {"not_faster", plan.not_faster}};
    entry["best"] = nlohmann::ordered_json::array();
    for (const PlannedLayout& planned : plan.best)
      entry["best"].push_back(json_of(config, plan, planned, true));
    if (plan.nearest) {
      entry["nearest"] = json_of(config, plan, *plan.nearest, false);
      entry["nearest"]["reason"] = too_large_reason(*plan.nearest, *options.memory);
    }
    json["plans"].push_back(std::move(entry));
  }
  return json;
}

}  // namespace foretoken
