#include "io/checkpoint_writer.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <fstream>
#include <numeric>
#include <random>
#include <set>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/ranges.h>

#include "io/checkpoint_directory.h"
#include "io/checkpoint_view.h"
#include "io/durable_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct CheckpointWriter::Save {
  CheckpointInfo info;
  fs::path unfinished;  // step_N.tmp
  std::string id;       // the same on every rank, another for every save
  Clock::time_point begun;
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

/// Rank 0 has written it before the barrier; a network filesystem may show it a little later.
std::string await_id(const fs::path& unfinished) {
  const Clock::time_point limit = Clock::now() + std::chrono::seconds(30);
  while (true) {
    if (std::string id = read_id(unfinished); !id.empty()) return id;
    if (Clock::now() > limit)
      throw DataError(
          "checkpoint {}: rank 0 has made it, but this rank does not see it: the directory must be "
          "shared by all ranks",
          unfinished.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

double seconds_since(Clock::time_point begun) {
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path directory, int rank, int world, CheckpointWriterOptions options)
    : directory_(std::move(directory)),
      rank_(rank),
      world_(world),
      options_(std::move(options)),
      parent_(options_.parent) {
  if (options_.keep < 1) throw UsageError("checkpoint: keep is {}, but at least 1 must stay", options_.keep);
  if (rank < 0 || rank >= world) throw DefectError("checkpoint: rank {} of {} ranks", rank, world);
}

CheckpointWriter::~CheckpointWriter() {
  abandoned_ = true;
  if (thread_.joinable()) thread_.join();
}

void CheckpointWriter::save(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces,
                            const std::function<void()>& barrier) {
  finish();
  const Clock::time_point begun = Clock::now();
  Save save{info, directory_ / (checkpoint_name(info.step) + ".tmp"), {}, begun};
  take(pieces);
  if (rank_ == 0) {
    prepare_checkpoint(directory_, info.step);
    write_durably(save.unfinished / id_file, new_id());
    reached(SavePhase::prepared);
  }
  if (barrier) barrier();
  save.id = await_id(save.unfinished);
  const std::int64_t bytes = stage();
  log(fmt::format("checkpoint {}: staged {} in {:.3f} s", checkpoint_name(info.step), bytes_text(bytes),
                  seconds_since(begun)));
  reached(SavePhase::staged);
  thread_ = std::thread([this, save = std::move(save)] { run(save); });
}

void CheckpointWriter::take(std::span<const CheckpointPiece> pieces) {
  records_.clear();
  data_.clear();
  std::set<std::string> datasets;
  for (const CheckpointPiece& piece : pieces) {
    PieceRecord record = record_of(piece, shard_name(rank_));
    if (piece.range.empty()) continue;
    if (!datasets.insert(record.dataset).second)
      throw DefectError("checkpoint: {}: rank {} saves elements {} and on twice",
                        describe(piece.kind, piece.tensor), rank_, piece.range.begin);
    records_.push_back(std::move(record));
    data_.push_back(piece.data);
  }
}

std::int64_t CheckpointWriter::stage() {
  staging_.take(data_);
  std::int64_t bytes = 0;
  for (const Tensor& tensor : data_) bytes += static_cast<std::int64_t>(tensor.bytes());
  return bytes;
}

void CheckpointWriter::reserve(std::span<const CheckpointPiece> pieces) {
  std::vector<Tensor> tensors;
  for (const CheckpointPiece& piece : pieces) tensors.push_back(piece.data);
  staging_.reserve(tensors);
}

void CheckpointWriter::run(const Save& save) noexcept {
  std::exception_ptr error;
  try {
    write_own_shard(save);
    if (rank_ == 0) commit(save);
    return;
  } catch (const Error&) {
    error = std::current_exception();
  } catch (const std::exception& other) {
    error = std::make_exception_ptr(
        DataError("checkpoint {}: {}", checkpoint_name(save.info.step), other.what()));
  }
  give_up(save, error);
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

/// Tells rank 0, or as rank 0 the others, that this save will not be: they find its id gone.
void CheckpointWriter::give_up(const Save& save, std::exception_ptr error) noexcept {
  std::error_code ignored;
  if (rank_ == 0) {
    fs::remove(save.unfinished / id_file, ignored);
    discard_checkpoint(save.unfinished);
  } else if (read_id(save.unfinished) == save.id) {
    fs::remove(save.unfinished / shard_name(rank_), ignored);  // on a full disk this makes room for the vote
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& reason) {
      try {
        write_durably(save.unfinished / vote_name(rank_), vote_text({save.id, reason.what(), {}, {}}));
      } catch (const std::exception&) {  // then rank 0 misses the vote
      }
    }
  } else {
    error = std::make_exception_ptr(
        PeerError("checkpoint {}: rank 0 has given it up", checkpoint_name(save.info.step)));
  }
  const std::lock_guard lock(mutex_);
  error_ = error;
}

void CheckpointWriter::commit(const Save& save) {
  const std::vector<ShardVote> votes = collect_votes(save);
  if (votes.size() == static_cast<std::size_t>(world_)) publish(save, votes);
}

/// Every rank's vote; fewer only where the writer is being destroyed.
std::vector<ShardVote> CheckpointWriter::collect_votes(const Save& save) {
  const Clock::time_point limit = Clock::now() + options_.vote_timeout;
  std::vector<ShardVote> votes;
  std::vector<int> missing(static_cast<std::size_t>(world_));
  std::iota(missing.begin(), missing.end(), 0);
  while (true) {
    std::erase_if(missing, [&](int rank) {
      const fs::path file = save.unfinished / vote_name(rank);
      std::error_code ignored;
      if (!fs::exists(file, ignored)) return false;
      ShardVote vote = read_vote(file);
      if (vote.save_id != save.id) return false;  // of an earlier save of this step
      if (!vote.error.empty()) throw DataError("rank {}: {}", rank, vote.error);
      votes.push_back(std::move(vote));
      return true;
    });
    if (missing.empty() || abandoned_) return votes;
    if (Clock::now() > limit)
      throw PeerError("checkpoint {}: no shard from rank {} within {} s", checkpoint_name(save.info.step),
                      fmt::join(missing, ", "), std::chrono::duration<double>(options_.vote_timeout).count());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void CheckpointWriter::publish(const Save& save, const std::vector<ShardVote>& votes) {
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
  const double seconds = seconds_since(save.begun);
  log(fmt::format("checkpoint {}: committed {} in {:.3f} s ({:.2f} GB/s)", name, bytes_text(bytes), seconds,
                  static_cast<double>(bytes) / 1e9 / seconds));
  retire_checkpoints(directory_, save.info.step, options_.keep);
  reached(SavePhase::retired);
}

void CheckpointWriter::check() {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void CheckpointWriter::finish() {
  if (thread_.joinable()) thread_.join();
  check();
}

void CheckpointWriter::reached(SavePhase phase) const {
  if (options_.on_phase) options_.on_phase(phase);
}

void CheckpointWriter::log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

}  // namespace foretoken
