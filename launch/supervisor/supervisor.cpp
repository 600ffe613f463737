#include "launch/supervisor/supervisor.h"

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/lineage.h"
#include "io/checkpoint/run_directory.h"
#include "io/checkpoint/run_lock.h"
#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/config/elastic_layout.h"
#include "launch/config/options.h"
#include "launch/console/console.h"
#include "launch/console/stop_signal.h"
#include "launch/supervisor/hosts.h"
#include "launch/supervisor/launcher.h"
#include "launch/supervisor/output_follower.h"
#include "launch/supervisor/restart_policy.h"
#include "launch/supervisor/subprocess.h"
#include "runtime/error.h"
#include "runtime/host/utc_time.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds pause{50};
/// How long the last lines may wait for a reader of stdout.
constexpr std::chrono::seconds last_lines_limit{2};

std::string host_name() {
  std::string name(256, '\0');
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.c_str();
}

/// The number of ranks: Slurm's, or pp × dp.
int default_ranks(const Config& config) {
  if (const char* text = std::getenv("SLURM_NTASKS")) {
    int tasks = 0;
    const char* end = text + std::strlen(text);
    const auto [rest, error] = std::from_chars(text, end, tasks);
    if (error == std::errc() && rest == end && tasks > 0) return tasks;
  }
  if (config.parallel.dp > 0) return config.parallel.pp * config.parallel.dp;
  throw UsageError("run: the number of ranks is unknown: expected -n, SLURM_NTASKS or parallel.dp above 0");
}

/// Opens the run's folder. If it does not exist or is empty, creates the run with the resolved configuration.
RunDirectory open_or_create(const std::string& path, const Config& config) {
  std::error_code ignored;
  if (fs::exists(path, ignored) && !fs::is_empty(path, ignored)) return RunDirectory::open(path);
  return RunDirectory::create_at(path, to_toml(config));
}

/// The step of the newest checkpoint that can be opened; -1: none.
std::int64_t newest_step(const RunDirectory& run) {
  try {
    for (const fs::path& directory : checkpoints_at(run.path())) try {
        return Checkpoint::open(directory).info().step;
      } catch (const Error&) {
        continue;
      }
  } catch (const Error&) {
    return -1;
  }
  return -1;
}

class Supervisor {
 public:
  Supervisor(const Config& config, const RunArguments& arguments)
      : arguments_(arguments),
        config_(config),
        wanted_(arguments.ranks > 0 ? arguments.ranks : default_ranks(config)),
        hosts_(arguments.hostfile.empty() ? allocated_hosts() : read_hostfile(arguments.hostfile)),
        layout_(config),
        run_(open_or_create(arguments.run_directory, config)),
        attempts_(fs::path(run_.path()) / "attempts"),
        policy_(arguments.max_restarts, newest_step(run_)),
        console_(true) {
    std::error_code error;
    fs::create_directories(attempts_, error);
    if (error) throw DataError("run: {}: cannot be created: {}", attempts_.string(), error.message());
    console_.open_log((attempts_ / "supervisor.log").string());
  }

  int run() {
    // Without hosts, the first attempt reports what is missing.
    if (arguments_.doctor && stop_signal() == 0 && choose_hosts()) {
      const CommandEnd end = examine();
      if (end.code != 0 && stop_signal() == 0)
        return finish({.code = end.code, .reason = "foretoken doctor found something wrong"});
    }
    for (;;) {
      if (stop_signal() != 0)
        return finish({.code = static_cast<int>(ExitCode::resumable), .reason = "asked to stop"});
      const CommandEnd end =
          choose_hosts() ? attempt() : CommandEnd{.code = static_cast<int>(ExitCode::peer)};
      const std::int64_t step = newest_step(run_);
      const Decision decision = policy_.after({.code = end.code,
                                               .step = step,
                                               .stop_requested = stop_requested(end.code),
                                               .run_was_held = run_was_held(end.code)});
      const std::string checkpoint =
          step < 0 ? "no checkpoint" : fmt::format("newest checkpoint: step {}", step);
      console_.line(
          fmt::format("attempt    {} ended with code {}{}; {}", number_, end.code, meaning(end), checkpoint));
      if (!decision.again) return finish(decision);
      console_.line(fmt::format("restart    in {} s ({})", decision.pause.count(), decision.reason));
      rest(decision.pause);
    }
  }

