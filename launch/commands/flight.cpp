#include "launch/commands/flight.h"

#include <algorithm>
#include <system_error>
#include <unistd.h>
#include <vector>

#include <fmt/ostream.h>

#include "io/checkpoint/run_directory.h"
#include "parallel/flight/flight_sentence.h"
#include "parallel/job.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kept_launches = 4;

/// The name of this launch of the program, equal on all its ranks.
std::string launch_name() {
  const std::string id = job_by_environment().id;
  return id.empty() ? "job" : id;
}

bool has_records(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator i(folder, error), end; !error && i != end; i.increment(error)) {
    const std::string name = i->path().filename().string();
    if (name.starts_with("rank_") && name.ends_with(".txt")) return true;
  }
  return false;
}

/// Folders of records in `folder`, newest first.
std::vector<fs::path> launches_in(const fs::path& folder) {
  std::vector<std::pair<fs::file_time_type, fs::path>> launches;
  std::error_code error;
  for (fs::directory_iterator i(folder, error), end; !error && i != end; i.increment(error)) {
    std::error_code unknown;
    if (has_records(i->path())) launches.emplace_back(fs::last_write_time(i->path(), unknown), i->path());
  }
  std::sort(launches.begin(), launches.end(), std::greater<>());
  std::vector<fs::path> paths;
  for (auto& [time, path] : launches) paths.push_back(std::move(path));
  return paths;
}

fs::path records_at(const std::string& path) {
  std::string plain = path;
  while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
  if (has_records(plain)) return plain;
  for (const fs::path& folder : {fs::path(plain), fs::path(plain) / "flight", fs::path(plain + ".flight")})
    if (const auto launches = launches_in(folder); !launches.empty()) return launches.front();
  throw DataError(
      "inspect: {}: no flight records; a rank writes one when it has waited for another rank longer than its "
      "limit",
      path);
}

}  // namespace

fs::path start_up_flight_folder(const Config& config, const TrainArguments& arguments) {
  if (!arguments.resume.empty()) return flight_folder(RunDirectory::open(arguments.resume).path());
  const fs::path run = arguments.run_directory.empty() ? fs::path(config.run.directory) / config.run.name
                                                       : fs::path(arguments.run_directory);
  return fs::path(run.string() + ".flight") / launch_name();
}

fs::path flight_folder(const std::string& run) {
  return fs::path(run) / "flight" / launch_name();
}

fs::path flight_folder_without_run() {
  return fs::temp_directory_path() / fmt::format("foretoken-flight-{}", getuid()) / launch_name();
}

void remove_old_flights(const std::string& run) {
  const std::vector<fs::path> launches = launches_in(fs::path(run) / "flight");
  for (std::size_t i = kept_launches; i < launches.size(); ++i) {
    std::error_code error;  // an old record that cannot be removed is harmless
    fs::remove_all(launches[i], error);
  }
}

int inspect_flight(const std::string& path, std::ostream& out) {
  const fs::path folder = records_at(path);
  const std::vector<FlightFile> files = read_flight_files(folder);
  int size = 0;
  for (const FlightFile& file : files) size = std::max(size, file.record.size);
  fmt::print(out, "{:<12} {}\n{:<12} {} of {} ranks\n\n", "flight", folder.string(), "records", files.size(),
             size);
  auto next = files.begin();
  for (int rank = 0; rank < size; ++rank) {
    if (next == files.end() || next->record.rank != rank) {
      fmt::print(out, "rank {:<6} no record\n", rank);
      continue;
    }
    const FlightRecord& record = next->record;
    if (record.waiting)
      fmt::print(out, "rank {:<6} in {} for {:.1f} s\n", rank, describe(record, *record.waiting),
                 record.now - record.waiting->started);
    else
      fmt::print(out, "rank {:<6} in no communication for {:.1f} s\n", rank,
                 record.now - record.last_activity);
    ++next;
  }
  fmt::print(out, "\n{}\n", sentence(first_divergence(files, size), files, size));
  return static_cast<int>(ExitCode::done);
}

}  // namespace foretoken
