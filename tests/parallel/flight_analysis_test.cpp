// Tests that the rank that blocks a job is found in the records of simulated ranks. Each rank starts the
// operations of its layout in order until one cannot complete.

#include "parallel/flight/flight_analysis.h"

#include <fmt/format.h>

#include "parallel/flight/flight_sentence.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"

using namespace foretoken;
using foretoken::testing::contains;
using Kind = FlightRecord::Kind;

namespace {

/// One operation of a rank's step.
struct Step {
  std::string channel;
  Kind kind = Kind::collective;
  std::string name;
  int peer = -1;  // world rank
};

/// A job whose ranks repeat their steps, and the flight records that they leave.
class SimulatedJob {
 public:
  explicit SimulatedJob(int size) : steps_(static_cast<std::size_t>(size)) {}

  void collective(const std::string& channel, const std::vector<int>& ranks, const std::string& name) {
    members_[channel] = ranks;
    for (const int rank : ranks) steps_[rank].push_back({channel, Kind::collective, name, -1});
  }
  void message(const std::string& channel, const std::vector<int>& ranks, int from, int to) {
    members_[channel] = ranks;
    steps_[from].push_back({channel, Kind::send, "send", to});
    steps_[to].push_back({channel, Kind::receive, "receive", from});
  }

  /// Returns the records at the time when no rank can continue. Rank `stopped` stops after `operations`
  /// operations. A send waits until the receive is posted, as for large messages.
  std::vector<FlightFile> run_until_stuck(int stopped, std::size_t operations, bool leaves_record = false) {
    const int size = static_cast<int>(steps_.size());
    std::vector<std::size_t> done(steps_.size());
    for (bool moves = true; moves;) {
      moves = false;
      for (int rank = 0; rank < size; ++rank) {
        if (rank == stopped && done[rank] == operations) continue;
        if (completes(rank, done, stopped, operations)) {
          ++done[rank];
          moves = true;
        }
      }
    }
    std::vector<FlightFile> files;
    for (int rank = 0; rank < size; ++rank) {
      const bool is_stopped = rank == stopped;
      if (is_stopped && !leaves_record) continue;
      files.push_back(file_of(rank, done[rank], !is_stopped));
    }
    return files;
  }

 private:
  const Step& step(int rank, std::size_t at) const { return steps_[rank][at % steps_[rank].size()]; }

  /// Whether the rank's next operation can complete: every other rank in it has started enough operations of
  /// the channel.
  bool completes(int rank, const std::vector<std::size_t>& done, int stopped, std::size_t operations) const {
    const Step& own = step(rank, done[rank]);
    const std::uint64_t place = count(rank, done[rank], own);
    const auto has_started = [&](int other, Step theirs) {
      const bool has_stopped = other == stopped && done[other] == operations;
      return count(other, done[other] + (has_stopped ? 0 : 1), theirs) > place;
    };
    if (own.kind == Kind::collective) {
      for (const int other : members_.at(own.channel))
        if (other != rank && !has_started(other, own)) return false;
      return true;
    }
    return has_started(own.peer,
                       {own.channel, own.kind == Kind::send ? Kind::receive : Kind::send, "", rank});
  }

  /// Number of the rank's first `operations` operations with the channel, the kind and, for messages, the
  /// peer of `like`.
  std::uint64_t count(int rank, std::size_t operations, const Step& like) const {
    std::uint64_t found = 0;
    for (std::size_t i = 0; i < operations; ++i) {
      const Step& s = step(rank, i);
      found += s.channel == like.channel && s.kind == like.kind &&
               (s.kind == Kind::collective || s.peer == like.peer);
    }
    return found;
  }

  FlightFile file_of(int rank, std::size_t done, bool waits) const {
    FlightRecorder recorder;
    std::map<std::string, int> channels;
    for (const auto& [name, ranks] : members_)
      if (std::find(ranks.begin(), ranks.end(), rank) != ranks.end())
        channels[name] = recorder.add_channel(name, ranks);
    std::optional<FlightRecorder::Wait> wait;
    for (std::size_t i = 0; i < done + (waits ? 1 : 0); ++i) {
      const Step& s = step(rank, i);
      const auto& ranks = members_.at(s.channel);
      const int peer = static_cast<int>(std::find(ranks.begin(), ranks.end(), s.peer) - ranks.begin());
      const std::uint64_t number =
          recorder.start(s.name.c_str(), channels.at(s.channel), s.kind, 64,
                         s.kind == Kind::collective ? -1 : peer, s.kind == Kind::collective ? -1 : 0);
      if (i < done)
        recorder.finish(number);
      else
        wait.emplace(recorder, number, std::chrono::duration<double>(1));
    }
    FlightFile file{.record = recorder.record(), .reason = "test", .ranks = {}, .processes = {}};
    file.record.rank = rank;
    file.record.size = static_cast<int>(steps_.size());
    return parse_flight_file(to_text(file), "memory");  // a round trip through the file format
  }

