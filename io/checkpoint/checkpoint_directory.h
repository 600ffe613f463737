#pragma once
// Names of checkpoints in a run's directory, and their publication.
//
//   step_00001000/                  complete: published by one rename
//   step_00001000.tmp/              being written, or left by a killed run
//   step_00001000.discarded.1.tmp/  being removed; remains on NFS until no reader has its files open
//   step_00001000.replaced/         the older of two saves of one step, while the newer one takes its place
//
// A directory without .tmp is complete. If the step already exists, publishing moves the older directory
// aside, renames the newer one to the final name and then removes the older one, so at every moment one of
// the two is complete and listed. A complete checkpoint is never deleted under its own name; it is renamed to
// .discarded.1.tmp, or the next free number, first.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace foretoken {

/// Example: "step_00001000".
std::string checkpoint_name(std::int64_t step);

struct CompleteCheckpoint {
  std::int64_t step = 0;
  std::filesystem::path path;
};

/// All complete checkpoints in a directory, of all branches, highest step first. list_checkpoints() in
/// io/checkpoint/lineage.h returns those that a run can continue from. Throws a DataError if the directory
/// does not exist.
std::vector<CompleteCheckpoint> complete_checkpoints(const std::filesystem::path& directory);

/// Whether the path names a checkpoint, such as step_00001000. Throws a DataError for the name of an
/// unfinished checkpoint (.tmp).
bool is_checkpoint_path(const std::filesystem::path& path);

/// Removes the directories that interrupted saves and removals left, and creates an empty directory for a new
/// save. No other save may be running in `directory`.
std::filesystem::path prepare_checkpoint(const std::filesystem::path& directory, std::int64_t step);

/// First half of publishing: moves an existing checkpoint of that step aside.
void set_aside_checkpoint(const std::filesystem::path& directory, std::int64_t step);
/// Second half: renames the new checkpoint and syncs the directory, then removes the one set aside.
void publish_checkpoint(const std::filesystem::path& directory, std::int64_t step);

/// Removes old checkpoints: of those up to `step`, the `keep` newest stay, always including `step`. Later
/// steps stay too.
void retire_checkpoints(const std::filesystem::path& directory, std::int64_t step, int keep);

/// Removes an incomplete directory and ignores errors. The directory is renamed first, because other ranks
/// may still be writing into it: their next file cannot be created, so no new file appears during the
/// removal.
void discard_checkpoint(const std::filesystem::path& unfinished) noexcept;

}  // namespace foretoken
