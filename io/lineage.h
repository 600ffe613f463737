#pragma once
// The branches of a run, and which of its checkpoints it goes on from.
//
// A run that resumes from a checkpoint other than its newest one goes back: what followed that checkpoint is
// abandoned, and a new branch starts. Every manifest says of which branch it is and where that branch and
// those before it started, so that the newest checkpoint is the newest of the current branch, not the highest
// number.
//
//   checkpoints/
//     branch.json                      the current branch, once the run has gone back
//     step_00000010/  step_00000015/   the checkpoints of the current line
//     abandoned/branch_1/step_.../     set aside: neither listed nor retired, loaded by explicit path alone
//
// branch.json is written first and alone decides: a run that is killed before the folders are moved is read
// the same way, and the next job moves them.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace foretoken {

struct CheckpointInfo;

/// A branch and the steps before it that it goes on from.
struct Lineage {
  struct Ancestor {
    std::int64_t branch = 1;
    std::int64_t until = 0;  // its last step that belongs to the line
    bool operator==(const Ancestor&) const = default;
  };
  std::int64_t branch = 1;
  std::vector<Ancestor> ancestors;  // oldest first

  /// Is that step of that branch part of this line?
  bool contains(std::int64_t of_branch, std::int64_t step) const;
  bool operator==(const Lineage&) const = default;
};

/// branch.json.
struct BranchRecord {
  Lineage lineage;
  /// While going back is unfinished: the configuration that the run goes on with.
  std::optional<std::string> config;
};

/// The checkpoints of a run, of all branches.
struct RunBranches {
  struct Entry {
    std::filesystem::path path;
    std::int64_t step = 0;
    std::optional<std::int64_t> branch;  // none: the manifest cannot be read, or nothing was abandoned yet
    bool set_aside = false;              // where it lies: in abandoned/
    bool in_line = true;                 // what counts
  };
  Lineage current;
  std::optional<std::string> unfinished_config;  // of BranchRecord
  std::vector<Entry> entries;                    // highest step first

  /// The highest number of a branch that is known of.
  std::int64_t highest_branch() const;
};

/// Looks at a folder of checkpoints. A DataError where it does not exist.
RunBranches branches_of(const std::filesystem::path& directory);

/// The complete checkpoints of a folder that belong to its current line, newest first. A DataError where the
/// folder does not exist.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& directory);

/// What a person means by RUN|CHECKPOINT: a checkpoint itself, or the current line of a run (RUN/checkpoints)
/// or of a folder of checkpoints, newest first. Never empty: a DataError where the path does not exist, is
/// still being written, or holds no checkpoint.
std::vector<std::filesystem::path> checkpoints_at(const std::filesystem::path& path);

/// How often a reader lists the checkpoints of a run in which another job saves and retires.
constexpr int listings_tried = 20;
/// Is a checkpoint that was listed no longer there?
bool has_vanished(const std::filesystem::path& checkpoint);

/// The line that a run is on which goes on from checkpoint `from` of `directory`, read as `path`: the current
/// one from its newest checkpoint, a new branch from another and where branch.json is damaged. A new branch
/// is recorded durably in branch.json together with `config`, and what it abandons is set aside. The caller
/// holds the run's lock and calls finish_branch() once the run's other files agree.
Lineage go_on_from(const std::filesystem::path& directory, const std::filesystem::path& path,
                   const CheckpointInfo& from, const std::string& config);

/// Sets aside what the current line has abandoned and brings back what it goes on from. Repeats what a killed
/// job left undone. The caller holds the run's lock.
void settle_branches(const std::filesystem::path& directory);

/// What is wrong with branch.json. Empty where it holds or is not there.
std::string branch_fault(const std::filesystem::path& directory);

/// Forgets the configuration in branch.json. Nothing where there is none.
void finish_branch(const std::filesystem::path& directory);

}  // namespace foretoken
