#include <algorithm>
#include <map>
#include <utility>

#include "io/files/bounded_json.h"
#include "launch/doctor/link_summary.h"
#include "launch/doctor/report.h"
#include "runtime/median.h"

namespace foretoken {

namespace {

using Json = nlohmann::ordered_json;

template <class Value>
void put(Json& json, const char* key, const std::optional<Value>& value) {
  if (value) json[key] = *value;
}

template <class Value>
void take(const Json& json, const char* key, std::optional<Value>& value) {
  if (const auto found = json.find(key); found != json.end()) value = found->template get<Value>();
}

template <class Value>
void take(const Json& json, const char* key, Value& value) {
  json.at(key).get_to(value);
}

Json json_of(const Link& link) {
  return {{"latency", link.latency}, {"bandwidth", link.bandwidth}};
}

Link link_from(const Json& json) {
  return {.latency = json.at("latency"), .bandwidth = json.at("bandwidth")};
}

/// Calls visit(key, member) for every member of a GPU's state.
template <class State, class Visit>
void for_each_member(State& gpu, const Visit& visit) {
  visit("ecc", gpu.ecc);
  visit("corrected_errors", gpu.corrected_errors);
  visit("uncorrected_errors", gpu.uncorrected_errors);
  visit("remapping_pending", gpu.remapping_pending);
  visit("remapping_failed", gpu.remapping_failed);
  visit("clock_mhz", gpu.clock);
  visit("highest_clock_mhz", gpu.highest_clock);
  visit("memory_clock_mhz", gpu.memory_clock);
  visit("highest_memory_clock_mhz", gpu.highest_memory_clock);
  visit("power_watts", gpu.power);
  visit("power_limit_watts", gpu.power_limit);
  visit("default_power_limit_watts", gpu.default_power_limit);
  visit("temperature_celsius", gpu.temperature);
}

Json json_of(const GpuState& gpu) {
  Json json = Json::object();
  for_each_member(gpu, [&](const char* key, const auto& value) { put(json, key, value); });
  json["throttle_reasons"] = gpu.throttle_reasons;
  return json;
}

GpuState gpu_from(const Json& json) {
  GpuState gpu;
  for_each_member(gpu, [&](const char* key, auto& value) { take(json, key, value); });
  take(json, "throttle_reasons", gpu.throttle_reasons);
  return gpu;
}

template <class Host, class Visit>
void for_each_host_member(Host& host, const Visit& visit) {
  visit("name", host.name);
  visit("cores", host.cores);
  visit("machine_cores", host.machine_cores);
  visit("threads", host.threads);
  visit("open_files", host.limits.open_files);
  visit("locked_memory", host.limits.locked_memory);
  visit("core_file", host.limits.core_file);
  visit("stack", host.limits.stack);
  visit("shared_memory", host.shared_memory);
}

template <class Device, class Visit>
void for_each_device_member(Device& device, const Visit& visit) {
  visit("name", device.name);
  visit("pci_address", device.pci_address);
  visit("visible_gpus", device.visible_gpus);
  visit("machine_gpus", device.machine_gpus);
  visit("nvml_problem", device.nvml_problem);
  visit("matrix_rate", device.matrix_rate);
  visit("core_share", device.core_share);
  visit("memory_bandwidth", device.memory_bandwidth);
}

template <class Folder, class Visit>
void for_each_folder_member(Folder& folder, const Visit& visit) {
  visit("path", folder.path);
  visit("problem", folder.problem);
  visit("shared", folder.shared);
  visit("file_system", folder.file_system);
  visit("free_bytes", folder.free_bytes);
  visit("write_rate", folder.write_rate);
  visit("hard_links", folder.hard_links);
  visit("locks", folder.locks);
}

Json json_of(const RankFacts& facts) {
  const auto into = [](Json& json) {
    return [&json](const char* key, const auto& value) { json[key] = value; };
  };
  Json host, device, groups = Json::array();
  for_each_host_member(facts.host, into(host));
  for_each_device_member(facts.device, into(device));
  if (facts.device.state) device["state"] = json_of(*facts.device.state);
  for (const GroupRate& group : facts.groups) {
    Json json = json_of(group.rate);
    json["name"] = group.name;
    json["first"] = group.first;
    if (!group.ranks.empty()) json["ranks"] = group.ranks;
    groups.push_back(std::move(json));
  }
  Json json{{"versions", facts.versions}, {"host", host}, {"device", device}, {"all_reduce", groups}};
  if (facts.clock)
    json["clock"] = {{"offset", facts.clock->seconds}, {"uncertainty", facts.clock->uncertainty}};
  if (facts.next_rank >= 0) {
    json["next"] = json_of(facts.next);
    json["next"]["rank"] = facts.next_rank;
  }
  if (facts.folder) for_each_folder_member(*facts.folder, into(json["folder"]));
  return json;
}

}  // namespace

std::string to_json_text(const RankFacts& facts) {
  return json_of(facts).dump(-1, ' ', false, Json::error_handler_t::replace);
}

RankFacts rank_facts_from(const std::string& text) {
  const Json json = parse_json_bounded<Json>(text);
  const auto from = [](const Json& part) {
    return [&part](const char* key, auto& value) { take(part, key, value); };
  };
  RankFacts facts;
  take(json, "versions", facts.versions);
  for_each_host_member(facts.host, from(json.at("host")));
  const Json& device = json.at("device");
  for_each_device_member(facts.device, from(device));
  if (device.contains("state")) facts.device.state = gpu_from(device.at("state"));
  for (const Json& group : json.at("all_reduce"))
    facts.groups.push_back(
        {group.at("name"), group.at("first"), group.value("ranks", std::vector<int>{}), link_from(group)});
  if (json.contains("clock"))
    facts.clock = ClockOffset{json.at("clock").at("offset"), json.at("clock").at("uncertainty")};
  if (json.contains("next")) {
    facts.next = link_from(json.at("next"));
    take(json.at("next"), "rank", facts.next_rank);
  }
  if (json.contains("folder")) for_each_folder_member(facts.folder.emplace(), from(json.at("folder")));
  return facts;
}

std::string report_json(const JobFacts& facts, const std::vector<Check>& checks, int exit_code) {
  Json rows = Json::array(), ranks = Json::array();
  for (const Check& check : checks) {
    Json findings = Json::array();
    for (const Finding& finding : check.findings)
      findings.push_back({{"result", name_of(finding.severity)}, {"text", finding.text}});
    rows.push_back({{"name", check.name},
                    {"result", name_of(check.severity())},
                    {"summary", check.summary},
                    {"findings", std::move(findings)}});
  }
  for (const RankFacts& rank : facts.ranks) ranks.push_back(json_of(rank));
  const Json json{{"exit_code", exit_code},
                  {"layout", facts.layout},
                  {"checks", std::move(rows)},
                  {"ranks", std::move(ranks)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string machine_json(const JobFacts& facts) {
  std::vector<double> matrix, memory;
  std::map<std::string, int> hosts;
  for (const RankFacts& rank : facts.ranks) {
    matrix.push_back(rank.device.matrix_rate);
    memory.push_back(rank.device.memory_bandwidth);
    ++hosts[rank.host.name];
  }
  const int per_node = std::max_element(hosts.begin(), hosts.end(), [](const auto& a, const auto& b) {
                         return a.second < b.second;
                       })->second;
  Json links{{"per_node", per_node}};
  const MeasuredLinks measured = links_of(facts);
  if (!measured.inside_node.empty()) links["inside"] = json_of(median_of(measured.inside_node));
  if (!measured.between_nodes.empty()) links["between"] = json_of(median_of(measured.between_nodes));
  const Json json{{"device", facts.ranks.front().device.name},
                  {"ranks", facts.ranks.size()},
                  {"nodes", hosts.size()},
                  {"matrix_rate", upper_median(matrix)},
                  {"memory_bandwidth", upper_median(memory)},
                  {"links", std::move(links)},
                  {"all_reduce", json_of(facts.ranks.front().groups.front().rate)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace foretoken
