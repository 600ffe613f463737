#include "launch/study/slurm_array.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/files/durable_file.h"
#include "launch/study/point_file.h"
#include "launch/study/point_runner.h"
#include "launch/study/study_report.h"
#include "launch/supervisor/ask.h"
#include "launch/supervisor/subprocess.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds slurm_limit{60};

void write_job(const std::string& point_folder, const PointJob& job) {
  nlohmann::json json{{"job", job.job}, {"output", job.output}, {"state", job.state}};
  if (!job.reason.empty()) json["reason"] = job.reason;
  write_point_file(point_folder + "/job.json", json);
}

std::string first_line(const std::string& text) {
  const std::vector<std::string> lines = lines_of(text);
  return lines.empty() ? "no message" : lines.front();
}

/// "#SBATCH --output="a folder/x-%A.out"": sbatch reads quotes as a shell does.
std::string directive(const std::string& option, const std::string& value) {
  if (value.find_first_of("\"\\\n") != std::string::npos)
    throw UsageError(
        "study: --slurm: \"{}\" cannot stand in a batch file: expected no quote, backslash or "
        "line break",
        value);
  return fmt::format("#SBATCH {}=\"{}\"\n", option, value);
}

/// In names of files sbatch replaces %A and others.
std::string without_patterns(std::string path) {
  for (std::size_t at = path.find('%'); at != std::string::npos; at = path.find('%', at + 2))
    path.insert(at, 1, '%');
  return path;
}

std::string batch_file(const Sweep& sweep, const ArrayCommand& command, const std::string& stem,
                       const std::vector<const SweepPoint*>& points) {
  const SweepPoint& first = *points.front();
  std::string text =
      "#!/usr/bin/env bash\n"
      "# Written by foretoken study --slurm: element N runs the point of line N of the list below. Modules, "
      "program and\n# launcher are in launch/slurm/settings.sh, where that file exists.\n";
  text += directive("--job-name", sweep.title);
  text += fmt::format("#SBATCH --ntasks={}\n", first.ranks);
  int threads = 0;
  for (const SweepPoint* point : points) threads = std::max(threads, point->config.parallel.threads);
  if (threads > 0) text += fmt::format("#SBATCH --cpus-per-task={}\n", threads);
  text += fmt::format("#SBATCH --array=1-{}\n", points.size());
  if (sweep.scaling) text += "#SBATCH --exclusive\n";  // other jobs of a node would slow what is measured
  text += "#SBATCH --signal=B:USR1@120\n#SBATCH --open-mode=append\n";
  text += directive("--output", without_patterns(stem) + "-%A_%a.out");
  for (const std::string& option : sweep.sbatch) text += "#SBATCH " + option + "\n";
  text += fmt::format(
      "set -euo pipefail\n"
      ": \"${{FORETOKEN:={}}}\"\n"
      "if [[ -f launch/slurm/settings.sh ]]; then source launch/slurm/settings.sh; fi\n"
      "point=$(sed -n \"${{SLURM_ARRAY_TASK_ID}}p\" {})\n",
      fs::read_symlink("/proc/self/exe").string(), shell_quoted(stem + ".points"));
  if (sweep.launcher == default_launcher)
    text += "launcher=\"${FORETOKEN_LAUNCHER:-mpirun} -n {ranks}\"\n";
  else
    text += "launcher=" + shell_quoted(sweep.launcher) + "\n";
  text += fmt::format(
      "if [[ ${{DOCTOR:-0}} == 1 ]]; then ${{launcher//\"{{ranks}}\"/{}}} \"$FORETOKEN\" doctor "
      "{}/\"$point\"/config.toml; "
      "fi\n",
      first.ranks, shell_quoted(sweep.directory));
  text += fmt::format("exec \"$FORETOKEN\" study {} --point \"$point\" --launcher \"$launcher\"",
                      shell_quoted(command.sweep_file));
  for (const std::string& set : command.sets) text += " --set " + shell_quoted(set);
  return text + "\n";
}

void submit_array(const Sweep& sweep, const ArrayCommand& command,
                  const std::vector<const SweepPoint*>& points,
                  const std::function<void(const std::string&)>& log) {
  const int ranks = points.front()->ranks;
  std::string stem;
  for (int number = 1; stem.empty() || fs::exists(stem + ".sbatch"); ++number)
    stem = fmt::format("{}/slurm/ranks_{}_{}", sweep.directory, ranks, number);
  made(sweep.directory + "/slurm");
  std::string names;
  for (const SweepPoint* point : points) names += point->name + "\n";
  write_durably(stem + ".points", names);
  write_durably(stem + ".sbatch", batch_file(sweep, command, stem, points));
  const Answer answer =
      ask("sbatch --parsable " + shell_quoted(stem + ".sbatch"), slurm_limit, ErrorOutput::included);
  // "12" or "12;cluster", after warnings if there are any
  const std::vector<std::string> lines = lines_of(answer.text);
  const std::string job = lines.empty() ? "" : lines.back().substr(0, lines.back().find(';'));
  if (answer.code != 0 || job.empty() || job.find_first_not_of("0123456789") != std::string::npos)
    throw UsageError("study: --slurm: sbatch does not accept {}.sbatch (code {}): {}", stem, answer.code,
                     first_line(answer.text));
  for (std::size_t i = 0; i < points.size(); ++i) {
    const std::string folder = folder_of(sweep, *points[i]);
    fs::remove(folder + "/outcome.json");
    write_job(folder, {.job = fmt::format("{}_{}", job, i + 1),
                       .output = fmt::format("{}-{}_{}.out", stem, job, i + 1),
                       .state = "pending",
                       .reason = ""});
  }
  log(fmt::format("submitted  {} on {} as job {}: {}.sbatch", counted(points.size(), "point"),
                  counted(ranks, "rank"), job, stem));
}

