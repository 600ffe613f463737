#include "launch/commands/inspect_files.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>

#include <fmt/ostream.h>

#include "io/checkpoint/checkpoint_manifest.h"
#include "io/checkpoint/lineage.h"
#include "io/checkpoint/run_directory.h"
#include "io/datasets/token_dataset.h"
#include "io/files/sealed_text.h"
#include "io/files/text_file.h"
#include "io/report/metrics_history.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

/// Example: "783, of 4 to 512000 tokens, 14961 on average".
std::string documents_text(const TokenDataset& dataset) {
  std::int64_t shortest = std::numeric_limits<std::int64_t>::max(), longest = 0;
  const std::span<const std::int64_t> offsets = dataset.document_offsets();
  for (std::size_t d = 1; d < offsets.size(); ++d) {
    shortest = std::min(shortest, offsets[d] - offsets[d - 1]);
    longest = std::max(longest, offsets[d] - offsets[d - 1]);
  }
  return fmt::format("{}, of {} to {} tokens, {} on average", dataset.documents(), shortest, longest,
                     dataset.tokens() / dataset.documents());
}

}  // namespace

int inspect_dataset(const std::string& path, bool verify, std::ostream& out) {
  const TokenDataset dataset(path);
  const auto line = [&](const char* name, const auto& value) { fmt::print(out, "{:<12} {}\n", name, value); };
  line("dataset", path);
  line("format", dataset.has_digests() ? "version 2" : "version 1, without digests");
  line("identity", dataset.identity());
  line("tokenizer", to_string(dataset.tokenizer()));
  line("tokens", dataset.tokens());
  line("documents", documents_text(dataset));
  line("size", bytes_text(static_cast<std::int64_t>(std::filesystem::file_size(path))));
  if (!verify) return static_cast<int>(ExitCode::done);

  const std::vector<std::string> failures = dataset.verify();
  for (const std::string& failure : failures) fmt::print(out, "damaged: {}\n", failure);
  if (!failures.empty()) return static_cast<int>(ExitCode::data);
  fmt::print(out, "{}\n",
             dataset.has_digests()
                 ? "every byte is unchanged"
                 : "every token is in the vocabulary; without digests nothing else can be checked");
  return static_cast<int>(ExitCode::done);
}

namespace {

/// Says what is wrong with a metrics file; empty if it is intact.
std::string metrics_error(const std::string& path) try {
  const MetricsHistory history = read_metrics(path);
  if (history.unreadable_lines > 0)
    return fmt::format("{} cannot be read; the first: {}", counted(history.unreadable_lines, "line"),
                       history.first_unreadable);
  return history.torn ? fmt::format("{}: ends inside a line", path) : "";
} catch (const DataError& error) {
  return error.what();
}

}  // namespace

std::vector<std::string> run_file_errors(const std::string& run_or_checkpoint) {
  std::optional<RunDirectory> run;
  try {
    run = RunDirectory::open(run_or_checkpoint);
  } catch (const DataError&) {
    return {};
  }
  std::vector<std::string> messages;
  try {
    if (const std::string message = seal_error(read_text_file(run->config_path(), most_config_bytes));
        !message.empty())
      messages.push_back(fmt::format("{}: {}", run->config_path(), message));
  } catch (const DataError& error) {
    messages.push_back(error.what());
  }
  for (const std::string& path : {run->metrics_path(), run->metrics_path() + ".superseded"})
    if (const std::string message = metrics_error(path); !message.empty()) messages.push_back(message);
  if (const std::string message = branch_error(run->checkpoints_path()); !message.empty())
    messages.push_back(message);
  return messages;
}

}  // namespace foretoken