  std::vector<std::vector<Step>> steps_;
  std::map<std::string, std::vector<int>> members_;
};

/// A step like 1F1B's: activations are sent downstream and gradients upstream, then the groups reduce.
SimulatedJob training(int pp, int dp, int virtual_stages, bool shares_weights) {
  SimulatedJob job(pp * dp);
  std::vector<int> world;
  for (int rank = 0; rank < pp * dp; ++rank) world.push_back(rank);
  const auto rank_of = [&](int pp_rank, int dp_rank) { return dp_rank * pp + pp_rank; };
  for (int d = 0; d < dp; ++d) {
    std::vector<int> pipeline;
    for (int p = 0; p < pp; ++p) pipeline.push_back(rank_of(p, d));
    const std::string name = fmt::format("pipeline of dp{}", d);
    const int stages = pp * virtual_stages;
    for (int microbatch = 0; microbatch < 2 && pp > 1; ++microbatch) {
      for (int stage = 1; stage < stages; ++stage)
        job.message(name, pipeline, rank_of((stage - 1) % pp, d), rank_of(stage % pp, d));
      for (int stage = stages - 1; stage > 0; --stage)
        job.message(name, pipeline, rank_of(stage % pp, d), rank_of((stage - 1) % pp, d));
    }
    if (shares_weights && pp > 1)
      job.collective(fmt::format("pp0,{} of dp{}", pp - 1, d), {rank_of(0, d), rank_of(pp - 1, d)},
                     "all-reduce");
  }
  for (int p = 0; p < pp && dp > 1; ++p) {
    std::vector<int> group;
    for (int d = 0; d < dp; ++d) group.push_back(rank_of(p, d));
    job.collective(fmt::format("dp of pp{}", p), group, "reduce-scatter");
    job.collective(fmt::format("dp of pp{}", p), group, "all-gather");
  }
  job.collective("world", world, "all-reduce");
  return job;
}

struct Layout {
  const char* name;
  int pp, dp, virtual_stages;
  bool shares_weights;
};

constexpr Layout layouts[] = {{"dp 2", 1, 2, 1, false},       {"pp 2", 2, 1, 1, true},
                              {"pp 4", 4, 1, 1, true},        {"pp 4, dp 2", 4, 2, 1, true},
                              {"pp 2, dp 2", 2, 2, 1, false}, {"pp 2, dp 2, shared", 2, 2, 1, true},
                              {"interleaved", 2, 1, 2, true}, {"interleaved, dp 2", 2, 2, 2, true}};

}  // namespace

TEST_CASE("the stopped rank is named in every layout and at every moment") {
  for (const Layout& layout : layouts)
    for (int stopped = 0; stopped < layout.pp * layout.dp; ++stopped)
      for (std::size_t operations = 0; operations < 30; ++operations) {
        SimulatedJob job = training(layout.pp, layout.dp, layout.virtual_stages, layout.shares_weights);
        const auto files = job.run_until_stuck(stopped, operations);
        const Divergence found = first_divergence(files, layout.pp * layout.dp);
        CAPTURE(layout.name, stopped, operations, sentence(found, files, layout.pp * layout.dp));
        REQUIRE(found.kind == Divergence::Kind::no_record);
        REQUIRE(found.ranks == std::vector<int>{stopped});
        REQUIRE(found.waiting.size() == files.size());
        REQUIRE_FALSE(found.operation.empty());
      }
}

TEST_CASE("a rank that hangs outside any communication is named with the operation that it did not enter") {
  for (const Layout& layout : layouts)
    for (int stopped = 0; stopped < layout.pp * layout.dp; ++stopped)
      for (std::size_t operations = 0; operations < 30; ++operations) {
        SimulatedJob job = training(layout.pp, layout.dp, layout.virtual_stages, layout.shares_weights);
        const auto files = job.run_until_stuck(stopped, operations, true);
        const Divergence found = first_divergence(files, layout.pp * layout.dp);
        CAPTURE(layout.name, stopped, operations, sentence(found, files, layout.pp * layout.dp));
        REQUIRE(found.kind == Divergence::Kind::absent);
        REQUIRE(found.ranks == std::vector<int>{stopped});
        REQUIRE(found.waiting.size() + 1 == files.size());
      }
}

