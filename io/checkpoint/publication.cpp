#include "io/checkpoint/publication.h"

#include <algorithm>
#include <numeric>
#include <thread>
#include <utility>

#include <fmt/ranges.h>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/checkpoint_shard.h"
#include "io/checkpoint/checkpoint_view.h"
#include "io/files/durable_file.h"
#include "runtime/error.h"
#include "runtime/host/utc_time.h"

namespace foretoken {

namespace fs = std::filesystem;

void Publication::commit(const Save& save, const SaveInterrupts& interrupts, const WaitsFor& waits_for) {
  const std::vector<ShardVote> votes = collect_votes(save, interrupts, waits_for);
  if (votes.size() == static_cast<std::size_t>(world_)) {
    publish(save, votes, waits_for);
  } else if (save.staged && interrupts.dropping_staged) {
    discard_checkpoint(save.directory.path());
  }
}

/// Returns every rank's vote; fewer only if an interrupt ends the save.
std::vector<ShardVote> Publication::collect_votes(const Save& save, const SaveInterrupts& interrupts,
                                                  const WaitsFor& waits_for) const {
  SaveProgress progress(save.directory, options_.stall_timeout);
  std::vector<ShardVote> votes;
  std::vector<int> missing(static_cast<std::size_t>(world_));
  std::iota(missing.begin(), missing.end(), 0);
  while (true) {
    std::erase_if(missing, [&](int rank) {
      std::optional<ShardVote> vote = save.directory.vote(rank, save.id);
      if (!vote) return false;
      if (!vote->error.empty()) throw DataError("rank {}: {}", rank, vote->error);
      votes.push_back(std::move(*vote));
      return true;
    });
    if (missing.empty() || interrupts.ends(save)) return votes;
    waits_for(fmt::format("rank{} {} to write {}", missing.size() == 1 ? "" : "s", fmt::join(missing, ", "),
                          missing.size() == 1 ? "its shard" : "their shards"));
    if (progress.stalled())
      throw PeerError("checkpoint {}: no shard from rank {}, and no byte was written for {} s",
                      checkpoint_name(save.info.step), fmt::join(missing, ", "),
                      std::chrono::duration<double>(options_.stall_timeout).count());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void Publication::publish(const Save& save, const std::vector<ShardVote>& votes, const WaitsFor& waits_for) {
  waits_for("rank 0 to publish the checkpoint");
  const fs::path& unfinished = save.directory.path();
  options_.on_phase(SavePhase::votes_collected);
  CheckpointManifest manifest{save.info, {}, {}};
  std::int64_t bytes = 0;
  for (const ShardVote& vote : votes) {
    manifest.files.insert(manifest.files.end(), vote.files.begin(), vote.files.end());
    manifest.pieces.insert(manifest.pieces.end(), vote.pieces.begin(), vote.pieces.end());
    for (const PieceRecord& piece : vote.pieces) bytes += piece.bytes();
  }
  const std::string name = checkpoint_name(save.info.step);
  if (const std::string fault = tiling_error(manifest.pieces); !fault.empty())
    throw DefectError("checkpoint {}: {}", name, fault);

  const fs::path view = unfinished / view_name;
  write_view(view, manifest.pieces);
  manifest.files.push_back(
      {view_name, static_cast<std::int64_t>(fs::file_size(view)), digest_outside(view, {})});
  options_.on_phase(SavePhase::view_written);

  manifest.info.id = save.id;
  manifest.info.parent = parent_;
  manifest.info.lineage = options_.lineage;
  manifest.info.created = utc_time();
  write_durably(unfinished / manifest_name, manifest_text(manifest));
  save.directory.remove_id();
  for (int rank = 0; rank < world_; ++rank) fs::remove(unfinished / vote_name(rank));
  sync_to_disk(unfinished);
  options_.on_phase(SavePhase::manifest_written);

  options_.before_publication();
  set_aside_checkpoint(directory_, save.info.step);
  options_.on_phase(SavePhase::older_set_aside);
  publish_checkpoint(directory_, save.info.step);
  parent_ = {.id = save.id, .step = save.info.step};
  options_.on_phase(SavePhase::published);
  std::string line = fmt::format(
      "checkpoint {}: {} in {:.2f} s, training waited {:.2f} s", name, bytes_text(bytes),
      std::chrono::duration<double>(std::chrono::steady_clock::now() - save.start_time).count(), save.pause);
  if (save.waited >= 0.01) line += fmt::format(", {:.2f} s of it for the previous save", save.waited);
  options_.log(line);
  waits_for("rank 0 to remove older checkpoints");
  retire_checkpoints(directory_, save.info.step, options_.keep);
  options_.on_phase(SavePhase::retired);
}

}  // namespace foretoken
