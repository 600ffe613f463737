#pragma once
// How checkpoints lie in a run's directory, and how one becomes visible.
//
//   step_00001000/           complete: it was published by one rename
//   step_00001000.tmp/       being written, or left behind by a run that was killed
//   step_00001000.replaced/  the older of two saves of one step, there only while the newer one takes its
//   place
//
// A name without .tmp is complete. Publishing a step that exists already moves the older directory aside,
// renames the newer one in and then removes the older: at every moment one of the two is complete and listed.
// Nothing complete is ever deleted under its own name, but renamed to .tmp first.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace foretoken {

/// "step_00001000"
std::string checkpoint_name(std::int64_t step);

struct CompleteCheckpoint {
  std::int64_t step = 0;
  std::filesystem::path path;
};

/// The complete checkpoints that lie in a directory, highest step first, whatever branch they are of: see
/// list_checkpoints() in io/lineage.h for those that a run goes on from. A DataError where the directory does
/// not exist.
std::vector<CompleteCheckpoint> complete_checkpoints(const std::filesystem::path& directory);

/// Is that the name of a checkpoint, step_00001000? A DataError for one that was never completed.
bool is_checkpoint_path(const std::filesystem::path& path);

/// Removes what earlier, interrupted saves left behind and makes an empty directory for a new one.
/// No other save may be under way in `directory`.
std::filesystem::path prepare_checkpoint(const std::filesystem::path& directory, std::int64_t step);

/// First half of publishing: moves an older checkpoint of that step aside, if there is one.
void set_aside_checkpoint(const std::filesystem::path& directory, std::int64_t step);
/// Second half: the rename, made durable; then removes what was set aside.
void publish_checkpoint(const std::filesystem::path& directory, std::int64_t step);

/// Keeps the `keep` newest of the checkpoints up to `step`, which itself is always kept. Later steps, which a
/// run that was set back has left, are not touched.
void retire_checkpoints(const std::filesystem::path& directory, std::int64_t step, int keep);

/// Removes a directory that is not complete, as far as possible.
void discard_checkpoint(const std::filesystem::path& unfinished) noexcept;

}  // namespace foretoken
