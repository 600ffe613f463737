#include "launch/commands/inspect.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <vector>

#include <fmt/ostream.h>
#include <fmt/ranges.h>

#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/lineage.h"
#include "io/files/printable.h"
#include "launch/commands/inspect_files.h"
#include "launch/console/columns.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

/// Compares numbers in names as numbers: layer 10 comes after layer 9.
struct NaturalOrder {
  bool operator()(const std::string& a, const std::string& b) const {
    const auto is_digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
    auto i = a.begin();
    auto j = b.begin();
    while (i != a.end() && j != b.end()) {
      if (is_digit(*i) && is_digit(*j)) {
        const auto i_end = std::find_if_not(i, a.end(), is_digit);
        const auto j_end = std::find_if_not(j, b.end(), is_digit);
        if (i_end - i != j_end - j) return i_end - i < j_end - j;
        const int order = std::string(i, i_end).compare(std::string(j, j_end));
        if (order != 0) return order < 0;
        i = i_end;
        j = j_end;
      } else {
        if (*i != *j) return *i < *j;
        ++i;
        ++j;
      }
    }
    return i == a.end() && j != b.end();
  }
};

struct TensorRow {
  Shape shape;
  DType dtype = DType::f32;
  int pieces = 0;                 // pieces of the weights
  std::set<std::string> files;    // shards with pieces of the weights or the moments
  std::set<std::string> moments;  // kinds of AdamW's moments: exp_avg, exp_avg_sq
};

using TensorTable = std::map<std::string, TensorRow, NaturalOrder>;

TensorTable table_of(const Checkpoint& checkpoint) {
  TensorTable table;
  for (const PieceRecord& piece : checkpoint.manifest().pieces) {
    TensorRow& row = table[piece.tensor];
    row.files.insert(piece.file);
    const bool itself = piece.kind == "model" || !checkpoint.has("model", piece.tensor);
    if (itself) {
      row.shape = piece.shape;
      row.dtype = piece.dtype;
      ++row.pieces;
    }
    if (piece.kind != "model") row.moments.insert(piece.kind);
  }
  return table;
}

/// Numbers of the shards, such as "0 2" for shard_00000.h5 and shard_00002.h5, or how many there are if they
/// are more than four.
std::string shards_text(const std::set<std::string>& files) {
  if (files.size() > 4) return fmt::format("{} shards", files.size());
  std::vector<std::string> numbers;
  for (const std::string& file : files) {
    const std::size_t begin = std::min(file.find_first_of("123456789"), file.rfind('.') - 1);
    numbers.push_back(file.substr(begin, file.rfind('.') - begin));
  }
  return fmt::format("{}", fmt::join(numbers, " "));
}

void print_header(const Checkpoint& checkpoint, std::ostream& out) {
  const CheckpointInfo& info = checkpoint.info();
  std::int64_t stored = 0;
  std::set<std::string> dtypes;
  for (const PieceRecord& piece : checkpoint.manifest().pieces) {
    stored += piece.bytes();
    dtypes.insert(fmt::format("{} {}", piece.kind, name_of(piece.dtype)));
  }
  std::int64_t on_disk = 0;
  for (const ShardFile& file : checkpoint.manifest().files) on_disk += file.bytes;
  const auto line = [&](const char* name, const auto& value) {
    fmt::print(out, "{:<12} {}\n", name, printable(fmt::format("{}", value)));
  };
  line("checkpoint", checkpoint.directory().string());
  line("step", info.step);
  line("tokens", info.tokens);
  line("samples", info.samples);
  line("layout", to_string(info.grid));
  line("seed", info.seed);
  for (const auto& [name, value] : info.conventions) line("convention", fmt::format("{} = {}", name, value));
  line("tokenizer", to_string(info.tokenizer));
  line("created", info.created);
  if (!info.suspect.empty()) line("suspect", info.suspect);
  line("dtypes", fmt::format("{}", fmt::join(dtypes, ", ")));
  line("size", fmt::format("{} of tensors, {} in {}", bytes_text(stored), bytes_text(on_disk),
                           counted(checkpoint.manifest().files.size(), "file")));
}

/// Lines of at most terminal_columns characters. A name that is too long has a line of its own.
void print_table(const TensorTable& table, std::ostream& out) {
  std::size_t name_width = 6;
  std::size_t shape_width = 5;
  for (const auto& [name, row] : table) {
    name_width = std::max(name_width, printable(name).size());
    shape_width = std::max(shape_width, to_string(row.shape).size());
  }
  constexpr std::size_t other_columns = 40;
  name_width =
      std::min(name_width, terminal_columns - other_columns - std::min(shape_width, terminal_columns / 2));
  const auto line = [&](const std::string& name, const auto&... cells) {
    if (name.size() > name_width) fmt::print(out, "{}\n", name);
    fmt::print(out, fmt::runtime("{:<{}}  {:<{}}  {:<5}  {:>6}  {:>7}  {}\n"),
               name.size() > name_width ? "" : name, name_width, cells...);
  };
  out << '\n';
  line("tensor", "shape", shape_width, "dtype", "pieces", "moments", "shards");
  std::int64_t parameters = 0;
  for (const auto& [name, row] : table) {
    line(printable(name), to_string(row.shape), shape_width, name_of(row.dtype), row.pieces,
         row.moments.size(), printable(shards_text(row.files)));
    parameters += row.shape.elements();
  }
  fmt::print(out, "\n{}, {}\n", counted(table.size(), "tensor"), counted(parameters, "parameter"));
}