/// The words of "ID STATE" lines.
std::map<std::string, std::string> states_in(const std::string& text, char separator) {
  std::map<std::string, std::string> states;
  for (const std::string& line : lines_of(text)) {
    const std::size_t at = line.find(separator);
    if (at == std::string::npos) continue;
    std::string state = line.substr(at + 1);
    states[line.substr(0, at)] = state.substr(0, state.find(' '));  // "CANCELLED by 1000"
  }
  return states;
}

bool is_running(const std::string& state) {
  return state == "RUNNING" || state == "COMPLETING" || state == "SUSPENDED" || state == "STOPPED";
}

/// States of jobs that have left the queue; empty if there is no accounting.
std::map<std::string, std::string> accounted(const std::vector<std::string>& jobs) {
  if (jobs.empty() || !is_in_path("sacct")) return {};
  const Answer answer =
      ask(fmt::format("sacct --noheader --parsable2 --allocations --format=JobID,State --jobs={}",
                      fmt::join(jobs, ",")),
          slurm_limit);
  return answer.code == 0 ? states_in(answer.text, '|') : std::map<std::string, std::string>{};
}

PointJob ended(PointJob job, std::string state) {
  std::transform(state.begin(), state.end(), state.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  job.state = fmt::format("failed ({})",
                          state.empty() || state == "completed" || state == "failed" ? "no result" : state);
  const std::string line = reason_in(job.output);
  job.reason = fmt::format("job {} ended without a result{}; see {}", job.job,
                           line.empty() ? "" : ": " + line, job.output);
  return job;
}

}  // namespace

std::optional<PointJob> job_of(const std::string& point_folder) {
  const std::string path = point_folder + "/job.json";
  if (!fs::exists(path)) return std::nullopt;
  try {
    const nlohmann::json json = read_point_file(path);
    return PointJob{.job = json.at("job"),
                    .output = json.at("output"),
                    .state = json.at("state"),
                    .reason = json.value("reason", "")};
  } catch (const nlohmann::json::exception& error) {
    throw DataError("study: {}: {}", path, error.what());
  }
}

void require_slurm() {
  for (const char* program : {"sbatch", "squeue"})
    if (!is_in_path(program))
      throw UsageError("study: --slurm needs Slurm's program {}, which is not in PATH", program);
}

void update_jobs(const Sweep& sweep) {
  std::map<std::string, PointJob> waiting;  // by the point's folder
  for (const SweepPoint& point : sweep.points) {
    const std::string folder = folder_of(sweep, point);
    if (!point.is_run() || outcome_of(folder).exit_code) continue;
    if (auto job = job_of(folder); job && job->is_queued()) waiting.emplace(folder, std::move(*job));
  }
  if (waiting.empty()) return;
  const Answer queue = ask(fmt::format("squeue --noheader --array --user={} --format='%i %T'", geteuid()),
                           slurm_limit, ErrorOutput::included);
  if (queue.code != 0)
    throw PeerError("study: --slurm: squeue ended with code {}: {}", queue.code, first_line(queue.text));
  const std::map<std::string, std::string> queued = states_in(queue.text, ' ');
  // A job that left the queue after this answer has written its outcome before.
  std::erase_if(waiting, [](const auto& entry) { return outcome_of(entry.first).exit_code.has_value(); });
  std::vector<std::string> gone;
  for (const auto& [folder, job] : waiting)
    if (!queued.contains(job.job)) gone.push_back(job.job);
  const std::map<std::string, std::string> known = accounted(gone);
  for (const auto& [folder, job] : waiting) {
    PointJob now = job;
    const auto in_queue = queued.find(job.job);
    const auto in_accounts = known.find(job.job);
    const std::string state = in_queue != queued.end()     ? in_queue->second
                              : in_accounts != known.end() ? in_accounts->second
                                                           : "";
    if (is_running(state))
      now.state = "running";
    else if (in_queue != queued.end() || state == "PENDING")
      now.state = "pending";
    else
      now = ended(job, state);
    if (now.state != job.state) write_job(folder, now);
  }
}

void submit(const Sweep& sweep, const ArrayCommand& command, const std::vector<const SweepPoint*>& points,
            const std::function<void(const std::string& line)>& log) {
  std::map<int, std::vector<const SweepPoint*>> arrays;  // by ranks
  for (const SweepPoint* point : points) arrays[point->ranks].push_back(point);
  for (const auto& [ranks, array] : arrays) submit_array(sweep, command, array, log);
}

}  // namespace foretoken