TEST_CASE(
    "the operation that a rank did not enter has the number after the last one that it entered in the "
    "channel") {
  SimulatedJob job(3);
  job.collective("world", {0, 1, 2}, "barrier");
  const auto files = job.run_until_stuck(2, 17, true);
  const Divergence found = first_divergence(files, 3);
  CHECK(found.operation == "barrier #18 of \"world\"");
  CHECK_THAT(sentence(found, files, 3), contains("rank 2 did not enter barrier #18 of \"world\"") &&
                                            contains("all other ranks wait for it"));
}

namespace {

FlightFile waiting_in(int rank, int size, const char* name, const std::string& channel,
                      std::vector<int> ranks, std::uint64_t bytes = 8) {
  FlightRecorder recorder;
  const int number = recorder.add_channel(channel, std::move(ranks));
  const FlightRecorder::Wait wait(recorder, recorder.start(name, number, Kind::collective, bytes),
                                  std::chrono::duration<double>(1));
  FlightFile file{.record = recorder.record(), .reason = {}, .ranks = {}, .processes = {}};
  file.record.rank = rank;
  file.record.size = size;
  return file;
}

}  // namespace

TEST_CASE("two ranks in different operations at the same position of a channel are both named") {
  const std::vector<FlightFile> files{waiting_in(0, 2, "all-reduce", "world", {0, 1}, 64),
                                      waiting_in(1, 2, "broadcast", "world", {0, 1}, 8)};
  const Divergence found = first_divergence(files, 2);
  CHECK(found.kind == Divergence::Kind::mismatch);
  CHECK_THAT(sentence(found, files, 2), contains("rank 0 is in all-reduce #1 of \"world\" of 64 bytes") &&
                                            contains("rank 1 in broadcast of 8 bytes"));
}

TEST_CASE("ranks that wait for each other in different channels are named as such") {
  const std::vector<FlightFile> files{waiting_in(0, 2, "all-reduce", "dp", {0, 1}),
                                      waiting_in(1, 2, "barrier", "world", {0, 1})};
  const Divergence found = first_divergence(files, 2);
  CHECK(found.kind == Divergence::Kind::cycle);
  CHECK(found.ranks == std::vector<int>{0, 1});
}

TEST_CASE("if all ranks have entered an operation, the connection between their hosts is suspected") {
  std::vector<FlightFile> files{waiting_in(0, 2, "all-reduce", "world", {0, 1}),
                                waiting_in(1, 2, "all-reduce", "world", {0, 1})};
  files[0].ranks = {{.pid = 10, .host = "a", .label = "pp0 dp0"},
                    {.pid = 20, .host = "b", .label = "pp1 dp0"}};
  const Divergence found = first_divergence(files, 2);
  CHECK(found.kind == Divergence::Kind::connection);
  CHECK_THAT(sentence(found, files, 2), contains("no rank is missing") &&
                                            contains("rank 1 (pp1 dp0, host b, pid 20)") &&
                                            contains("the connection between hosts a and b is suspected"));
}

TEST_CASE("a rank that enters a collective after another one's limit is named as late") {
  std::vector<FlightFile> files{waiting_in(0, 3, "barrier", "world", {0, 1, 2}),
                                waiting_in(1, 3, "barrier", "world", {0, 1, 2}),
                                waiting_in(2, 3, "barrier", "world", {0, 1, 2})};
  // Each rank has a clock of its own, and rank 1 writes its record 1.2 s after it came.
  const double waited[] = {5, 1.2, 4.5};
  for (std::size_t rank = 0; rank < 3; ++rank) {
    FlightRecord& record = files[rank].record;
    record.now = record.waiting->started + waited[rank];
    record.operations.front().started = record.waiting->started;
  }
  const Divergence found = first_divergence(files, 3);
  CHECK(found.kind == Divergence::Kind::late);
  CHECK_THAT(sentence(found, files, 3),
             contains("rank 1 was about 4 s late for barrier #1 of \"world\", for which rank 0 waited"));

  files[1].record.now = files[1].record.waiting->started + 4;  // no later than ranks usually come
  CHECK(first_divergence(files, 3).kind == Divergence::Kind::connection);
}