/// Prints one line per branch of a run that has gone back; nothing for other runs.
void print_branches(const std::string& path, std::ostream& out) {
  std::error_code error;
  const std::filesystem::path checkpoints = std::filesystem::path(path) / "checkpoints";
  if (!std::filesystem::is_directory(checkpoints, error)) return;
  const RunBranches branches = branches_of(checkpoints);
  if (branches.highest_branch() < 2) return;
  std::map<std::int64_t, std::vector<std::string>> steps_of;  // lowest step first
  for (auto entry = branches.entries.rbegin(); entry != branches.entries.rend(); ++entry)
    if (entry->branch) steps_of[*entry->branch].push_back(std::to_string(entry->step));
  steps_of.try_emplace(branches.current.branch);
  for (const auto& [branch, steps] : steps_of) {
    const auto& ancestors = branches.current.ancestors;
    const auto ancestor = std::find_if(ancestors.begin(), ancestors.end(),
                                       [b = branch](const auto& each) { return each.branch == b; });
    std::string state = "abandoned";
    if (branch == branches.current.branch)
      state = "current" + (ancestors.empty() ? ""
                                             : fmt::format(", from step {} of branch {}",
                                                           ancestors.back().until, ancestors.back().branch));
    else if (ancestor != ancestors.end())
      state = fmt::format("abandoned after step {}", ancestor->until);
    fmt::print(
        out, "branch {:<5} {}; {}\n", branch, state,
        steps.empty() ? "no checkpoint yet" : fmt::format("checkpoints of steps {}", fmt::join(steps, ", ")));
  }
  fmt::print(out, "\n");
}

void print_checkpoint(const Checkpoint& checkpoint, std::ostream& out) {
  print_header(checkpoint, out);
  print_table(table_of(checkpoint), out);
}

/// Checks all digests of all checkpoints; prints one line each if there are several. Checkpoints that a job
/// retires in the meantime are left out. Returns whether all digests are correct; empty if all checkpoints
/// were retired.
std::optional<bool> verify_checkpoints(const std::vector<std::filesystem::path>& paths, std::ostream& out) {
  std::optional<bool> hold;
  for (const std::filesystem::path& path : paths) {
    const std::string name = path.filename().string(), branch = path.parent_path().filename().string();
    const std::string where = branch.starts_with("branch_") ? "abandoned/" + branch + "/" : "";
    std::vector<std::string> failures;
    std::size_t digests = 0;
    try {
      const Checkpoint checkpoint = Checkpoint::open(path);
      failures = checkpoint.verify();
      digests = checkpoint.manifest().pieces.size() + checkpoint.manifest().files.size();
    } catch (const DataError& error) {
      failures = {error.what()};
    }
    if (!failures.empty() && has_vanished(path)) continue;
    for (const std::string& failure : failures)
      fmt::print(out, "damaged: {}{}\n", failure.starts_with(name) ? where : "", printable(failure));
    if (failures.empty())
      fmt::print(out, "{}all {} digests match\n", paths.size() == 1 ? "" : where + printable(name) + ": ",
                 digests);
    hold = hold.value_or(true) && failures.empty();
  }
  return hold;
}

/// The checkpoint itself, or all checkpoints of a run, abandoned branches included.
std::vector<std::filesystem::path> all_checkpoints(const std::string& path) {
  const std::filesystem::path newest = checkpoints_at(path).front(), run = path;
  std::error_code error;
  if (std::filesystem::equivalent(newest, run, error)) return {newest};
  const bool is_run = std::filesystem::is_directory(run / "checkpoints", error);
  std::vector<std::filesystem::path> all;
  for (const RunBranches::Entry& entry : branches_of(is_run ? run / "checkpoints" : run).entries)
    all.push_back(entry.path);
  return all;
}

/// Checks the files of a run and all its checkpoints or, if the path is a checkpoint, that one and the files
/// of its run, if it is in one. Returns 3 if something is damaged.
int verify_all(const std::string& path, std::ostream& out) {
  std::optional<bool> hold;
  for (int listing = 1; !hold; ++listing) {
    if (listing > listings_tried)
      throw DataError("{}: a training job removed all checkpoints while they were read, {} times in a row",
                      path, listings_tried);
    hold = verify_checkpoints(all_checkpoints(path), out);
  }
  bool holds = *hold;
  for (const std::string& message : run_file_errors(path)) {
    fmt::print(out, "damaged: {}\n", printable(message));
    holds = false;
  }
  return static_cast<int>(holds ? ExitCode::done : ExitCode::data);
}

}  // namespace

int inspect(const std::string& path, bool verify, std::ostream& out) {
  if (std::error_code none; std::filesystem::is_regular_file(path, none))
    return inspect_dataset(path, verify, out);
  for (int listing = 1;; ++listing) {
    const std::filesystem::path newest = checkpoints_at(path).front();
    std::ostringstream text;
    try {
      print_branches(path, text);
      print_checkpoint(Checkpoint::open(newest), text);
    } catch (const DataError&) {
      // A training job in the run retired the checkpoint while it was read.
      if (has_vanished(newest) && listing < listings_tried) continue;
      if (!verify) throw;
    }
    out << text.str();
    return verify ? verify_all(path, out) : static_cast<int>(ExitCode::done);
  }
}

}  // namespace foretoken
