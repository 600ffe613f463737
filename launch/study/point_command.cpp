#include "launch/study/point_command.h"

#include <filesystem>

#include <fmt/format.h>

#include "launch/supervisor/launcher.h"
#include "launch/supervisor/subprocess.h"

namespace foretoken {

std::string point_command(const Sweep& sweep, const SweepPoint& point) {
  const std::string folder = folder_of(sweep, point);
  return fmt::format("{} {} train {} --run-directory {} --auto-resume",
                     with_ranks(sweep.launcher, point.ranks),
                     shell_quoted(std::filesystem::read_symlink("/proc/self/exe").string()),
                     shell_quoted(folder + "/config.toml"), shell_quoted(folder + "/run"));
}

}  // namespace foretoken
