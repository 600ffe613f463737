#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/doctor/checks.h"
#include "launch/doctor/units.h"
#include "runtime/median.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

bool on_gpu(const RankFacts& rank) {
  return !rank.device.pci_address.empty();
}

/// Ranks by the name of their device.
std::map<std::string, std::vector<int>> by_device(const JobFacts& facts) {
  std::map<std::string, std::vector<int>> devices;
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank)
    devices[facts.ranks[rank].device.name].push_back(static_cast<int>(rank));
  return devices;
}

/// "8", "1-8"
std::string range_of(const std::set<int>& values) {
  return values.size() == 1 ? std::to_string(*values.begin())
                            : fmt::format("{}-{}", *values.begin(), *values.rbegin());
}

/// "2 × NVIDIA H100 80GB HBM3; GPUs that a rank sees: 2 of 8 of its machine"
Check devices_row(const JobFacts& facts) {
  Check check{.name = "devices"};
  std::vector<std::string> parts;
  const auto devices = by_device(facts);
  for (const auto& [name, ranks] : devices) parts.push_back(fmt::format("{} × {}", ranks.size(), name));
  check.summary = fmt::format("{}", fmt::join(parts, ", "));
  std::set<int> visible, present;
  for (const RankFacts& rank : facts.ranks) {
    visible.insert(rank.device.visible_gpus);
    present.insert(rank.device.machine_gpus);
  }
  if (*visible.rbegin() > 0) {
    check.summary += fmt::format("; GPUs that a rank sees: {}", range_of(visible));
    if (*present.rbegin() > 0) check.summary += fmt::format(" of {} of its machine", range_of(present));
  }
  if (devices.size() > 1)
    for (const auto& [name, ranks] : devices)
      check.findings.push_back({Severity::warning, fmt::format("the ranks have different devices: {} on {}",
                                                               ranks_text(facts, ranks), name)});
  const auto shared = sharing_gpu(facts);
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank) {
    const DeviceFacts& device = facts.ranks[rank].device;
    const std::string who = ranks_text(facts, {static_cast<int>(rank)});
    if (!on_gpu(facts.ranks[rank]) && device.machine_gpus > 0)
      check.findings.push_back(
          {Severity::warning, fmt::format("{} computes on the CPU, but its machine has {}{}", who,
                                          counted(device.machine_gpus, "GPU"),
                                          device.visible_gpus == 0 ? ", none of which it sees" : "")});
    std::vector<int> all = shared[rank];
    if (!all.empty() && static_cast<int>(rank) < *std::min_element(all.begin(), all.end())) {
      all.push_back(static_cast<int>(rank));
      check.findings.push_back(
          {Severity::warning, fmt::format("{} share GPU {}", ranks_text(facts, all), device.pci_address)});
    }
  }
  return check;
}

Severity severity_of_throttling(const std::string& reason) {
  if (reason.starts_with("hardware")) return Severity::wrong;
  // Under full load the power cap lowers the clock of a healthy GPU too.
  return reason == "power cap" ? Severity::ok : Severity::warning;
}

void add_health(const std::string& who, const GpuState& gpu, std::vector<Finding>& findings) {
  const auto add = [&](Severity severity, const std::string& what) {
    findings.push_back({severity, fmt::format("{}: {}", who, what)});
  };
  if (gpu.uncorrected_errors.value_or(0) > 0)
    add(Severity::wrong, fmt::format("the GPU's memory had {} since the driver was loaded",
                                     counted(*gpu.uncorrected_errors, "uncorrected error")));
  if (gpu.remapping_failed.value_or(false))
    add(Severity::wrong, "the GPU's memory has a damaged row and no spare row: replace the GPU");
  if (gpu.remapping_pending.value_or(false))
    add(Severity::wrong, "the GPU must be reset to replace a damaged row of its memory");
  if (!gpu.ecc.value_or(true)) add(Severity::warning, "error correction (ECC) of the GPU's memory is off");
  for (const std::string& reason : gpu.throttle_reasons)
    if (const Severity severity = severity_of_throttling(reason); severity != Severity::ok)
      add(severity, fmt::format("the GPU's clock is lowered: {}", reason));
  if (gpu.power_limit && gpu.default_power_limit && *gpu.power_limit < 0.99 * *gpu.default_power_limit)
    add(Severity::warning, fmt::format("the GPU's power limit is {:.0f} W, its default {:.0f} W",
                                       *gpu.power_limit, *gpu.default_power_limit));
  if (gpu.temperature.value_or(0) >= 90)
    add(Severity::warning, fmt::format("the GPU has {} °C", *gpu.temperature));
}

/// "1755 MHz", "1620-1755 MHz"; empty if no GPU reports the value.
template <class Value>
std::string range_of(const JobFacts& facts, std::optional<Value> GpuState::*member, const char* unit) {
  std::vector<Value> values;
  for (const RankFacts& rank : facts.ranks)
    if (rank.device.state && (*rank.device.state).*member) values.push_back(*((*rank.device.state).*member));
  if (values.empty()) return "";
  const auto [lowest, highest] = std::minmax_element(values.begin(), values.end());
  return *lowest == *highest ? fmt::format("{:.0f} {}", static_cast<double>(*lowest), unit)
                             : fmt::format("{:.0f}-{:.0f} {}", static_cast<double>(*lowest),
                                           static_cast<double>(*highest), unit);
}

