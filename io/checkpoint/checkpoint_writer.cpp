#include "io/checkpoint/checkpoint_writer.h"

#include <chrono>
#include <random>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "io/checkpoint/checkpoint_directory.h"
#include "runtime/error.h"

namespace foretoken {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

std::string new_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

fs::path unfinished(const fs::path& directory, std::int64_t step) {
  return directory / (checkpoint_name(step) + ".tmp");
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path directory, int rank, int world, CheckpointWriterOptions options)
    : directory_(std::move(directory)),
      rank_(rank),
      options_(std::move(options)),
      copy_(rank),
      publication_(directory_, world, options_) {
  if (options_.keep < 1) throw UsageError("checkpoint: keep is {}, expected at least 1", options_.keep);
  if (rank < 0 || rank >= world)
    throw DefectError("checkpoint: rank {} is out of range for {} ranks", rank, world);
}

CheckpointWriter::~CheckpointWriter() {
  interrupts_.closing = true;
}

void CheckpointWriter::save(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces,
                            const std::function<void()>& barrier) {
  const Clock::time_point called = Clock::now();
  drop_staged();
  const std::lock_guard lock(control_);
  check();
  const Clock::time_point start_time = Clock::now();
  Save save{.info = info,
            .directory = SaveDirectory(unfinished(directory_, info.step)),
            .id = {},
            .start_time = start_time};
  copy_.set(pieces);
  if (barrier) barrier();  // after this no rank writes to an earlier directory
  if (rank_ == 0) {
    prepare_checkpoint(directory_, info.step);
    save.directory.write_id(new_id());
    options_.on_phase(SavePhase::prepared);
  }
  if (barrier) barrier();
  save.id = save.directory.await_id();
  copy_.copy();
  save.pause = std::chrono::duration<double>(Clock::now() - called).count();
  save.waited = std::chrono::duration<double>(start_time - called).count();
  options_.on_phase(SavePhase::staged);
  start(save);
}

void CheckpointWriter::stage(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces) {
  const std::lock_guard lock(control_);
  if (busy()) return;
  join();
  staged_.reset();
  copy_.set(pieces);
  copy_.copy();
  staged_ = Save{.info = info,
                 .directory = SaveDirectory(unfinished(directory_, info.step)),
                 .id = fmt::format("{}-{}", options_.session, info.step),
                 .start_time = Clock::now(),
                 .staged = true};
  committing_staged_ = false;
}

void CheckpointWriter::commit_staged() {
  const std::lock_guard lock(control_);
  if (!staged_ || committing_staged_ || busy()) return;
  join();
  committing_staged_ = true;
  staged_->start_time = Clock::now();
  start(*staged_);
}

void CheckpointWriter::drop_staged() {
  interrupts_.dropping_staged = true;
  const std::lock_guard lock(control_);
  join();
  staged_.reset();
  committing_staged_ = false;
  interrupts_.dropping_staged = false;
}

std::int64_t CheckpointWriter::staged_step() const {
  const std::lock_guard lock(control_);
  return staged_ ? staged_->info.step : -1;
}

bool CheckpointWriter::committing_staged() const {
  const std::lock_guard lock(control_);
  return committing_staged_;
}

void CheckpointWriter::reserve(std::span<const CheckpointPiece> pieces) {
  copy_.reserve(pieces);
}

void CheckpointWriter::check() {
  thread_.check();
}

void CheckpointWriter::finish() {
  {
    const std::lock_guard lock(control_);
    join();
  }
  check();
}

void CheckpointWriter::start(const Save& save) {
  thread_.waits_for(fmt::format("rank {} to write its shard", rank_));
  thread_.start([this, save] { run(save); },
                [this, save](const std::string& waiting_for, double seconds) {
                  if (rank_ != 0) return;
                  const std::string name = checkpoint_name(save.info.step);
                  std::int64_t bytes = save.directory.bytes_on_disk();
                  if (bytes == 0) bytes = SaveDirectory(directory_ / name).bytes_on_disk();  // published
                  options_.log(fmt::format("checkpoint {}: waiting for {}, {:.0f} s, {} on disk", name,
                                           waiting_for, seconds, bytes_text(bytes)));
                });
}

void CheckpointWriter::join() {
  thread_.join(options_.waiting_report);
}

void CheckpointWriter::run(const Save& save) noexcept {
  std::exception_ptr error;
  try {
    if (save.staged && !open_staged(save)) return;
    write_own_shard(save);
    if (rank_ == 0)
      publication_.commit(save, interrupts_,
                          [this](std::string what) { thread_.waits_for(std::move(what)); });
    else
      await_end_on_rank_0(save);
    return;
  } catch (const Error&) {
    error = std::current_exception();
  } catch (const std::exception& other) {
    error = std::make_exception_ptr(
        DataError("checkpoint {}: {}", checkpoint_name(save.info.step), other.what()));
  }
  abandon(save, error);
}

/// Creates the directory, or waits until rank 0 has created it; returns false if the copy was abandoned.
bool CheckpointWriter::open_staged(const Save& save) {
  if (rank_ == 0) {
    prepare_checkpoint(directory_, save.info.step);
    save.directory.write_id(save.id);
  }
  while (save.directory.read_id() != save.id) {
    if (interrupts_.ends(save)) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

void CheckpointWriter::write_own_shard(const Save& save) {
  const ShardVote vote =
      copy_.write(save.directory.path(), save.id, [&] { options_.on_phase(SavePhase::shard_half_written); });
  options_.on_phase(SavePhase::shard_synced);
  save.directory.write_vote(rank_, vote);
  options_.on_phase(SavePhase::voted);
}

/// On ranks other than 0: waits until rank 0 has finished the save, so that all ranks enter the next one
/// together.
void CheckpointWriter::await_end_on_rank_0(const Save& save) const {
  SaveProgress progress(save.directory, options_.stall_timeout);
  while (save.directory.read_id() == save.id || save.directory.has_vote(rank_)) {
    if (interrupts_.ends(save)) return;
    if (progress.stalled())
      throw PeerError("checkpoint {}: rank 0 did not finish the save: no byte was written for {} s",
                      checkpoint_name(save.info.step),
                      std::chrono::duration<double>(options_.stall_timeout).count());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

/// Abandons the save: rank 0 removes the id, which the other ranks notice; other ranks write a vote with the
/// error.
void CheckpointWriter::abandon(const Save& save, std::exception_ptr error) noexcept {
  if (rank_ == 0) {
    save.directory.abandon();
  } else if (save.directory.read_id() == save.id) {
    std::error_code ignored;
    fs::remove(save.directory.path() / shard_name(rank_), ignored);  // room for the vote on a full disk
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& reason) {
      try {
        save.directory.write_vote(rank_, {save.id, reason.what(), {}, {}});
      } catch (const std::exception&) {  // rank 0 reports that the vote is missing
      }
    }
  } else {
    error = std::make_exception_ptr(
        PeerError("checkpoint {}: rank 0 abandoned the save", checkpoint_name(save.info.step)));
  }
  thread_.fail(error);
}

}  // namespace foretoken
