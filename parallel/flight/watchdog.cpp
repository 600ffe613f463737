#include "parallel/flight/watchdog.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <optional>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "parallel/flight/flight_sentence.h"

namespace foretoken {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto watch_pause = 200ms, gather_pause = 50ms, end_pause = 50ms;
/// Seconds by which a wait may exceed its limit before the watchdog acts. A polling wait ends at its limit by
/// itself; a wait inside MPI does not.
constexpr double grace_of_polling_waits = 2;
/// The watchdog looks five times a second. If it could not for this long, the process did not run.
constexpr Seconds shortest_pause{1};
/// Seconds without communication after which the rank checks whether another rank has abandoned the job.
constexpr double quiet = 1;
/// siblings_limit: time that the last rank of a host waits for the host's other ranks to leave.
/// launcher_limit: time that this last rank then waits for the launcher to end the rank. report_limit: time
/// that every other rank waits for the reporting rank.
constexpr Seconds siblings_limit{2}, launcher_limit{4}, report_limit{1};

constexpr const char* conclusion_file = "conclusion.txt";

std::int64_t nanoseconds_from_now(Seconds delay) {
  return (Clock::now().time_since_epoch() + std::chrono::duration_cast<Clock::duration>(delay)).count();
}

void sleep_for(Seconds time) {
  std::this_thread::sleep_for(time);
}

[[noreturn]] void sleep_until_the_end() {
  for (;;) std::this_thread::sleep_for(1h);
}

}  // namespace

Watchdog::Watchdog(const FlightRecorder& recorder, const Job& job, Options options)
    : recorder_(recorder),
      job_(job),
      log_(std::move(options.log)),
      folder_(std::move(options.folder)),
      ran_(Clock::now()),
      code_(static_cast<int>(ExitCode::peer)),
      thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  if (abandoning_) sleep_until_the_end();  // another thread ends the process
  ends_ = true;
  thread_.join();
}

void Watchdog::set_identities(std::vector<RankIdentity> identities) {
  const std::lock_guard lock(mutex_);
  identities_ = std::move(identities);
}

void Watchdog::set_labels(const std::vector<std::string>& labels) {
  const std::lock_guard lock(mutex_);
  for (std::size_t rank = 0; rank < std::min(labels.size(), identities_.size()); ++rank)
    identities_[rank].label = labels[rank];
}

void Watchdog::set_folder(const std::filesystem::path& folder) {
  const std::lock_guard lock(mutex_);
  folder_ = folder;
}

std::filesystem::path Watchdog::folder() const {
  const std::lock_guard lock(mutex_);
  return folder_;
}

void Watchdog::watch() {
  auto asked = Clock::now();
  while (!ends_) {
    std::this_thread::sleep_for(watch_pause);
    pause();
    if (const std::int64_t deadline = deadline_; deadline != 0) {
      if (Clock::now().time_since_epoch().count() < deadline) continue;
      for (const LocalProcess& process : local_processes(job_))
        if (process.pid != getpid()) kill(process.pid, SIGKILL);
      if (const int daemon = remote_daemon(); daemon > 0) kill(daemon, SIGKILL);
      std::_Exit(code_);
    }
    std::string reason;
    if (const std::optional<double> overdue = recorder_.overdue();
        overdue && *overdue > grace_of_polling_waits) {
      reason = fmt::format("an MPI call exceeds its time limit by {:.0f} s", *overdue);
    } else if (recorder_.idle() > quiet && Clock::now() - asked > 1s) {
      asked = Clock::now();
      if (another_rank_abandoned()) reason = "another rank abandoned the job";
    }
    if (reason.empty() || !start_abandoning()) continue;
    std::thread([this, reason] {
      conclude(reason);
      leave(ExitCode::peer, [] { std::_Exit(static_cast<int>(ExitCode::peer)); });
    }).detach();
  }
}

std::optional<Pause> Watchdog::pause() {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  if (const Seconds away = now - ran_; away > shortest_pause) {
    paused_ = away;
    pause_end_ = now;
  }
  ran_ = now;
  if (paused_ == Seconds{}) return std::nullopt;
  return Pause{.seconds = paused_.count(), .before_record = Seconds(now - pause_end_).count()};
}

