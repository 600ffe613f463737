#include "launch/supervisor/launcher.h"

#include <cstdlib>
#include <string_view>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

namespace foretoken {

std::string with_ranks(std::string launcher, int ranks) {
  constexpr std::string_view placeholder = "{ranks}";
  const std::string number = std::to_string(ranks);
  if (launcher.find(placeholder) == std::string::npos) return fmt::format("{} -n {}", launcher, number);
  for (std::size_t at = 0; (at = launcher.find(placeholder, at)) != std::string::npos; at += number.size())
    launcher.replace(at, placeholder.size(), number);
  return launcher;
}

std::string on_hosts(const std::string& launcher, const std::vector<Host>& hosts) {
  const std::string program = launcher.substr(0, launcher.find(' '));
  if (program != "srun" && !program.ends_with("/srun"))
    return fmt::format("{} --host {}", launcher, host_list(hosts));
  std::string names;
  for (const Host& host : hosts) names += (names.empty() ? "" : ",") + host.name;
  return fmt::format("{} --nodes={} --nodelist={}", launcher, hosts.size(), names);
}

void set_launcher_defaults(int ranks, bool local) {
  const auto set = [](const char* name, const std::string& value) { setenv(name, value.c_str(), 0); };
  set("SLURM_OVERLAP", "1");
  if (geteuid() == 0) {
    set("OMPI_ALLOW_RUN_AS_ROOT", "1");
    set("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  if (local && 2 * ranks > static_cast<int>(std::thread::hardware_concurrency())) {
    set("OMPI_MCA_rmaps_base_oversubscribe", "1");
    set("OMPI_MCA_hwloc_base_binding_policy", "none");
  }
}

}  // namespace foretoken
