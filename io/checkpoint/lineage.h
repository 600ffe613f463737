#pragma once
// The branches of a run, and the checkpoints that it can continue from.
//
// A run that resumes from a checkpoint other than its newest one goes back: later checkpoints are abandoned,
// and a new branch starts. Every manifest records its branch and where that branch and its ancestors
// started. The newest checkpoint is therefore the newest one of the current branch, not the one with the
// highest number.
//
//   checkpoints/
//     branch.json                      the current branch, once the run has gone back
//     step_00000010/  step_00000015/   the checkpoints of the current lineage
//     abandoned/branch_1/step_.../     set aside: neither listed nor retired, loaded by explicit path only
//
// branch.json is written before the folders are moved, and it alone decides which lineage is current. If a
// run is killed in between, the next job moves the folders.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace foretoken {

struct CheckpointInfo;

/// A branch, and the earlier branches whose steps it continues.
struct Lineage {
  struct Ancestor {
    std::int64_t branch = 1;
    std::int64_t until = 0;  // the ancestor's last step in the lineage
    bool operator==(const Ancestor&) const = default;
  };
  std::int64_t branch = 1;
  std::vector<Ancestor> ancestors;  // oldest first

  /// Whether step `step` of branch `of_branch` is part of this lineage.
  bool contains(std::int64_t of_branch, std::int64_t step) const;
  bool operator==(const Lineage&) const = default;
};

/// Contents of branch.json.
struct BranchRecord {
  Lineage lineage;
  /// The configuration of the new branch; set until finish_branch().
  std::optional<std::string> config;
};

/// The checkpoints of a run, of all branches.
struct RunBranches {
  struct Entry {
    std::filesystem::path path;
    std::int64_t step = 0;
    std::optional<std::int64_t> branch;  // empty: the manifest cannot be read, or the run never went back
    bool set_aside = false;              // it is stored in abandoned/
    bool in_line = true;                 // it belongs to the current lineage
  };
  Lineage current;
  std::optional<std::string> unfinished_config;  // BranchRecord::config
  std::vector<Entry> entries;                    // highest step first

  /// The highest known branch number.
  std::int64_t highest_branch() const;
};

/// Reads a folder of checkpoints. Throws a DataError if it does not exist.
RunBranches branches_of(const std::filesystem::path& directory);

/// The complete checkpoints of a folder that belong to its current lineage, newest first. Throws a DataError
/// if the folder does not exist.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& directory);

/// Resolves RUN|CHECKPOINT of a command line: a checkpoint itself, or the current lineage of a run
/// (RUN/checkpoints) or of a folder of checkpoints, newest first, those marked suspect after all others.
/// Never empty: throws a DataError if the path does not exist, is still being written, or has no checkpoint.
std::vector<std::filesystem::path> checkpoints_at(const std::filesystem::path& path);

/// How often a reader lists a run's checkpoints before it gives up. It lists them again if a training job has
/// retired a listed checkpoint.
constexpr int listings_tried = 20;
/// Whether a listed checkpoint no longer exists.
bool has_vanished(const std::filesystem::path& checkpoint);

/// The lineage of a run that continues from checkpoint `from` of `directory`, read as `path`. If `from` is
/// the newest checkpoint, the result is the current lineage; otherwise, or if branch.json is damaged, it is a
/// new branch. A new branch is recorded durably in branch.json together with `config`, and the checkpoints
/// that it abandons are set aside. The caller must hold the run's lock, and calls finish_branch() once the
/// run's other files agree.
Lineage continue_from(const std::filesystem::path& directory, const std::filesystem::path& path,
                      const CheckpointInfo& from, const std::string& config);

/// Moves the folders of checkpoints to where the current lineage needs them: those that it abandoned into
/// abandoned/, those that it contains back to `directory`. Removes folders of branches that are then empty.
/// Completes moves that a killed job left undone. The caller must hold the run's lock.
void restore_branches(const std::filesystem::path& directory);

/// Says what is wrong with branch.json; empty if the file is valid or missing.
std::string branch_error(const std::filesystem::path& directory);

/// Removes the configuration from branch.json, if there is one.
void finish_branch(const std::filesystem::path& directory);

}  // namespace foretoken