 private:
  static std::string meaning(const CommandEnd& end) {
    if (end.cut_short) return " (ended by this supervisor)";
    if (end.code <= 128) return "";
    const char* name = strsignal(end.code - 128);
    return fmt::format(" ({}{})", name == nullptr ? "signal" : name,
                       end.code == 137 ? ": by a user, or because memory ran out" : "");
  }

  /// Slurm sends some signals to the ranks only (preemption, --signal without B:).
  static bool stop_requested(int code) {
    const bool resumable = code == static_cast<int>(ExitCode::resumable);
    return stop_signal() != 0 || (resumable && std::getenv("SLURM_JOB_ID") != nullptr);
  }

  /// A job on a lost host holds the run until its heartbeat has expired.
  bool run_was_held(int code) {
    if (code != static_cast<int>(ExitCode::usage) || stop_signal() != 0) return false;
    const bool silent = holder_falls_silent(run_.path(), [] { return stop_signal() != 0; });
    if (silent) console_.line("run lock   its holder on another host is silent or has ended: trying again");
    return silent;
  }

  /// Determines the available hosts, and the number of ranks and the layout for them. Returns false if there
  /// are too few.
  bool choose_hosts() {
    int available = wanted_;
    if (!hosts_.empty()) {
      const std::vector<Host> found =
          arguments_.hostfile.empty() ? allocated_and_up(hosts_) : reachable(hosts_);
      if (found != here_ && (found != hosts_ || !here_.empty()))
        console_.line(fmt::format("hosts      {} of {} are available: {}", found.size(), hosts_.size(),
                                  host_list(found)));
      here_ = found;
      // If all hosts are available, the launcher decides whether to start more ranks than slots.
      if (found != hosts_) available = std::min(wanted_, slots_of(found));
      if (available < wanted_ && !(config_.parallel.elastic && available > 0)) {
        console_.line(fmt::format("hosts      {} for {}: too few{}", counted(slots_of(found), "slot"),
                                  counted(wanted_, "rank"),
                                  available > 0 ? "; with --elastic the run continues with fewer" : ""));
        return false;
      }
    }
    const int ranks_before = ranks_;
    layout_ = config_.parallel.elastic ? layout_for_at_most(config_, available) : config_;
    const bool other = !is_same_layout(layout_.parallel, config_.parallel);
    ranks_ = other ? layout_.parallel.pp * layout_.parallel.dp : available;
    if (other && ranks_ != ranks_before)
      console_.line(fmt::format(
          "elastic    {} of {} available ranks use {}, because the configured layout does not fit them",
          ranks_, available, layout_text(layout_, ranks_)));
    return true;
  }

  /// The command that starts the ranks with a command of this program, such as "train", its configuration,
  /// `arguments` and the settings.
  std::string command(const char* name, const std::string& arguments) const {
    std::string launcher = arguments_.launcher.empty() ? "mpirun" : arguments_.launcher;
    // Slurm's launchers use the whole allocation by default.
    if (!arguments_.hostfile.empty() || here_ != hosts_) launcher = on_hosts(launcher, here_);
    std::string line = with_ranks(launcher, ranks_);
    line += fmt::format(" {} {} {} {}", shell_quoted(fs::read_symlink("/proc/self/exe").string()), name,
                        shell_quoted(arguments_.config_path), arguments);
    for (const std::string& set : sets()) line += " --set " + shell_quoted(set);
    return line;
  }

