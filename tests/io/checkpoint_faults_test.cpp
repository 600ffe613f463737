#include <array>
#include <atomic>
#include <fcntl.h>
#include <fstream>
#include <thread>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/checkpoint_shard.h"
#include "io/checkpoint/lineage.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/expect_error.h"
#include "tests/support/fault_injection.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
namespace fs = std::filesystem;

namespace {

constexpr int last_phase = static_cast<int>(SavePhase::retired);
constexpr int last_phase_of_every_rank = static_cast<int>(SavePhase::voted);

/// Two processes save `step`. Rank `victim` is killed when it reaches `phase`, and the other rank immediately
/// after it, as mpirun does. Returns false if the victim did not reach the phase.
bool save_and_kill(const fs::path& directory, std::int64_t step, std::uint64_t salt, int victim,
                   SavePhase phase) {
  const std::vector<RankPieces> cut = cut_evenly(2, salt);
  ProcessBarrier barrier(2);
  std::array<pid_t, 2> ranks{};
  for (int rank = 0; rank < 2; ++rank)
    ranks[static_cast<std::size_t>(rank)] = start_child([&] {
      CheckpointWriterOptions options;
      options.keep = 2;
      options.on_phase = [&](SavePhase reached) {
        if (rank == victim && reached == phase) ::kill(::getpid(), SIGKILL);
      };
      CheckpointWriter writer(directory, rank, 2, options);
      writer.save(test_info(step, 2), cut[static_cast<std::size_t>(rank)].pieces, [&] { barrier.wait(); });
      writer.finish();
    });
  const pid_t other = ranks[static_cast<std::size_t>(1 - victim)];
  const int status = wait_for(ranks[static_cast<std::size_t>(victim)]);
  ::kill(other, SIGKILL);
  wait_for(other);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

std::vector<fs::path> inside(const fs::path& directory) {
  return {fs::directory_iterator(directory), fs::directory_iterator()};
}

/// The piece with the first element of a tensor.
const PieceRecord& first_piece(const Checkpoint& checkpoint, const std::string& tensor) {
  return checkpoint.pieces("model", tensor).front();
}

}  // namespace

TEST_CASE("a rank killed at any phase of a save leaves the previous checkpoint, and the next save works") {
  for (int victim : {0, 1})
    for (int phase = static_cast<int>(victim == 0 ? SavePhase::prepared : SavePhase::staged);
         phase <= (victim == 0 ? last_phase : last_phase_of_every_rank); ++phase) {
      INFO("rank " << victim << " killed in phase " << phase);
      const TemporaryFolder folder;
      save_checkpoint(folder / "c", 100, cut_evenly(2, 1));
      REQUIRE(save_and_kill(folder / "c", 200, 2, victim, static_cast<SavePhase>(phase)));

      const std::vector<fs::path> listed = list_checkpoints(folder / "c");
      REQUIRE(!listed.empty());
      CHECK(listed.back().filename() == "step_00000100");
      CHECK(difference(Checkpoint::open(listed.back()), 1) == "");
      // Once rank 1 has voted, rank 0 no longer needs it and may publish before it is killed too.
      if (victim == 0 || phase < static_cast<int>(SavePhase::voted))
        CHECK((listed.size() == 2) == (phase >= static_cast<int>(SavePhase::published)));
      if (listed.size() == 2) {
        CHECK(difference(Checkpoint::open(listed.front()), 2) == "");
        CHECK(Checkpoint::open(listed.front()).verify().empty());
      }

      save_checkpoint(folder / "c", 200, cut_raggedly(3, 3));
      CHECK(difference(Checkpoint::open(folder / "c/step_00000200"), 3) == "");
      CHECK(inside(folder / "c").size() == 2);
    }
}

TEST_CASE("a rank killed while a step is saved again leaves the older or the newer checkpoint complete") {
  for (SavePhase phase : {SavePhase::manifest_written, SavePhase::older_set_aside, SavePhase::published}) {
    INFO("killed in phase " << static_cast<int>(phase));
    const TemporaryFolder folder;
    save_checkpoint(folder / "c", 100, cut_evenly(2, 1));
    REQUIRE(save_and_kill(folder / "c", 100, 2, 0, phase));
    const std::vector<fs::path> listed = list_checkpoints(folder / "c");
    REQUIRE(listed.size() == 1);
    CHECK(difference(Checkpoint::open(listed[0]), phase == SavePhase::published ? 2 : 1) == "");

    save_checkpoint(folder / "c", 200, cut_evenly(2, 3));
    CHECK(list_checkpoints(folder / "c").size() == 2);
    save_checkpoint(folder / "c", 100, cut_evenly(2, 4));
    CHECK(inside(folder / "c").size() == 2);
    CHECK(difference(Checkpoint::open(folder / "c/step_00000100"), 4) == "");
  }
}

TEST_CASE("a flipped byte anywhere in any file of a checkpoint is found by verify") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 400, cut_evenly(2, 1));
  const fs::path directory = folder / "c/step_00000400";
  const Checkpoint checkpoint = Checkpoint::open(directory);
  for (const char* name : {"shard_00000.h5", "shard_00001.h5", "model.h5"}) {
    const std::int64_t bytes = static_cast<std::int64_t>(fs::file_size(directory / name));
    for (std::int64_t position = 0; position < bytes; position += 331) {
      flip_byte(directory / name, position);
      const std::vector<std::string> failures = checkpoint.verify();
      INFO(name << " byte " << position);
      REQUIRE(failures.size() == 1);
      REQUIRE(failures[0].find(std::string("step_00000400/") + name) == 0);
      flip_byte(directory / name, position);
    }
  }
  CHECK(checkpoint.verify().empty());
}

