#include "io/checkpoint/lineage.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <unistd.h>

#include <fmt/format.h>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/checkpoint_manifest.h"
#include "io/files/durable_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

constexpr const char* record_name = "branch.json";
constexpr const char* abandoned_name = "abandoned";
constexpr std::string_view branch_prefix = "branch_";

fs::path branch_folder(const fs::path& directory, std::int64_t branch) {
  return directory / abandoned_name / fmt::format("{}{}", branch_prefix, branch);
}

std::optional<std::int64_t> branch_of_folder(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (!name.starts_with(branch_prefix)) return std::nullopt;
  std::int64_t branch = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + branch_prefix.size(), end, branch);
  if (error != std::errc() || rest != end || branch < 1) return std::nullopt;
  return branch;
}

std::optional<BranchRecord> record_in(const fs::path& directory) {
  std::error_code error;
  if (!fs::exists(directory / record_name, error)) return std::nullopt;
  try {
    return read_branch(directory / record_name);
  } catch (const DataError&) {  // branch_error() reports the reason
    return std::nullopt;
  }
}

bool is_suspect(const fs::path& checkpoint) {
  try {
    return !read_manifest(checkpoint / manifest_name).info.suspect.empty();
  } catch (const DataError&) {  // loading it reports the reason
    return false;
  }
}

void rename_durably(const fs::path& from, fs::path to) {
  std::error_code error;
  fs::create_directories(to.parent_path(), error);
  const fs::path wanted = to;
  for (int i = 2; !error && fs::exists(to, error); ++i) to = fmt::format("{}.{}", wanted.string(), i);
  if (!error) fs::rename(from, to, error);
  if (error)
    throw DataError("checkpoint {}: cannot be moved to {}: {}", from.string(), to.string(), error.message());
  sync_to_disk(to.parent_path());
  sync_to_disk(from.parent_path());
}

/// Removes the folders of branches that have no checkpoint left, and abandoned/ itself once it is empty.
void remove_empty_folders(const fs::path& abandoned) {
  std::error_code error;
  std::vector<fs::path> folders;
  for (fs::directory_iterator it(abandoned, error), end; !error && it != end; it.increment(error))
    if (branch_of_folder(it->path())) folders.push_back(it->path());
  folders.push_back(abandoned);
  for (const fs::path& folder : folders) ::rmdir(folder.c_str());  // fails if the folder is not empty
}

}  // namespace

bool Lineage::contains(std::int64_t of_branch, std::int64_t step) const {
  return of_branch == branch || std::any_of(ancestors.begin(), ancestors.end(), [&](const Ancestor& each) {
           return each.branch == of_branch && step <= each.until;
         });
}

std::int64_t RunBranches::highest_branch() const {
  std::int64_t highest = current.branch;
  for (const Entry& entry : entries) highest = std::max(highest, entry.branch.value_or(0));
  return highest;
}

RunBranches branches_of(const fs::path& directory) {
  RunBranches branches;
  for (const CompleteCheckpoint& complete : complete_checkpoints(directory))
    branches.entries.push_back({.path = complete.path, .step = complete.step});
  const std::optional<BranchRecord> record = record_in(directory);
  const fs::path abandoned = directory / abandoned_name;
  std::error_code error;
  if (!record && !fs::is_directory(abandoned, error)) return branches;

  if (record) branches.current = record->lineage;
  if (record) branches.unfinished_config = record->config;
  for (RunBranches::Entry& entry : branches.entries) try {
      const Lineage lineage = read_manifest(entry.path / manifest_name).info.lineage;
      entry.branch = lineage.branch;
      if (lineage.branch <= branches.current.branch) continue;
      branches.current = lineage;
      branches.unfinished_config.reset();  // belonged to an older branch
    } catch (const DataError&) {  // the checkpoint stays in the lineage; loading it reports the reason
    }
  for (fs::directory_iterator it(abandoned, error), end; !error && it != end; it.increment(error))
    if (const auto branch = branch_of_folder(it->path()); branch && it->is_directory(error))
      for (const CompleteCheckpoint& complete : complete_checkpoints(it->path()))
        branches.entries.push_back(
            {.path = complete.path, .step = complete.step, .branch = branch, .set_aside = true});
  // Without branch.json no checkpoint in abandoned/ belongs to the current lineage: the newest branch may
  // have no checkpoint yet, and then no manifest names it.
  for (RunBranches::Entry& entry : branches.entries)
    entry.in_line = (record || !entry.set_aside) &&
                    (!entry.branch || branches.current.contains(*entry.branch, entry.step));
  std::stable_sort(branches.entries.begin(), branches.entries.end(),
                   [](const auto& a, const auto& b) { return a.step > b.step; });
  return branches;
}