  /// The --set flags for the ranks: those of the command line and, for an elastic run, the layout that this
  /// process chose.
  std::vector<std::string> sets() const {
    std::vector<std::string> all = arguments_.sets;
    if (!layout_.parallel.elastic) return all;
    for (const char* key : {"elastic", "pp", "dp", "virtual_stages", "schedule", "blocks_per_stage"}) {
      const Option& option = *find_option("parallel", key);
      const std::string begin = option.name() + "=";
      std::erase_if(all, [&](const std::string& set) { return set.starts_with(begin); });
      all.push_back(begin + to_toml(option.get(layout_)));
    }
    return all;
  }

  /// The log of this attempt: a new file with the next free number.
  std::string new_log() {
    for (int number = 1;; ++number) {
      const fs::path path = attempts_ / fmt::format("{:04}.log", number);
      const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file >= 0) {
        close(file);
        number_ = number;
        return path.string();
      }
      if (errno != EEXIST)
        throw DataError("run: {}: cannot be created: {}", path.string(), std::strerror(errno));
    }
  }

  CommandEnd attempt() {
    const std::string log = new_log();
    console_.line(fmt::format("attempt    {} on {}, {}", number_, counted(ranks_, "rank"), log));
    return run_ranks(
        command("train", fmt::format("--run-directory {} --auto-resume", shell_quoted(run_.path()))), log);
  }

  /// Runs `foretoken doctor` on the ranks that the first attempt will use.
  CommandEnd examine() {
    const std::string log = (attempts_ / "doctor.log").string();
    std::error_code ignored;
    fs::remove(log, ignored);  // of an earlier start
    return run_ranks(command("doctor", "--run " + shell_quoted(run_.path())), log);
  }

  /// Runs a command that starts ranks, and copies its output to the log and to the console.
  CommandEnd run_ranks(const std::string& line, const std::string& log) {
    const auto note = [&](const std::string& text) {
      std::ofstream(log, std::ios::app) << "# " << text << '\n';
    };
    note("command: " + line);
    note(fmt::format("host: {}, process {}, started {}", host_name(), getpid(), utc_time()));
    OutputFollower output(log);
    const CommandEnd end =
        run_command(line, {.output_file = log,
                           .grace = std::chrono::seconds(arguments_.grace),
                           .startup_limit = std::chrono::seconds(config_.parallel.startup_seconds),
                           .meanwhile = [&] { output.copy(); },
                           .log = [&](const std::string& text) { console_.line(text); }});
    note(fmt::format("ended {} with code {}{}", utc_time(), end.code, meaning(end)));
    const auto since = std::chrono::steady_clock::now();
    while (!output.copy() && std::chrono::steady_clock::now() - since < last_lines_limit)
      std::this_thread::sleep_for(pause);
    return end;
  }

  static void rest(std::chrono::seconds duration) {
    const auto start = std::chrono::steady_clock::now();
    while (stop_signal() == 0 && std::chrono::steady_clock::now() - start < duration)
      std::this_thread::sleep_for(pause);
  }

  int finish(const Decision& decision) {
    console_.line(fmt::format("{:<11}{}: code {}; {}", decision.code == 0 ? "done" : "ended", decision.reason,
                              decision.code, run_.path()));
    if (decision.code == static_cast<int>(ExitCode::resumable))
      console_.line("stopped    the same command resumes it");
    return decision.code;
  }

  const RunArguments& arguments_;
  const Config& config_;
  int wanted_;               // number of ranks
  std::vector<Host> hosts_;  // that may be used; empty: unknown, the launcher decides
  std::vector<Host> here_;   // those of hosts_ that are available now
  Config layout_;
  int ranks_ = 0;  // number of ranks that are started
  RunDirectory run_;
  fs::path attempts_;
  RestartPolicy policy_;
  Console console_;
  int number_ = 0;  // number of the attempt
};

}  // namespace

int supervise(const Config& config, const RunArguments& arguments) {
  catch_stop_signals();
  validate(config);
  const bool local = arguments.launcher.empty() && std::getenv("SLURM_JOB_ID") == nullptr;
  set_launcher_defaults(arguments.ranks > 0 ? arguments.ranks : default_ranks(config), local);
  return Supervisor(config, arguments).run();
}

}  // namespace foretoken