TEST_CASE("a flipped byte is found when its tensor is read, and only then") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 400, cut_evenly(2, 1));
  const fs::path directory = folder / "c/step_00000400";
  const Checkpoint checkpoint = Checkpoint::open(directory);
  const std::string norm = "model.norm.weight";
  const PieceRecord& piece = first_piece(checkpoint, norm);
  flip_byte(directory / piece.file, piece.address + 4 * 4 + 1);  // in element 4

  std::vector<float> values(13);
  const auto read = [&](Range range) {
    checkpoint.read(
        "model", norm, range,
        tensor_over(std::span<float>(values.data(), static_cast<std::size_t>(range.size())), {range.size()}));
  };
  const std::string expected = "step_00000400/shard_00000.h5: model.norm.weight: digest differs (manifest " +
                               piece.digest.substr(0, 8);
  expect_error<DataError>(expected, [&] { read({0, 13}); });
  expect_error<DataError>(expected, [&] { read({0, 2}); });  // same piece, without the flipped element
  read({6, 13});                                             // the other piece is intact
  CHECK(values[0] == test_value({"model", norm, {13}}, 6, 1));
  REQUIRE(checkpoint.verify().size() == 1);
  CHECK(checkpoint.verify()[0].find(expected) == 0);
  CHECK(checkpoint.verify(0, 2).size() == 1);  // with two ranks, shard 0 belongs to the first
  CHECK(checkpoint.verify(1, 2).empty());
}

TEST_CASE("a missing, truncated or longer shard is found when the checkpoint is opened") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 400, cut_evenly(2, 1));
  const fs::path directory = folder / "c/step_00000400";
  const fs::path shard = directory / "shard_00001.h5";
  const Checkpoint before = Checkpoint::open(directory);
  const auto bytes = fs::file_size(shard);
  fs::resize_file(shard, bytes + 1);
  expect_error<DataError>("step_00000400/shard_00001.h5: longer", [&] { Checkpoint::open(directory); });
  fs::resize_file(shard, bytes - 1);
  expect_error<DataError>("step_00000400/shard_00001.h5: truncated", [&] { Checkpoint::open(directory); });
  CHECK(before.verify().size() == 1);
  fs::resize_file(shard, 0);
  expect_error<DataError>("truncated", [&] { Checkpoint::open(directory); });
  std::vector<float> values(13);
  expect_error<DataError>("truncated", [&] {
    before.read("model", "model.norm.weight", {0, 13}, tensor_over(std::span<float>(values), {13}));
  });
  fs::remove(shard);
  expect_error<DataError>("step_00000400/shard_00001.h5: is missing", [&] { Checkpoint::open(directory); });
}

TEST_CASE("a save that is discarded while another rank writes into it leaves no file") {
  const TemporaryFolder folder;
  for (int round = 0; round < 50; ++round) {
    const fs::path unfinished = prepare_checkpoint(folder / "c", 2);
    std::atomic<int> written{0};
    std::atomic<bool> discarded{false};
    std::thread other([&] {
      while (!discarded) {
        std::ofstream(unfinished / std::to_string(written++)) << "vote";
        std::ofstream(unfinished / "shard") << "shard";
      }
    });
    while (written < 20) std::this_thread::yield();
    discard_checkpoint(unfinished);
    discarded = true;
    other.join();
    CHECK(fs::is_empty(folder / "c"));
  }
}