std::vector<fs::path> list_checkpoints(const fs::path& directory) {
  std::vector<fs::path> listed;
  for (const RunBranches::Entry& entry : branches_of(directory).entries)
    if (entry.in_line) listed.push_back(entry.path);
  return listed;
}

std::vector<fs::path> checkpoints_at(const fs::path& path) {
  fs::path clean = path.lexically_normal();
  if (!clean.has_filename()) clean = clean.parent_path();
  std::error_code error;
  if (!fs::exists(clean, error)) throw DataError("checkpoint {}: there is no such path", path.string());
  if (is_checkpoint_path(clean)) return {clean};
  if (fs::exists(clean / manifest_name, error)) return {clean};  // a checkpoint that a person has renamed
  const fs::path run = clean / "checkpoints";
  const fs::path folder = fs::is_directory(run, error) ? run : clean;
  std::vector<fs::path> found = list_checkpoints(folder);
  if (found.empty()) throw DataError("checkpoint {}: contains no complete checkpoint", folder.string());
  std::stable_partition(found.begin(), found.end(),
                        [](const fs::path& checkpoint) { return !is_suspect(checkpoint); });
  return found;
}

bool has_vanished(const fs::path& checkpoint) {
  // Lists the folder: NFS answers a query for the name alone from a cache, for up to a minute.
  const fs::path clean = fs::absolute(checkpoint).lexically_normal();
  const fs::path path = clean.has_filename() ? clean : clean.parent_path();
  std::error_code error;
  for (fs::directory_iterator it(path.parent_path(), error), end; !error && it != end; it.increment(error))
    if (it->path().filename() == path.filename()) return false;
  return !error;
}

Lineage continue_from(const fs::path& directory, const fs::path& path, const CheckpointInfo& from,
                      const std::string& config) {
  const RunBranches branches = branches_of(directory);
  const auto tip = std::find_if(branches.entries.begin(), branches.entries.end(),
                                [](const RunBranches::Entry& entry) { return entry.in_line; });
  std::error_code error;
  // A damaged branch.json is replaced by a new branch.
  if (tip != branches.entries.end() && fs::equivalent(tip->path, path, error) &&
      branch_error(directory).empty())
    return branches.current.branch >= from.lineage.branch ? branches.current : from.lineage;

  Lineage lineage = from.lineage;
  lineage.ancestors.push_back({.branch = from.lineage.branch, .until = from.step});
  lineage.branch = std::max(branches.highest_branch(), from.lineage.branch) + 1;
  write_durably(directory / record_name, branch_text({.lineage = lineage, .config = config}));
  restore_branches(directory);
  return lineage;
}

void restore_branches(const fs::path& directory) {
  const RunBranches branches = branches_of(directory);
  const std::vector<Lineage::Ancestor>& ancestors = branches.current.ancestors;
  for (const RunBranches::Entry& entry : branches.entries) {
    // A later checkpoint that cannot be read was skipped by the resume that started this branch.
    const bool unreadable = !entry.branch && branches.unfinished_config && !ancestors.empty() &&
                            entry.step > ancestors.back().until;
    if (!entry.set_aside && (unreadable || !entry.in_line))
      rename_durably(entry.path,
                     branch_folder(directory, entry.branch ? *entry.branch : ancestors.back().branch) /
                         checkpoint_name(entry.step));
    else if (entry.set_aside && entry.in_line)
      rename_durably(entry.path, directory / checkpoint_name(entry.step));
  }
  remove_empty_folders(directory / abandoned_name);
}

std::string branch_error(const fs::path& directory) try {
  std::error_code error;
  if (fs::exists(directory / record_name, error)) read_branch(directory / record_name);
  return {};
} catch (const DataError& error) {
  return error.what();
}

void finish_branch(const fs::path& directory) {
  const std::optional<BranchRecord> record = record_in(directory);
  if (record && record->config)
    write_durably(directory / record_name, branch_text({.lineage = record->lineage, .config = {}}));
}

}  // namespace foretoken
