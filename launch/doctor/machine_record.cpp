#include "launch/doctor/machine_record.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/files/bounded_json.h"
#include "io/files/durable_file.h"
#include "io/files/sealed_text.h"
#include "io/files/text_file.h"
#include "launch/doctor/measure.h"
#include "launch/session/agreement.h"
#include "launch/session/session.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Json = nlohmann::json;

template <class T>
void add(Json& json, const char* name, const std::optional<T>& value) {
  if (value) json[name] = *value;
}

template <class T>
void read(const Json& json, const char* name, std::optional<T>& value) {
  if (json.contains(name)) value = json.at(name).get<T>();
}

/// Sets `value` to the lower one of it and the rank's.
template <class T>
void take_lower(const Json& rank, const char* name, std::optional<T>& value) {
  if (rank.contains(name)) value = std::min(value.value_or(rank.at(name)), rank.at(name).get<T>());
}

Json to_json(const MachineRecord& record) {
  Json hosts = Json::array();
  for (const MachineRecord::Host& host : record.hosts) {
    Json json{{"name", host.name},   {"ranks", host.ranks},   {"threads", host.threads},
              {"cores", host.cores}, {"device", host.device}, {"devices", host.devices}};
    add(json, "clock", host.clock);
    add(json, "highest_clock", host.highest_clock);
    add(json, "power_limit", host.power_limit);
    hosts.push_back(std::move(json));
  }
  return {{"versions", record.versions}, {"transport", record.transport}, {"hosts", hosts}};
}

/// The hosts in the order of their first ranks.
std::vector<MachineRecord::Host> hosts_of(const std::vector<std::string>& ranks) {
  std::vector<MachineRecord::Host> hosts;
  std::map<std::string, std::set<int>> cores, gpus;
  for (const std::string& text : ranks) {
    const Json rank = Json::parse(text);
    const std::string name = rank.at("host");
    auto host = std::find_if(hosts.begin(), hosts.end(), [&](const auto& one) { return one.name == name; });
    if (host == hosts.end()) host = hosts.insert(host, {.name = name, .device = rank.at("device")});
    ++host->ranks;
    host->threads += rank.at("threads").get<int>();
    for (const int core : rank.at("cores")) cores[name].insert(core);
    gpus[name].insert(rank.at("gpu").get<int>());
    host->cores = static_cast<int>(cores[name].size());
    host->devices = static_cast<int>(gpus[name].size());
    take_lower(rank, "clock", host->clock);
    take_lower(rank, "highest_clock", host->highest_clock);
    take_lower(rank, "power_limit", host->power_limit);
  }
  return hosts;
}

}  // namespace

std::string MachineRecord::sharing() const {
  const auto shared = [](const Host& host) -> std::string {
    if (host.device != "cpu" && host.ranks > host.devices)
      return fmt::format("{} ranks on {} GPU{}", host.ranks, host.devices, host.devices == 1 ? "" : "s");
    const int used = host.device == "cpu" ? host.threads : host.ranks;
    if (host.cores == 0 || used <= host.cores) return "";
    return used == host.ranks
               ? fmt::format("{} ranks on {} core{}", host.ranks, host.cores, host.cores == 1 ? "" : "s")
               : fmt::format("{} threads of {} ranks on {} cores", used, host.ranks, host.cores);
  };
  for (const Host& host : hosts)
    if (const std::string text = shared(host); !text.empty()) return text;
  return "";
}

void write_machine_record(Session& session, const std::string& run) {
  const Device::Options& device = session.plan().device;
  Communicator& world = session.groups().world;
  const bool gpu = device.kind == DeviceKind::cuda;
  const Nvml nvml;
  const HostFacts host = host_facts(device.threads);
  Json own{{"host", host.name},
           {"device", session.device().name()},
           {"gpu", gpu ? device.gpu : 0},
           {"threads", device.threads},
           {"cores", host.cores}};
  if (const auto state = gpu ? nvml.state(session.device().pci_address()) : std::nullopt) {
    add(own, "clock", state->clock);
    add(own, "highest_clock", state->highest_clock);
    add(own, "power_limit", state->power_limit);
  }
  const std::vector<std::string> ranks = gather_texts(world, own.dump());
  std::string error;
  if (world.rank() == 0) try {
      const MachineRecord record{
          .versions = program_versions(nvml),
          .transport = gpu && world.size() > 1 ? session.groups().transport->description() : "",
          .hosts = hosts_of(ranks)};
      write_durably(run + "/machine.json", sealed_line(to_json(record).dump()) + "\n");
    } catch (const std::exception& failure) {
      error = failure.what();
    }
  if (error = first_error(world, error); !error.empty()) throw DataError("{}", error);
}

std::optional<MachineRecord> read_machine_record(const std::string& run) {
  const std::string path = run + "/machine.json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  std::string text = read_text_file(path, most_config_bytes);
  if (text.ends_with('\n')) text.pop_back();
  if (const std::string message = line_error(text); !message.empty())
    throw DataError("{}: {}", path, message);
  try {
    const Json json = parse_json_bounded(text);
    MachineRecord record{.versions = json.at("versions"), .transport = json.at("transport"), .hosts = {}};
    for (const Json& one : json.at("hosts")) {
      MachineRecord::Host host{.name = one.at("name"),
                               .ranks = one.at("ranks"),
                               .threads = one.at("threads"),
                               .cores = one.at("cores"),
                               .device = one.at("device"),
                               .devices = one.at("devices")};
      read(one, "clock", host.clock);
      read(one, "highest_clock", host.highest_clock);
      read(one, "power_limit", host.power_limit);
      record.hosts.push_back(std::move(host));
    }
    return record;
  } catch (const Json::exception& error) {
    throw DataError("{}: {}", path, error.what());
  }
}

}  // namespace foretoken