// On a network disk (tests/support/network_disk.cpp) an open file keeps its folder from being removed.
TEST_CASE("a checkpoint that a reader has open is retired without an error and removed once it is closed") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_checkpoint(c, 1, cut_evenly(1, 1));
  const int reader = ::open((c / "step_00000001/shard_00000.h5").c_str(), O_RDONLY);
  REQUIRE(reader >= 0);
  save_checkpoint(c, 2, cut_evenly(1, 2));
  retire_checkpoints(c, 2, 1);
  REQUIRE(complete_checkpoints(c).size() == 1);
  CHECK(complete_checkpoints(c).front().step == 2);
  save_checkpoint(c, 1, cut_evenly(1, 3));  // as a run that went back does
  CHECK(Checkpoint::open(c / "step_00000001").verify().empty());
  retire_checkpoints(c, 2, 1);
  ::close(reader);
  save_checkpoint(c, 3, cut_evenly(1, 4));
  retire_checkpoints(c, 3, 1);
  CHECK(files_in(c) == 1);
}

TEST_CASE("a disk that fails after a rank's vote ends the save at once") {
  const TemporaryFolder folder;
  CheckpointWriterOptions options;
  options.stall_timeout = std::chrono::seconds(10);
  options.on_phase = [&](SavePhase reached) {
    if (reached != SavePhase::voted) return;
    const fs::path vote = folder / "c/step_00000001.tmp" / vote_name(0);
    REQUIRE(fs::remove(vote));
    fs::create_symlink(vote, vote);  // a query for the name fails, other than for a missing file
  };
  expect_error<DataError>("shard_00000.json: cannot be read",
                          [&] { save_checkpoint(folder / "c", 1, cut_evenly(1, 1), options); });
  CHECK(fs::is_empty(folder / "c"));
}

TEST_CASE("rank 0 reports the failure of another rank, publishes nothing, and the next save works") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 1, cut_evenly(3, 1));
  const std::vector<RankPieces> cut = cut_evenly(3, 2);
  std::array<std::string, 3> messages;
  std::array<std::string, 3> again;
  std::vector<fs::path> listed;
  const auto errors = on_ranks(3, [&](int rank, const std::function<void()>& barrier) {
    const std::size_t r = static_cast<std::size_t>(rank);
    bool faulty = rank == 1;
    CheckpointWriterOptions options;
    options.on_phase = [&](SavePhase phase) {
      if (faulty && phase == SavePhase::shard_half_written) throw DataError("the disk is on fire");
    };
    CheckpointWriter writer(folder / "c", rank, 3, options);
    writer.save(test_info(2, 3), cut[r].pieces, barrier);
    messages[r] = message_of([&] { writer.finish(); });
    again[r] = message_of([&] { writer.check(); });
    barrier();
    if (rank == 0) listed = list_checkpoints(folder / "c");
    faulty = false;
    writer.save(test_info(3, 3), cut[r].pieces, barrier);
    writer.finish();
  });
  CHECK(messages[0] == "3: rank 1: the disk is on fire");
  CHECK(messages[1] == "3: the disk is on fire");
  CHECK((messages[2] == "" || messages[2] == "5: checkpoint step_00000002: rank 0 abandoned the save"));
  CHECK(again == std::array<std::string, 3>{});  // an error is thrown once
  CHECK(listed.size() == 1);
  for (const std::exception_ptr& error : errors) CHECK_FALSE(error);
  CHECK(inside(folder / "c").size() == 2);
  CHECK(difference(Checkpoint::open(folder / "c/step_00000003"), 2) == "");
}

TEST_CASE(
    "a rank that does not vote is named after the time limit, and a writer's destructor does not wait for "
    "it") {
  const TemporaryFolder folder;
  const std::vector<RankPieces> cut = cut_evenly(3, 1);
  CheckpointWriterOptions options;
  options.stall_timeout = std::chrono::milliseconds(50);
  {
    CheckpointWriter writer(folder / "c", 0, 3, options);
    writer.save(test_info(1, 3), cut[0].pieces, {});
    expect_error<PeerError>("step_00000001: no shard from rank 1, 2, and no byte was written for 0.05 s",
                            [&] { writer.finish(); });
    CHECK(fs::is_empty(folder / "c"));
  }
  options.stall_timeout = std::chrono::hours(1);
  CheckpointWriter writer(folder / "c", 0, 3, options);
  writer.save(test_info(1, 3), cut[0].pieces, {});
}