Check health_row(const JobFacts& facts) {
  Check check{.name = "GPU health"};
  std::map<std::string, std::vector<int>> problems;
  std::set<std::string> reasons;
  std::int64_t corrected = 0;
  bool gpus = false;
  for (std::size_t i = 0; i < facts.ranks.size(); ++i) {
    const RankFacts& rank = facts.ranks[i];
    if (!on_gpu(rank)) continue;
    gpus = true;
    if (!rank.device.state) {
      const std::string& problem = rank.device.nvml_problem;
      problems[problem.empty() ? "NVML does not list them" : problem].push_back(static_cast<int>(i));
      continue;
    }
    add_health(ranks_text(facts, {static_cast<int>(i)}), *rank.device.state, check.findings);
    reasons.insert(rank.device.state->throttle_reasons.begin(), rank.device.state->throttle_reasons.end());
    corrected += rank.device.state->corrected_errors.value_or(0);
  }
  for (const auto& [problem, ranks] : problems)
    check.findings.push_back({Severity::warning, fmt::format("the GPUs of {} were not checked: {}",
                                                             ranks_text(facts, ranks), problem)});
  if (!gpus) {
    const std::string& problem = facts.ranks.front().device.nvml_problem;
    check.summary = problem.empty() ? "no GPU is used" : fmt::format("no GPU is used ({})", problem);
    return check;
  }
  std::vector<std::string> parts{
      range_of(facts, &GpuState::clock, "MHz"), range_of(facts, &GpuState::memory_clock, "MHz memory"),
      range_of(facts, &GpuState::power, "W"), range_of(facts, &GpuState::power_limit, "W limit"),
      range_of(facts, &GpuState::temperature, "°C")};
  std::erase(parts, "");
  if (corrected > 0) parts.push_back(counted(corrected, "corrected error"));
  if (!reasons.empty()) parts.push_back(fmt::format("clock lowered by: {}", fmt::join(reasons, ", ")));
  check.summary = parts.empty() ? "unknown" : fmt::format("{}", fmt::join(parts, ", "));
  return check;
}

/// One row for the speeds of all ranks, compared with the median of ranks that do not share their device. A
/// rank that shares its device is slow for a known reason, so it is never wrong.
Check speed_row(const JobFacts& facts, std::string name, double DeviceFacts::*member, const char* unit) {
  Check check{.name = std::move(name)};
  std::vector<std::string> parts;
  const auto cores = sharing_cores(facts), gpus = sharing_gpu(facts);
  for (const auto& [device, ranks] : by_device(facts)) {
    std::vector<double> all, alone;
    for (const int rank : ranks) {
      const auto i = static_cast<std::size_t>(rank);
      all.push_back(facts.ranks[i].device.*member);
      if (cores[i].empty() && gpus[i].empty()) alone.push_back(all.back());
    }
    const double slowest = *std::min_element(all.begin(), all.end());
    const double median = upper_median(alone.empty() ? all : alone);
    if (median <= 0) continue;
    parts.push_back(ranks.size() == 1
                        ? scaled(median, unit)
                        : fmt::format("median {}, slowest {}", scaled(median, unit), scaled(slowest, unit)));
    for (const int rank : ranks) {
      const auto i = static_cast<std::size_t>(rank);
      const RankFacts& own = facts.ranks[i];
      const double missing = 1 - own.device.*member / median;
      const SpeedLimits limits = speed_limits(on_gpu(own));
      if (missing <= limits.warning) continue;
      const std::vector<int>& others = on_gpu(own) ? gpus[i] : cores[i];
      std::string text =
          fmt::format("{} is {:.0f} % slower than the median: {} of {}", ranks_text(facts, {rank}),
                      100 * missing, scaled(own.device.*member, unit), scaled(median, unit));
      if (!others.empty())
        text += fmt::format("; it shares {} with {}", on_gpu(own) ? "its GPU" : "its cores",
                            ranks_text(facts, others));
      else if (own.device.core_share < 1 - limits.warning)
        text += fmt::format("; its threads had a core for {:.0f} % of the time: other programs use its cores",
                            100 * own.device.core_share);
      check.findings.push_back(
          {missing > limits.wrong && others.empty() ? Severity::wrong : Severity::warning, text});
    }
  }
  check.summary = parts.empty() ? "not measured" : fmt::format("{}", fmt::join(parts, "; "));
  return check;
}

}  // namespace

std::vector<std::vector<int>> sharing_gpu(const JobFacts& facts) {
  std::map<std::pair<std::string, std::string>, std::vector<int>> users;
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank)
    if (on_gpu(facts.ranks[rank]))
      users[{facts.ranks[rank].host.name, facts.ranks[rank].device.pci_address}].push_back(
          static_cast<int>(rank));
  std::vector<std::vector<int>> sharing(facts.ranks.size());
  for (const auto& [gpu, ranks] : users)
    for (const int rank : ranks)
      for (const int other : ranks)
        if (other != rank) sharing[static_cast<std::size_t>(rank)].push_back(other);
  return sharing;
}

std::vector<Check> device_checks(const JobFacts& facts) {
  std::vector<Check> rows{devices_row(facts), health_row(facts)};
  if (!facts.measured) return rows;
  const bool gpu = on_gpu(facts.ranks.front());
  rows.push_back(
      speed_row(facts, gpu ? "matrix rate, bf16" : "matrix rate, f32", &DeviceFacts::matrix_rate, "FLOP/s"));
  rows.push_back(speed_row(facts, "memory bandwidth", &DeviceFacts::memory_bandwidth, "B/s"));
  return rows;
}

}  // namespace foretoken