bool Watchdog::another_rank_abandoned() const {
  std::error_code error;
  for (std::filesystem::directory_iterator i(folder(), error), end; !error && i != end; i.increment(error)) {
    const std::string name = i->path().filename().string();
    if (name.starts_with("rank_") && name.ends_with(".txt")) return true;
  }
  return false;
}

bool Watchdog::start_abandoning() {
  if (abandoning_.exchange(true)) return false;
  deadline_ = nanoseconds_from_now(end_limit);
  return true;
}

void Watchdog::abandon(const std::string& reason) {
  if (!start_abandoning()) sleep_until_the_end();
  conclude(reason);
}

void Watchdog::conclude(const std::string& reason) try {
  const std::filesystem::path folder = this->folder();
  // The launcher may continue a stopped rank in order to end it. Such a rank must not leave a record, which
  // would show that it arrived.
  if (std::error_code error; std::filesystem::exists(folder / conclusion_file, error)) return;
  FlightFile own{.record = recorder_.record(),
                 .pause = pause(),
                 .reason = reason,
                 .ranks = {},
                 .processes = local_processes(job_)};
  own.record.rank = job_.rank;
  own.record.size = job_.size;
  {
    const std::lock_guard lock(mutex_);
    own.ranks = identities_;
  }
  write_flight_file(folder, own);

  std::vector<FlightFile> files;
  const auto limit = Clock::now() + gather_limit;
  do {
    std::this_thread::sleep_for(gather_pause);
    files = read_flight_files(folder);
  } while (std::ssize(files) < job_.size && Clock::now() < limit);

  if (files.front().record.rank != job_.rank) {
    sleep_for(report_limit);
    return;
  }
  const std::string conclusion = sentence(first_divergence(files, job_.size), files, job_.size);
  std::ofstream(folder / conclusion_file) << conclusion << '\n';
  log_(reason);
  log_(fmt::format("{}; flight records: {}", conclusion, folder.string()));
} catch (const std::exception& error) {
  log_(fmt::format("{}; {}", reason, error.what()));
}

/// Whether this rank leaves last: no running rank of this host with a lower number has written a record. If
/// no record can be read, whether no rank of this host with a lower number is running.
bool Watchdog::is_last_of_host() const {
  const std::vector<LocalProcess> processes = local_processes(job_);
  std::vector<int> recorded;
  try {
    for (const FlightFile& file : read_flight_files(folder())) recorded.push_back(file.record.rank);
  } catch (const std::exception&) {
  }
  return std::none_of(processes.begin(), processes.end(), [&](const LocalProcess& process) {
    if (process.rank >= job_.rank || process.stopped() || process.ended()) return false;
    return recorded.empty() || std::find(recorded.begin(), recorded.end(), process.rank) != recorded.end();
  });
}

void Watchdog::end_host() {
  const auto others = [&] {
    std::vector<LocalProcess> processes = local_processes(job_);
    std::erase_if(processes, [&](const LocalProcess& p) { return p.rank == job_.rank || p.ended(); });
    return processes;
  };
  const auto limit = Clock::now() + std::chrono::duration_cast<Clock::duration>(siblings_limit);
  while (!others().empty() && Clock::now() < limit) std::this_thread::sleep_for(end_pause);
  for (const LocalProcess& process : others()) kill(process.pid, SIGKILL);
}

void Watchdog::leave(ExitCode code, const std::function<void()>& abort) {
  code_ = static_cast<int>(code);
  abandoning_ = true;
  if (deadline_ == 0) deadline_ = nanoseconds_from_now(end_limit);
  // Under a daemon the last rank of the host does not call abort(), which might end this rank. The rank
  // stays, to check that the daemon ends the other ranks and then exits. On the launcher's own host the
  // launcher ends all ranks.
  const int daemon = code == ExitCode::peer ? remote_daemon() : 0;
  if (daemon > 0 && is_last_of_host()) {
    end_host();
    sleep_for(launcher_limit);
    if (remote_daemon() == daemon) kill(daemon, SIGKILL);
  } else {
    abort();
  }
  std::_Exit(static_cast<int>(code));
}

}  // namespace foretoken
