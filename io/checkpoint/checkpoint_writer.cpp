#include "io/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <numeric>
#include <random>
#include <set>
#include <sys/stat.h>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/ranges.h>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/checkpoint_view.h"
#include "io/files/durable_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct CheckpointWriter::Save {
  CheckpointInfo info;
  fs::path unfinished;  // step_N.tmp
  std::string id;       // equal on every rank, different for every save
  Clock::time_point start_time;
  bool staged = false;  // started by stage()
  double pause = 0;     // seconds that save() blocked its caller
};

namespace {

constexpr const char* id_file = "save_id";

std::string new_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

std::string read_id(const fs::path& unfinished) {
  std::string id;
  std::ifstream(unfinished / id_file) >> id;
  return id;
}

/// Rank 0 wrote the id before the barrier; a network file system may show it a little later.
std::string await_id(const fs::path& unfinished) {
  const Clock::time_point limit = Clock::now() + std::chrono::seconds(30);
  while (true) {
    if (std::string id = read_id(unfinished); !id.empty()) return id;
    if (Clock::now() > limit)
      throw DataError(
          "checkpoint {}: rank 0 created it, but this rank cannot see it: all ranks must share the "
          "directory",
          unfinished.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

/// Bytes that all ranks have written to disk for a save so far, as seen by this rank. Allocated blocks are
/// counted, because HDF5 sets a file's size before it writes the data.
std::int64_t bytes_on_disk(const fs::path& unfinished) {
  std::int64_t bytes = 0;
  std::error_code error;
  for (fs::directory_iterator it(unfinished, error), end; !error && it != end; it.increment(error)) {
    struct stat status {};
    if (::stat(it->path().c_str(), &status) == 0) bytes += std::int64_t{512} * status.st_blocks + 1;
  }
  return bytes;
}

/// Detects a save that makes no progress.
class Progress {
 public:
  Progress(const fs::path& unfinished, std::chrono::milliseconds limit)
      : unfinished_(unfinished), limit_(limit) {}

  bool stalled() {
    const Clock::time_point now = Clock::now();
    if (now - looked_ < std::min(limit_ / 4, std::chrono::milliseconds(1000))) return false;
    looked_ = now;
    if (const std::int64_t bytes = bytes_on_disk(unfinished_); std::exchange(bytes_, bytes) != bytes)
      moved_ = now;
    return now - moved_ > limit_;
  }

 private:
  const fs::path& unfinished_;
  std::chrono::milliseconds limit_;
  std::int64_t bytes_ = -1;
  Clock::time_point looked_, moved_ = Clock::now();
};

double seconds_since(Clock::time_point start_time) {
  return std::chrono::duration<double>(Clock::now() - start_time).count();
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path directory, int rank, int world, CheckpointWriterOptions options)
    : directory_(std::move(directory)),
      rank_(rank),
      world_(world),
      options_(std::move(options)),
      parent_(options_.parent) {
  if (options_.keep < 1) throw UsageError("checkpoint: keep is {}, expected at least 1", options_.keep);
  if (rank < 0 || rank >= world)
    throw DefectError("checkpoint: rank {} is out of range for {} ranks", rank, world);
}

CheckpointWriter::~CheckpointWriter() {
  closing_ = true;
  if (thread_.joinable()) thread_.join();
}

void CheckpointWriter::save(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces,
                            const std::function<void()>& barrier) {
  drop_staged();
  const std::lock_guard lock(control_);
  check();
  const Clock::time_point start_time = Clock::now();
  Save save{info, directory_ / (checkpoint_name(info.step) + ".tmp"), {}, start_time};
  take(pieces);
  if (barrier) barrier();  // after this no rank writes to an earlier directory
  if (rank_ == 0) {
    prepare_checkpoint(directory_, info.step);
    write_durably(save.unfinished / id_file, new_id());
    reached(SavePhase::prepared);
  }
  if (barrier) barrier();
  save.id = await_id(save.unfinished);
  copy();
  save.pause = seconds_since(start_time);
  reached(SavePhase::staged);
  start(std::move(save));
}

void CheckpointWriter::stage(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces) {
  const std::lock_guard lock(control_);
  if (running_) return;
  join();
  const fs::path unfinished = directory_ / (checkpoint_name(info.step) + ".tmp");
  staged_.reset();
  take(pieces);
  copy();
  staged_ = std::make_unique<Save>(
      Save{info, unfinished, fmt::format("{}-{}", options_.session, info.step), Clock::now(), true});
  committing_staged_ = false;
}

void CheckpointWriter::commit_staged() {
  const std::lock_guard lock(control_);
  if (!staged_ || committing_staged_ || running_) return;
  join();
  committing_staged_ = true;
  staged_->start_time = Clock::now();
  start(*staged_);
}

void CheckpointWriter::drop_staged() {
  dropping_staged_ = true;
  const std::lock_guard lock(control_);
  join();
  staged_.reset();
  committing_staged_ = false;
  dropping_staged_ = false;
}

std::int64_t CheckpointWriter::staged_step() const {
  const std::lock_guard lock(control_);
  return staged_ ? staged_->info.step : -1;
}

bool CheckpointWriter::committing_staged() const {
  const std::lock_guard lock(control_);
  return committing_staged_;
}

void CheckpointWriter::start(Save save) {
  running_ = true;
  {
    const std::lock_guard lock(mutex_);
    waiting_for_ = fmt::format("rank {} to write its shard", rank_);
    written_ = save.unfinished;
  }
  thread_ = std::thread([this, save = std::move(save)] {
    run(save);
    const std::lock_guard lock(mutex_);
    running_ = false;
    ended_.notify_all();
  });
}

void CheckpointWriter::join() {
  if (!thread_.joinable()) return;
  const Clock::time_point start_time = Clock::now();
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, options_.waiting_report, [&] { return !running_; }))
    if (rank_ == 0)
      log(fmt::format("checkpoint {}: waiting for {}, {:.0f} s, {} on disk", written_.stem().string(),
                      waiting_for_, seconds_since(start_time), bytes_text(bytes_on_disk(written_))));
  lock.unlock();
  thread_.join();
}

/// On ranks other than 0: waits until rank 0 has finished the save, so that all ranks enter the next one
/// together.
void CheckpointWriter::await_end_on_rank_0(const Save& save) {
  Progress progress(save.unfinished, options_.stall_timeout);
  std::error_code ignored;
  while (read_id(save.unfinished) == save.id || fs::exists(save.unfinished / vote_name(rank_), ignored)) {
    if (closing_ || (save.staged && dropping_staged_)) return;
    if (progress.stalled())
      throw PeerError("checkpoint {}: rank 0 did not finish the save: no byte was written for {} s",
                      checkpoint_name(save.info.step),
                      std::chrono::duration<double>(options_.stall_timeout).count());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void CheckpointWriter::take(std::span<const CheckpointPiece> pieces) {
  records_.clear();
  data_.clear();
  std::set<std::string> datasets;
  for (const CheckpointPiece& piece : pieces) {
    PieceRecord record = record_of(piece, shard_name(rank_));
    if (piece.range.empty()) continue;
    if (!datasets.insert(record.dataset).second)
      throw DefectError("checkpoint: {}: rank {} saves two pieces that start at element {}",
                        describe(piece.kind, piece.tensor), rank_, piece.range.begin);
    records_.push_back(std::move(record));
    data_.push_back(piece.data);
  }
}

void CheckpointWriter::copy() {
  staging_.take(data_);
}

void CheckpointWriter::reserve(std::span<const CheckpointPiece> pieces) {
  std::vector<Tensor> tensors;
  for (const CheckpointPiece& piece : pieces) tensors.push_back(piece.data);
  staging_.reserve(tensors);
}

void CheckpointWriter::run(const Save& save) noexcept {
  std::exception_ptr error;
  try {
    if (save.staged && !open_staged(save)) return;
    write_own_shard(save);
    rank_ == 0 ? commit(save) : await_end_on_rank_0(save);
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
    write_durably(save.unfinished / id_file, save.id);
  }
  while (read_id(save.unfinished) != save.id) {
    if (dropping_staged_ || closing_) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

void CheckpointWriter::write_own_shard(const Save& save) {
  ShardVote vote{save.id, {}, {}, {}};
  if (!records_.empty())
    vote.files.push_back(write_shard(save.unfinished / shard_name(rank_), records_, data_,
                                     [&] { reached(SavePhase::shard_half_written); }));
  vote.pieces = records_;
  reached(SavePhase::shard_synced);
  write_durably(save.unfinished / vote_name(rank_), vote_text(vote));
  reached(SavePhase::voted);
}

/// Abandons the save: rank 0 removes the id, which the other ranks notice; other ranks write a vote with the
/// error.
void CheckpointWriter::abandon(const Save& save, std::exception_ptr error) noexcept {
  std::error_code ignored;
  if (rank_ == 0) {
    fs::remove(save.unfinished / id_file, ignored);
    discard_checkpoint(save.unfinished);
  } else if (read_id(save.unfinished) == save.id) {
    fs::remove(save.unfinished / shard_name(rank_), ignored);  // makes room for the vote on a full disk
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& reason) {
      try {
        write_durably(save.unfinished / vote_name(rank_), vote_text({save.id, reason.what(), {}, {}}));
      } catch (const std::exception&) {  // rank 0 reports that the vote is missing
      }
    }
  } else {
    error = std::make_exception_ptr(
        PeerError("checkpoint {}: rank 0 abandoned the save", checkpoint_name(save.info.step)));
  }
  const std::lock_guard lock(mutex_);
  error_ = error;
}

void CheckpointWriter::commit(const Save& save) {
  const std::vector<ShardVote> votes = collect_votes(save);
  if (votes.size() == static_cast<std::size_t>(world_)) return publish(save, votes);
  if (save.staged && dropping_staged_) discard_checkpoint(save.unfinished);
}

/// Returns every rank's vote; fewer only if the writer is being destroyed or a staged copy is abandoned.
std::vector<ShardVote> CheckpointWriter::collect_votes(const Save& save) {
  Progress progress(save.unfinished, options_.stall_timeout);
  std::vector<ShardVote> votes;
  std::vector<int> missing(static_cast<std::size_t>(world_));
  std::iota(missing.begin(), missing.end(), 0);
  while (true) {
    std::erase_if(missing, [&](int rank) {
      const fs::path file = save.unfinished / vote_name(rank);
      std::error_code error;
      const bool exists = fs::exists(file, error);
      if (error && error.value() != ESTALE)  // the disk failed: no vote will be seen
        throw DataError("checkpoint {}: cannot be read: {}", file.string(), error.message());
      if (!exists) return false;
      ShardVote vote = read_vote(file);
      if (vote.save_id != save.id) return false;  // the vote belongs to an earlier save of this step
      if (!vote.error.empty()) throw DataError("rank {}: {}", rank, vote.error);
      votes.push_back(std::move(vote));
      return true;
    });
    if (missing.empty() || closing_ || (save.staged && dropping_staged_)) return votes;
    {
      const std::lock_guard lock(mutex_);
      waiting_for_ =
          fmt::format("rank{} {} to write {}", missing.size() == 1 ? "" : "s", fmt::join(missing, ", "),
                      missing.size() == 1 ? "its shard" : "their shards");
    }
    if (progress.stalled())
      throw PeerError("checkpoint {}: no shard from rank {}, and no byte was written for {} s",
                      checkpoint_name(save.info.step), fmt::join(missing, ", "),
                      std::chrono::duration<double>(options_.stall_timeout).count());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void CheckpointWriter::publish(const Save& save, const std::vector<ShardVote>& votes) {
  {
    const std::lock_guard lock(mutex_);
    waiting_for_ = "rank 0 to publish the checkpoint";
  }
  reached(SavePhase::votes_collected);
  CheckpointManifest manifest{save.info, {}, {}};
  std::int64_t bytes = 0;
  for (const ShardVote& vote : votes) {
    manifest.files.insert(manifest.files.end(), vote.files.begin(), vote.files.end());
    manifest.pieces.insert(manifest.pieces.end(), vote.pieces.begin(), vote.pieces.end());
    for (const PieceRecord& piece : vote.pieces) bytes += piece.bytes();
  }
  const std::string name = checkpoint_name(save.info.step);
  if (const std::string fault = tiling_fault(manifest.pieces); !fault.empty())
    throw DefectError("checkpoint {}: {}", name, fault);

  const fs::path view = save.unfinished / view_name;
  write_view(view, manifest.pieces);
  manifest.files.push_back(
      {view_name, static_cast<std::int64_t>(fs::file_size(view)), digest_outside(view, {})});
  reached(SavePhase::view_written);

  manifest.info.id = save.id;
  manifest.info.parent = parent_;
  manifest.info.lineage = options_.lineage;
  manifest.info.created = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  write_durably(save.unfinished / manifest_name, manifest_text(manifest));
  fs::remove(save.unfinished / id_file);
  for (int rank = 0; rank < world_; ++rank) fs::remove(save.unfinished / vote_name(rank));
  sync_to_disk(save.unfinished);
  reached(SavePhase::manifest_written);

  if (options_.before_publication) options_.before_publication();
  set_aside_checkpoint(directory_, save.info.step);
  reached(SavePhase::older_set_aside);
  publish_checkpoint(directory_, save.info.step);
  parent_ = {.id = save.id, .step = save.info.step};
  reached(SavePhase::published);
  log(fmt::format("checkpoint {}: {} in {:.2f} s, training waited {:.2f} s", name, bytes_text(bytes),
                  seconds_since(save.start_time), save.pause));
  {
    const std::lock_guard lock(mutex_);
    waiting_for_ = "rank 0 to remove older checkpoints";
    written_ = directory_ / name;
  }
  retire_checkpoints(directory_, save.info.step, options_.keep);
  reached(SavePhase::retired);
}

void CheckpointWriter::check() {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void CheckpointWriter::finish() {
  {
    const std::lock_guard lock(control_);
    join();
  }
  check();
}

void CheckpointWriter::reached(SavePhase phase) const {
  if (options_.on_phase) options_.on_phase(phase);
}

void CheckpointWriter::log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

}  // namespace foretoken