TEST_CASE("a rank that waits for a much shorter time than the rank that waits for it is named as late") {
  std::vector<FlightFile> files{waiting_in(0, 2, "all-reduce", "dp", {0, 1}),
                                waiting_in(1, 2, "barrier", "world", {0, 1})};
  const auto set_wait = [&](std::size_t rank, double seconds) {
    files[rank].record.now = files[rank].record.waiting->started + seconds;
  };
  set_wait(0, 0.7);
  set_wait(1, 4.5);
  const Divergence found = first_divergence(files, 2);
  CHECK(found.kind == Divergence::Kind::late);
  CHECK_THAT(sentence(found, files, 2), contains("rank 0 was about 4 s late for barrier #1 of \"world\""));
  set_wait(0, 3);
  CHECK(first_divergence(files, 2).kind == Divergence::Kind::cycle);
}

TEST_CASE(
    "a rank whose process did not run while another one waited is named, though it had entered the "
    "operation") {
  std::vector<FlightFile> files{waiting_in(0, 2, "all-reduce", "world", {0, 1}),
                                waiting_in(1, 2, "all-reduce", "world", {0, 1})};
  for (FlightFile& file : files) file.record.now = file.record.waiting->started + 4.5;
  files[1].pause = {.seconds = 4, .before_record = 0.2};
  const Divergence found = first_divergence(files, 2);
  CHECK(found.kind == Divergence::Kind::paused);
  CHECK_THAT(sentence(found, files, 2),
             contains("rank 1 did not run for 4.0 s, while rank 0 waited in all-reduce #1 of \"world\""));

  files[1].pause->before_record = 3;  // it ran for most of the wait
  CHECK(first_divergence(files, 2).kind == Divergence::Kind::connection);
  files[1].pause->before_record = 0.2;
  files[0].pause = files[1].pause;  // the whole machine stood still
  CHECK(first_divergence(files, 2).kind == Divergence::Kind::connection);
}

TEST_CASE("several ranks without a record are all named, except one that no rank waits for") {
  std::vector<FlightFile> files{waiting_in(0, 5, "all-reduce", "world", {0, 1, 2, 3})};
  files.push_back(waiting_in(1, 5, "all-reduce", "world", {0, 1, 2, 3}));
  const Divergence found = first_divergence(files, 5);
  CHECK(found.kind == Divergence::Kind::no_record);
  CHECK(found.ranks == std::vector<int>{2, 3});
}

TEST_CASE("a flight record that is written and read again is the same") {
  FlightFile file = waiting_in(1, 3, "all-reduce", "dp of pp1", {1, 2}, 123);
  file.reason = "mpi: two\nlines";
  file.pause = {.seconds = 4.5, .before_record = 0.25};
  file.ranks = {{.pid = 1, .host = "a", .label = ""}, {.pid = 2, .host = "b", .label = "pp0 dp1"}, {}};
  file.processes = {{.rank = 2, .pid = 7, .state = 'T'}};
  file.record.messages[{.channel = 0, .kind = Kind::receive, .peer = 1, .tag = 4}] = 9;
  const FlightFile read = parse_flight_file(to_text(file), "memory");
  CHECK(to_text(read) == to_text(file));
  CHECK(read.record.waiting->bytes == 123);
  CHECK(read.record.messages == file.record.messages);
  CHECK(read.ranks[1].label == "pp0 dp1");
  CHECK(read.processes[0].state == 'T');
  CHECK(read.reason == "mpi: two lines");
  CHECK(read.pause->seconds == 4.5);
  CHECK(read.pause->before_record == 0.25);
}

TEST_CASE("a flight record with the older key for its start is read the same way") {
  FlightFile file = waiting_in(1, 3, "all-reduce", "dp of pp1", {1, 2}, 123);
  file.record.start_utc = "2026-11-28T05:00:00Z";
  std::string text = to_text(file);
  const std::size_t at = text.find("\nstart ");
  REQUIRE(at != std::string::npos);
  text.replace(at, 7, "\nbegun ");
  CHECK(to_text(parse_flight_file(text, "older")) == to_text(file));
}

TEST_CASE("a flight record with any byte missing or changed is refused with file and line, or analysed") {
  const std::string text = to_text(waiting_in(1, 3, "all-reduce", "dp of pp1", {1, 2}));
  for (std::size_t length = 0; length + 1 < text.size(); ++length) {
    CAPTURE(length);
    CHECK_THROWS_AS(parse_flight_file(text.substr(0, length), "cut"), DataError);
  }
  for (std::size_t at = 0; at < text.size(); ++at)
    for (const char other : {' ', '\n', '9', '-', '\0'}) {
      std::string changed = text;
      changed[at] = other;
      try {  // an accepted record must not make the analysis fail
        const FlightFile file = parse_flight_file(changed, "changed");
        (void)sentence(first_divergence({file}, file.record.size), {file}, file.record.size);
      } catch (const DataError& error) {
        CHECK_THAT(std::string(error.what()), contains("changed"));
      }
    }
}
