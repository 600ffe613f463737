#include "io/checkpoint/checkpoint_directory.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "io/files/durable_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view unfinished_suffix = ".tmp";
constexpr std::string_view discarded_prefix = ".discarded.";
constexpr std::string_view replaced_suffix = ".replaced";

struct Entry {
  std::int64_t step = 0;
  std::string suffix;
  fs::path path;

  bool incomplete() const {
    return suffix == unfinished_suffix ||
           (suffix.starts_with(discarded_prefix) && suffix.ends_with(unfinished_suffix));
  }
};

std::optional<Entry> parse(const fs::path& path) {
  const std::string name = path.filename().string();
  constexpr std::string_view prefix = "step_";
  if (!name.starts_with(prefix)) return std::nullopt;
  Entry entry;
  const char* begin = name.data() + prefix.size();
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(begin, end, entry.step);
  entry.suffix.assign(rest, end);
  if (error != std::errc() || entry.step < 0 || name != checkpoint_name(entry.step) + entry.suffix)
    return std::nullopt;
  if (!entry.suffix.empty() && !entry.incomplete() && entry.suffix != replaced_suffix) return std::nullopt;
  entry.path = path;
  return entry;
}

/// All checkpoint directories, highest step first, the newer of two saves of a step first.
std::vector<Entry> entries(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error))
    throw DataError("checkpoints: {}: {}", directory.string(),
                    fs::exists(directory, error) ? "is not a directory" : "there is no such directory");
  std::vector<Entry> found;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (auto entry = parse(it->path()); entry && it->is_directory(ignored))
      found.push_back(std::move(*entry));
  }
  if (error) throw DataError("checkpoints: {}: cannot be listed: {}", directory.string(), error.message());
  std::sort(found.begin(), found.end(), [](const Entry& a, const Entry& b) {
    return a.step != b.step ? a.step > b.step : a.suffix < b.suffix;
  });
  return found;
}

void rename_directory(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    throw DataError("checkpoint {}: cannot be renamed to {}: {}", from.string(), to.filename().string(),
                    error.message());
}

/// Removes a directory of an incomplete name. It stays, for a later prepare_checkpoint(), if a process has
/// one of its files open on a network file system: such a file keeps a name, ".nfs...", until it is closed.
void remove_incomplete(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error && error != std::errc::directory_not_empty && error != std::errc::device_or_resource_busy)
    throw DataError("checkpoint {}: cannot be removed: {}", path.string(), error.message());
}

fs::path unfinished_path(const fs::path& directory, std::int64_t step) {
  return directory / (checkpoint_name(step) + std::string(unfinished_suffix));
}

/// A free name for a directory of that step that is about to be removed. Example:
/// "step_00001000.discarded.1.tmp".
fs::path discarded_path(const fs::path& directory, std::int64_t step) {
  std::error_code ignored;
  for (int number = 1;; ++number) {
    const fs::path path = directory / fmt::format("{}{}{}{}", checkpoint_name(step), discarded_prefix, number,
                                                  unfinished_suffix);
    if (!fs::exists(path, ignored)) return path;
  }
}

/// Renames the directory before it removes it: an interrupted removal must not leave half a checkpoint under
/// the name of a complete one.
void remove_complete(const fs::path& directory, const Entry& entry) {
  const fs::path discarded = discarded_path(directory, entry.step);
  rename_directory(entry.path, discarded);
  remove_incomplete(discarded);
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("step_{:08}", step);
}

std::vector<CompleteCheckpoint> complete_checkpoints(const fs::path& directory) {
  std::vector<CompleteCheckpoint> complete;
  for (const Entry& entry : entries(directory))
    if (!entry.incomplete() && (complete.empty() || entry.step != complete.back().step))
      complete.push_back({entry.step, entry.path});
  return complete;
}

bool is_checkpoint_path(const fs::path& path) {
  const std::optional<Entry> entry = parse(path);
  if (entry && entry->incomplete())
    throw DataError("checkpoint {}: was never completed (its name ends in .tmp)", path.string());
  return entry.has_value();
}

fs::path prepare_checkpoint(const fs::path& directory, std::int64_t step) {
  std::error_code error;
  if (fs::create_directories(directory, error) && directory.has_parent_path())
    sync_to_disk(directory.parent_path());
  if (error) throw DataError("checkpoints: {}: cannot be created: {}", directory.string(), error.message());
  std::int64_t published = -1;
  for (const Entry& entry : entries(directory)) {
    if (entry.suffix.empty()) published = entry.step;
    if (entry.incomplete()) remove_incomplete(entry.path);
    if (entry.suffix == replaced_suffix && entry.step == published) remove_complete(directory, entry);
  }
  const fs::path unfinished = unfinished_path(directory, step);
  if (fs::exists(unfinished, error)) rename_directory(unfinished, discarded_path(directory, step));
  if (!fs::create_directory(unfinished, error))
    throw DataError("checkpoint {}: cannot be created: {}", unfinished.string(), error.message());
  return unfinished;
}

void set_aside_checkpoint(const fs::path& directory, std::int64_t step) {
  const fs::path complete = directory / checkpoint_name(step);
  const fs::path replaced = directory / (checkpoint_name(step) + std::string(replaced_suffix));
  std::error_code error;
  if (!fs::exists(complete, error)) return;
  if (fs::exists(replaced, error))  // left by a crash after the complete directory had replaced it
    remove_complete(directory, {step, std::string(replaced_suffix), replaced});
  rename_directory(complete, replaced);
}

void publish_checkpoint(const fs::path& directory, std::int64_t step) {
  rename_directory(unfinished_path(directory, step), directory / checkpoint_name(step));
  sync_to_disk(directory);
  for (const Entry& entry : entries(directory))
    if (entry.step == step && entry.suffix == replaced_suffix) remove_complete(directory, entry);
}

void retire_checkpoints(const fs::path& directory, std::int64_t step, int keep) {
  int kept = 0;
  for (const Entry& entry : entries(directory)) {
    if (entry.incomplete() || entry.step > step) continue;
    if (kept < keep)
      ++kept;
    else
      remove_complete(directory, entry);
  }
}

void discard_checkpoint(const fs::path& unfinished) noexcept try {
  const fs::path discarded = discarded_path(unfinished.parent_path(), parse(unfinished).value().step);
  rename_directory(unfinished, discarded);
  remove_incomplete(discarded);
} catch (const std::exception&) {  // the next prepare_checkpoint() reports the reason
}

}  // namespace foretoken