TEST_CASE(
    "a full disk is an error that says so, the previous checkpoint stays, and a save that fits works again") {
  const bool real_disk = GENERATE(true, false);
  const TemporaryFolder folder;
  constexpr std::int64_t room = 4 << 20;
  const auto body = [&] {
    if (!real_disk)
      limit_file_size(room);
    else if (!mount_small_disk(folder.path(), room))
      return;  // mounting needs privileges; the file size limit below works for every user
    std::vector<float> memory(room / 2);
    const Tensor data = tensor_over(std::span<float>(memory), {room / 2});
    const auto save = [&](CheckpointWriter& writer, std::int64_t step, std::int64_t elements) {
      const std::vector<CheckpointPiece> pieces = {
          {"model", "small", {9}, {0, 9}, data.flat(0, 9)},
          {"model", "large", {elements}, {0, elements}, data.flat(0, elements)}};
      writer.save(test_info(step, 1), pieces, {});
      writer.finish();
    };
    const auto must = [](bool holds, const std::string& what) {
      if (!holds) throw DefectError("{}", what);
    };
    CheckpointWriter writer(folder / "c", 0, 1);
    save(writer, 1, 1000);
    std::string message;
    try {
      save(writer, 2, room / 2);
    } catch (const DataError& error) {
      message = error.what();
    }
    for (const char* part : {"step_00000002.tmp/shard_00000.h5", "large", "8388608 bytes", "no space"})
      must(message.find(part) != std::string::npos, "message: " + message);
    must(inside(folder / "c").size() == 1, "the unfinished directory is still there");
    must(Checkpoint::open(folder / "c/step_00000001").verify().empty(), "the older one is damaged");
    save(writer, 3, 2000);
    must(Checkpoint::open(folder / "c/step_00000003").verify().empty(), "the newer one is damaged");
  };
  const int status = wait_for(start_child(body));
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a staged copy is published once every rank commits it, with the values of its step") {
  const TemporaryFolder folder;
  std::vector<RankPieces> cut = cut_evenly(3, 7);
  const auto errors = on_ranks(3, [&](int rank, const std::function<void()>&) {
    RankPieces& own = cut[static_cast<std::size_t>(rank)];
    CheckpointWriter writer(folder / "c", rank, 3, {.session = "one"});
    writer.stage(test_info(7, 3), own.pieces);
    for (std::vector<std::byte>& memory : own.memory) std::fill(memory.begin(), memory.end(), std::byte{0});
    writer.commit_staged();
    writer.commit_staged();  // a second request has no effect
    writer.finish();
  });
  for (const std::exception_ptr& error : errors) CHECK_FALSE(error);
  CHECK(difference(Checkpoint::open(folder / "c/step_00000007"), 7) == "");
}

TEST_CASE("a staged copy that not every rank commits is abandoned by the next save and never published") {
  const TemporaryFolder folder;
  const std::vector<RankPieces> cut = cut_evenly(3, 8);
  const auto errors = on_ranks(3, [&](int rank, const std::function<void()>& barrier) {
    const RankPieces& own = cut[static_cast<std::size_t>(rank)];
    CheckpointWriter writer(folder / "c", rank, 3, {.session = "one"});
    writer.stage(test_info(7, 3), own.pieces);
    if (rank != 1) writer.commit_staged();
    writer.save(test_info(8, 3), own.pieces, barrier);
    writer.commit_staged();  // the copy is of an earlier step than the save
    writer.finish();
  });
  for (const std::exception_ptr& error : errors) CHECK_FALSE(error);
  CHECK(inside(folder / "c").size() == 1);
  CHECK(difference(Checkpoint::open(folder / "c/step_00000008"), 8) == "");
}

TEST_CASE("a save that makes progress may exceed the limit, and rank 0 names the ranks that it waits for") {
  const TemporaryFolder folder;
  const std::vector<RankPieces> cut = cut_evenly(2, 4);
  std::mutex mutex;
  std::string said;
  const auto errors = on_ranks(2, [&](int rank, const std::function<void()>& barrier) {
    CheckpointWriterOptions options{.stall_timeout = std::chrono::milliseconds(2000),
                                    .waiting_report = std::chrono::milliseconds(100)};
    options.log = [&](const std::string& line) {
      const std::lock_guard lock(mutex);
      said += line + "\n";
    };
    options.on_phase = [&](SavePhase phase) {
      if (phase == SavePhase::retired) std::this_thread::sleep_for(std::chrono::milliseconds(300));
      if (rank != 1 || phase != SavePhase::shard_half_written) return;
      for (int i = 0; i < 30; ++i) {  // the shard grows for 3 s
        std::ofstream(folder / "c/step_00000004.tmp/shard_00001.h5.growth", std::ios::app)
            << std::string(8192, ' ');
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
      fs::remove(folder / "c/step_00000004.tmp/shard_00001.h5.growth");
    };
    CheckpointWriter writer(folder / "c", rank, 2, options);
    writer.save(test_info(4, 2), cut[static_cast<std::size_t>(rank)].pieces, barrier);
    writer.finish();
  });
  for (const std::exception_ptr& error : errors) CHECK_FALSE(error);
  CHECK(said.find("checkpoint step_00000004: waiting for rank 1 to write its shard") != std::string::npos);
  const std::size_t removing = said.find("waiting for rank 0 to remove older checkpoints");
  REQUIRE(removing != std::string::npos);
  CHECK(said.find(" 0 B on disk", removing) == std::string::npos);
  CHECK(difference(Checkpoint::open(folder / "c/step_00000004"), 4) == "");
}
