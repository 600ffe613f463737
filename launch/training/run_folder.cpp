#include "launch/training/run_folder.h"

#include <filesystem>

#include <fmt/format.h>

#include "io/checkpoint/lineage.h"
#include "io/files/durable_file.h"
#include "io/report/metrics.h"
#include "launch/config/config_loader.h"
#include "launch/session/agreement.h"
#include "launch/session/train_config.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

/// Runs `body` on rank 0 and rethrows its error on every rank.
template <class Body>
void on_root(Communicator& world, const Body& body) {
  std::string message;
  ExitCode code = ExitCode::done;
  if (world.rank() == 0) try {
      body();
    } catch (const Error& error) {
      message = error.what();
      code = error.code();
    }
  message = first_error(world, message);
  if (message.empty()) return;
  const auto agreed = broadcast_text(world, code == ExitCode::usage ? "usage" : "data");
  if (agreed == "usage") throw UsageError("{}", message);
  throw DataError("{}", message);
}

/// The checkpoints that the new lineage sets aside, as subject and verb: "steps 15 to 30 are".
std::string abandoned_text(const RunBranches& before, const Lineage& lineage) {
  std::int64_t first = 0, last = -1;
  for (const RunBranches::Entry& entry : before.entries) {
    if (!entry.in_line || lineage.contains(entry.branch.value_or(before.current.branch), entry.step))
      continue;
    first = entry.step;
    last = std::max(last, entry.step);
  }
  if (last < 0) return "no checkpoint is";
  return first == last ? fmt::format("step {} is", first) : fmt::format("steps {} to {} are", first, last);
}

/// Renames the file, folder or pipe at the path to "<path>.damaged", "<path>.damaged.2" and so on. Returns
/// the new path; empty if nothing existed or the file is empty.
std::string keep_damaged(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error) || (fs::is_regular_file(path, error) && fs::is_empty(path, error))) return {};
  const std::string damaged = path.string() + ".damaged";
  std::string kept = damaged;
  for (int number = 2; fs::exists(kept, error); ++number) kept = fmt::format("{}.{}", damaged, number);
  fs::rename(path, kept, error);
  if (error)
    throw DataError("run directory: {}: cannot be moved to {}: {}", path.string(), kept, error.message());
  return kept;
}

}  // namespace

RunFolder::RunFolder(Communicator& world, const TrainArguments& arguments, Console& console)
    : world_(world), arguments_(arguments), console_(console) {
  if (arguments.resume.empty() && !arguments.auto_resume) return;
  on_root(world, [&] { arguments.auto_resume ? claim_automatic() : claim_resumed(); });
  resume_ = broadcast_text(world, resume_);
}

void RunFolder::claim_resumed() {
  directory_ = RunDirectory::open(arguments_.resume);
  lock(directory_->path());
  repair();
  resume_ = arguments_.resume;
}

void RunFolder::claim_automatic() {
  const std::string& path = arguments_.run_directory;
  RunDirectory::require_usable(path);
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw DataError("run directory: {}: cannot be created: {}", path, error.message());
  lock(path);
  if (!holds_checkpoint(path)) return;
  directory_ = RunDirectory::open(path);
  repair();
  resume_ = path;
}

void RunFolder::lock(const std::string& path) {
  lock_.emplace(path, RunLockOptions{.log = [this](const std::string& text) { console_.line(text); }});
}

void RunFolder::repair() {
  const std::string checkpoints = directory_->checkpoints_path();
  const std::optional<std::string> unfinished = branches_of(checkpoints).unfinished_config;
  if (const std::string message = branch_error(checkpoints); !message.empty())
    console_.warn(
        fmt::format("{}; the current branch is read from the checkpoints, and a new branch starts", message));
  restore_branches(checkpoints);
  if (unfinished) directory_->write_config(*unfinished);
  finish_branch(checkpoints);
  const RunSettings settings = settings_of_run(directory_->path());
  if (settings.error.empty()) return;
  const std::string kept = keep_damaged(directory_->config_path());
  directory_->write_config(to_toml(settings.config));
  console_.warn(fmt::format("{}; it is restored from {}{}", settings.error, settings.source,
                            kept.empty() ? "" : ", the old one is kept as " + kept));
}

void RunFolder::start(const Config& config) {
  std::string path;
  on_root(world_, [&] {
    const std::string text = to_toml(config);
    if (arguments_.auto_resume) {  // the constructor has locked it
      directory_ = RunDirectory::create_in(arguments_.run_directory, text);
      truncate(-1);
    } else {
      directory_ = arguments_.run_directory.empty()
                       ? RunDirectory::create(config.run.directory, config.run.name, text)
                       : RunDirectory::create_at(arguments_.run_directory, text);
      lock(directory_->path());
    }
    path = directory_->path();
  });
  directory_ = RunDirectory::open(broadcast_text(world_, path));
}

void RunFolder::continue_from(const Checkpoint& from, const Config& config) {
  on_root(world_, [&] { record(from, config); });
  directory_ = RunDirectory::open(broadcast_text(world_, directory_ ? directory_->path() : ""));
}

void RunFolder::record(const Checkpoint& from, const Config& config) {
  const CheckpointInfo& info = from.info();
  const std::string text = to_toml(config), checkpoints = directory_->checkpoints_path();
  const RunBranches before = branches_of(checkpoints);
  lineage_ = foretoken::continue_from(checkpoints, from.directory(), info, text);
  parent_ = {.id = info.id, .step = info.step};
  truncate(info.step);
  directory_->write_config(text);
  finish_branch(checkpoints);
  if (lineage_.branch > std::max(before.current.branch, info.lineage.branch))
    console_.line(fmt::format("branch     {}: the run goes back to step {} of branch {}; {} set aside in {}",
                              lineage_.branch, info.step, info.lineage.branch,
                              abandoned_text(before, lineage_), checkpoints + "/abandoned"));
}

void RunFolder::truncate(std::int64_t step) {
  const std::string path = directory_->metrics_path();
  const TruncatedMetrics moved = truncate_metrics(path, lineage_, step);
  first_returned_ = moved.first_returned;
  if (moved.damaged > 0)
    console_.warn(fmt::format("metrics: {}; {} damaged line{} moved to {}.damaged", moved.first_damage,
                              moved.damaged, moved.damaged == 1 ? " is" : "s are", path));
}

void RunFolder::require_held() const {
  if (lock_) lock_->require_held();
}

}  // namespace foretoken
