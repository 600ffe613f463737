#include "launch/console/failure.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <new>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "io/files/printable.h"
#include "parallel/job.h"
#include "runtime/host/terminal_output.h"

namespace foretoken {
namespace {

/// How long ranks other than 0 wait before they print: the launcher usually ends them first, so that rank 0's
/// message is not repeated.
constexpr std::chrono::seconds patience{3};

/// Limit for writing to stderr: a blocked terminal must not prevent a failed rank, and so its peers, from
/// ending.
constexpr std::chrono::seconds reader_patience{5};

struct RankName {
  int rank = 0;
  std::string label;  // empty: a program outside any job
};

RankName name_by_environment() {
  const Job job = job_by_environment();
  return job.id.empty() ? RankName{} : RankName{job.rank, fmt::format("rank {}", job.rank)};
}

RankName& rank_name() {
  static RankName name = name_by_environment();
  return name;
}

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (std::size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at))
    text.replace(at, 1, "; ");
  return text;
}

}  // namespace

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), one_line(error.what())};
  } catch (const std::bad_alloc&) {
    return {ExitCode::defect, "memory: this machine does not have enough memory for this rank"};
  } catch (const std::exception& error) {
    return {ExitCode::defect, one_line(fmt::format("defect: {}", error.what()))};
  } catch (...) {
    return {ExitCode::defect, "defect: an exception of unknown type"};
  }
}

void name_rank(int rank, const std::string& label) {
  rank_name() = {rank, label};
}

std::string rank_label() {
  return rank_name().label;
}

void say_as_rank(const std::string& text) {
  std::fflush(stdout);
  const std::string& label = rank_name().label;
  const std::string line =
      fmt::format("{} {}\n", label.empty() ? "foretoken:" : "[" + label + "]", printable(one_line(text)));
  TerminalOutput(STDERR_FILENO).write(line, reader_patience);
}

void report(const Failure& failure) {
  if (rank_name().rank != 0) {
    for (const int signal : {SIGTERM, SIGINT, SIGHUP})
      std::signal(signal, SIG_DFL);  // while this rank waits, the launcher's signal must end it
    std::this_thread::sleep_for(patience);
  }
  say_as_rank(failure.message);
}

}  // namespace foretoken
