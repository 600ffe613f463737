// The program of the multi-rank tests: mpirun -n N test_multi_rank --ranks N "[ranksN]".
//
// The program fails, and never skips, if the world size differs from --ranks, if the selection has no case,
// or if a case has no [ranksN] tag or one without a CTest entry.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#endif
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "io/datasets/dataset_examination.h"
#include "runtime/error.h"
#include "tests/support/multi_rank.h"
#include "tests/support/multi_rank_output.h"

namespace foretoken::multi_rank {

namespace {

// Time within which a peer whose check failed must reach the end of the case.
constexpr Seconds wait_limit{60};
constexpr Seconds wait_limit_of_failed{5};

struct Run {
  MpiWorld* mpi = nullptr;
  MpiCommunicator* world = nullptr;    // communicator of the tests
  MpiCommunicator* harness = nullptr;  // separate, so that its messages cannot match a failed test's messages
  std::string tag;                     // for example "[ranks4]"
  int cases = 0;
};
Run run;

[[noreturn]] void end(const std::string& why) {
  std::cout.flush();
  std::fprintf(stderr, "multi-rank tests: %s\n", why.c_str());
  show_held_output();
  run.mpi->abort(ExitCode::defect);
}

#if __has_include(<catch2/catch_all.hpp>)
using ListenerBase = Catch::EventListenerBase;
#else
using ListenerBase = Catch::TestEventListenerBase;
#endif

/// Keeps the ranks in lockstep: if a rank does not reach the end of a case, the run ends.
class Lockstep : public ListenerBase {
 public:
  using ListenerBase::ListenerBase;
  static std::string getDescription() { return "keeps the ranks in lockstep"; }

  void testCaseStarting(const Catch::TestCaseInfo& info) override {
    case_ = info.name;
    if (info.tagsAsString().find(run.tag) == std::string::npos)
      end(fmt::format("case \"{}\" is not tagged {}", case_, run.tag));
    ++run.cases;
    run.mpi->limits() = MpiLimits{.wait = wait_limit};
  }

  void fatalErrorEncountered(Catch::StringRef) override { dying_ = true; }

  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    if (dying_) return;  // inside a signal handler
    const bool failed = stats.totals.assertions.failed > 0;
    run.mpi->limits() = MpiLimits{.wait = failed ? wait_limit_of_failed : wait_limit};
    try {
      run.harness->barrier();
    } catch (const PeerError& error) {
      end(fmt::format("the ranks diverged in case \"{}\": {}", case_, error.what()));
    }
  }

 private:
  std::string case_;
  bool dying_ = false;
};

CATCH_REGISTER_LISTENER(Lockstep)

/// Every N in the "[ranksN]" tags of a case.
std::vector<int> ranks_of(const std::string& tags) {
  const std::string opening = "[ranks";
  std::vector<int> ranks;
  for (std::size_t at = 0; (at = tags.find(opening, at)) != std::string::npos; at += opening.size())
    ranks.push_back(std::atoi(tags.c_str() + at + opening.size()));
  return ranks;
}

/// Describes a registered case that no CTest entry would run; absent if there is none.
std::optional<std::string> unreachable_case(const Catch::IConfig& config) {
  const std::vector<int> entries{FORETOKEN_MULTI_RANK_ENTRIES};
  for (const auto& test : Catch::getAllTestCasesSorted(config)) {
    const Catch::TestCaseInfo& info = test.getTestCaseInfo();
    const std::vector<int> ranks = ranks_of(info.tagsAsString());
    if (ranks.empty()) return fmt::format("case \"{}\" has no [ranksN] tag", info.name);
    for (const int count : ranks)
      if (std::find(entries.begin(), entries.end(), count) == entries.end())
        return fmt::format("case \"{}\" is tagged [ranks{}], which CTest does not run", info.name, count);
  }
  return std::nullopt;
}

/// Removes "--ranks N" from the arguments; the others are for Catch2.
int take_ranks(std::vector<char*>& arguments) {
  const auto option = std::find_if(arguments.begin(), arguments.end(),
                                   [](const char* argument) { return std::string(argument) == "--ranks"; });
  if (option == arguments.end() || option + 1 == arguments.end()) return 0;
  const int ranks = std::atoi(option[1]);
  arguments.erase(option, option + 2);
  return ranks;
}

int failed_ranks(bool failed) {
  std::int32_t count = failed ? 1 : 0;
  run.harness->all_reduce(tensor_over(std::span(&count, 1), {1}));
  return count;
}

int run_session(std::vector<char*> arguments) {
  const int ranks = take_ranks(arguments);
  MpiWorld mpi({.wait = wait_limit});
  run.mpi = &mpi;
  if (mpi.size() != ranks) {
    if (mpi.rank() == 0)
      std::fprintf(stderr, "multi-rank tests: the world has size %d, but --ranks is %d\n", mpi.size(), ranks);
    return static_cast<int>(ExitCode::usage);
  }
  if (mpi.rank() > 0) hold_output(mpi.rank());
  try {
    MpiCommunicator world(mpi), harness(mpi, "test harness");
    run.world = &world;
    run.harness = &harness;
    run.tag = fmt::format("[ranks{}]", ranks);

    Catch::Session session;
    if (session.applyCommandLine(static_cast<int>(arguments.size()), arguments.data()) != 0)
      end("bad command line");
    if (const auto problem = unreachable_case(session.config())) end(*problem);
    const int result = session.run();
    if (run.cases == 0) end("no case was selected");
    mpi.limits() = MpiLimits{.wait = wait_limit};
    if (result != 0) show_held_output();
    const int failed = failed_ranks(result != 0);
    if (failed > 0 && mpi.rank() == 0)
      std::fprintf(stderr, "multi-rank tests: %d of %d ranks failed\n", failed, ranks);
    return failed > 0 ? static_cast<int>(ExitCode::defect) : 0;
  } catch (const std::exception& error) {
    end(error.what());
  }
}

}  // namespace

MpiCommunicator& world() {
  return *run.world;
}

}  // namespace foretoken::multi_rank

int main(int argc, char** argv) {
  if (const std::optional<int> code = foretoken::run_examination(argc, argv)) return *code;
  return foretoken::multi_rank::run_session({argv, argv + argc});
}
