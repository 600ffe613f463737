#include "launch/console/stop_notice.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "launch/console/failure.h"

namespace foretoken {

namespace {

/// How long a step may continue before the staged state of an earlier step is written. Rank 0 acknowledges
/// before this time and other ranks after it. If the launcher signals all ranks, rank 0 therefore prints, and
/// the line is in log.txt, which only rank 0 writes.
constexpr std::chrono::milliseconds step_limit{150};

std::string claim_path(const std::string& run) {
  return run + "/stop_requested";
}

}  // namespace

std::string stop_acknowledgement(int signal, std::int64_t step, const std::string& rank_label) {
  return fmt::format("stop requested ({}{}{}): {}", signal_name(signal), rank_label.empty() ? "" : " to ",
                     rank_label,
                     step == 0 ? "still starting up; ends before the first step"
                               : fmt::format("finishing step {}, then a checkpoint", step));
}

StopNotice::StopNotice(Console& console, int rank)
    : console_(console), rank_(rank), listener_([this](int signal) { acknowledge(signal); }) {}

void StopNotice::open_run(Communicator& world, const std::string& run) {
  if (rank_ == 0) ::unlink(claim_path(run).c_str());  // left by a killed run
  world.barrier();
  int signal = 0;
  {
    const std::lock_guard lock(mutex_);
    run_ = run;
    signal = std::exchange(unacknowledged_, 0);
  }
  if (signal != 0 && claim(run)) say(signal);
}

void StopNotice::close_run() {
  const std::lock_guard lock(mutex_);
  act_ = nullptr;
  if (rank_ == 0 && !run_.empty()) ::unlink(claim_path(run_).c_str());
}

void StopNotice::while_in_step(std::function<void()> act) {
  const std::lock_guard lock(mutex_);
  act_ = std::move(act);
}

void StopNotice::acknowledge(int signal) {
  std::string run;
  {
    const std::lock_guard lock(mutex_);
    run = run_;
    if (run.empty() && rank_ > 0) unacknowledged_ = signal;
  }
  if (rank_ == 0 && (run.empty() || claim(run))) say(signal);
  if (run.empty()) return;
  const std::int64_t step = step_;
  std::this_thread::sleep_for(step_limit);
  if (signal != SIGUSR1 && step == step_) {
    const std::lock_guard lock(mutex_);
    if (act_) act_();
  }
  if (rank_ > 0 && claim(run)) say(signal);
}

bool StopNotice::claim(const std::string& run) const {
  const int file = ::open(claim_path(run).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return errno != EEXIST;  // a disk that fails must not suppress the line
  ::close(file);
  return true;
}

void StopNotice::say(int signal) {
  console_.line_of_any_rank(stop_acknowledgement(signal, step_, rank_ == 0 ? "" : rank_label()));
}

}  // namespace foretoken
