// foretoken doctor: its judgement of planted facts, and its output.
#include <algorithm>
#include <sstream>

#include <nlohmann/json.hpp>

#include "launch/doctor/checks.h"
#include "launch/doctor/report.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

/// A job without findings on CPU ranks, each bound to a core of its own; `per_host` ranks on each host.
JobFacts healthy(int ranks, int per_host) {
  JobFacts job{.layout = "pp 4 × dp 1 × v 1"};
  for (int rank = 0; rank < ranks; ++rank) {
    RankFacts facts{.versions = {{"foretoken", "0.1.0"}, {"build", "91c04e7a…"}, {"MPI", "Open MPI v4.1.4"}}};
    facts.host = {.name = "node" + std::to_string(rank / per_host),
                  .cores = {rank % per_host},
                  .machine_cores = per_host,
                  .limits = {.open_files = 65536, .stack = 8 << 20},
                  .shared_memory = std::int64_t{16} << 30};
    facts.device = {.name = "cpu", .nvml_problem = "libnvidia-ml.so.1 is not on this machine"};
    facts.device.matrix_rate = 100e9;
    facts.device.memory_bandwidth = 20e9;
    if (rank % per_host == 0 && rank > 0) facts.clock = ClockOffset{0.001, 1e-4};
    if (rank + 1 < ranks) facts.next_rank = rank + 1, facts.next = {2e-6, 10e9};
    facts.groups = {{"world", 0, {}, {2e-5, 5e9}}, {"data parallel", rank - rank % 2, {}, {1e-5, 8e9}}};
    if (rank % 2 == 0) facts.groups[1].ranks = {rank, rank + 1};
    for (int i = 0; i < ranks && rank == 0; ++i) facts.groups[0].ranks.push_back(i);
    facts.folder = FolderFacts{.path = "/scratch/runs",
                               .shared = true,
                               .file_system = "lustre",
                               .free_bytes = std::int64_t{1} << 40,
                               .write_rate = 1e9};
    job.ranks.push_back(std::move(facts));
  }
  return job;
}

/// The same on GPUs.
JobFacts healthy_gpus(int ranks, int per_host) {
  JobFacts job = healthy(ranks, per_host);
  for (int rank = 0; rank < ranks; ++rank) {
    DeviceFacts& device = job.ranks[static_cast<std::size_t>(rank)].device;
    device.name = "NVIDIA H100";
    device.pci_address = "0000:" + std::to_string(10 + rank % per_host) + ":00.0";
    device.visible_gpus = device.machine_gpus = per_host;
    device.nvml_problem.clear();
    device.state = GpuState{.ecc = true, .power_limit = 700, .default_power_limit = 700, .temperature = 60};
  }
  return job;
}

/// The findings as "row: RESULT text" lines.
std::string findings(const JobFacts& job) {
  std::string text;
  for (const Check& check : checks(job))
    for (const Finding& finding : check.findings)
      text += check.name + ": " + name_of(finding.severity) + " " + finding.text + "\n";
  return text;
}

}  // namespace

TEST_CASE("a healthy job has no findings") {
  CHECK(findings(healthy(1, 1)).empty());
  CHECK(findings(healthy(4, 2)).empty());
  CHECK(findings(healthy_gpus(16, 8)).empty());
  CHECK(worst(checks(healthy_gpus(16, 8))) == Severity::ok);
}

TEST_CASE("a rank with another version is named with both versions") {
  JobFacts job = healthy(6, 2);
  for (const std::size_t rank : {2U, 3U, 4U}) job.ranks[rank].versions["MPI"] = "Open MPI v4.1.6";
  job.ranks[5].versions["build"] = "4e7a9180…";
  CHECK(findings(job) ==
        "program: WRONG build: rank 5 (node2) has 4e7a9180…, the other ranks have 91c04e7a…\n"
        "libraries: WRONG MPI: ranks 2-4 have Open MPI v4.1.6, the other ranks have Open MPI v4.1.4\n");
  job = healthy(2, 2);
  job.ranks[1].versions.erase("MPI");
  CHECK(findings(job) == "libraries: WRONG MPI: rank 1 has none, the other ranks have Open MPI v4.1.4\n");
}

TEST_CASE("ranks with different programs are reported as not measured") {
  JobFacts job = healthy(2, 2);
  job.measured = false;
  job.ranks[1].versions["build"] = "other";
  CHECK_THAT(findings(job), contains("program: WRONG build: rank 1 has other") &&
                                contains("speeds and links were not measured"));
  CHECK_THAT(report_text(job, checks(job)), !contains("matrix rate") && !contains("messages  "));
}

TEST_CASE("a slow device is named, and is wrong beyond the limit of its kind") {
  JobFacts job = healthy_gpus(4, 4);
  job.ranks[1].device.matrix_rate = 96e9;
  CHECK(findings(job).empty());
  job.ranks[1].device.matrix_rate = 94e9;
  CHECK(findings(job) ==
        "matrix rate, bf16: warning rank 1 is 6 % slower than the median: 94.0 GFLOP/s of "
        "100 GFLOP/s\n");
  job.ranks[1].device.matrix_rate = 80e9;
  CHECK_THAT(findings(job), contains("matrix rate, bf16: WRONG rank 1 is 20 % slower than the median"));

  job = healthy(2, 2);  // of two ranks the slower one is named
  job.ranks[0].device.memory_bandwidth = 17e9;
  CHECK_THAT(findings(job), contains("memory bandwidth: warning rank 0 is 15 % slower"));
  job.ranks[0].device.memory_bandwidth = 10e9;
  job.ranks[0].device.core_share = 0.52;
  CHECK(findings(job) ==
        "memory bandwidth: WRONG rank 0 is 50 % slower than the median: 10.0 GB/s of 20.0 GB/s; "
        "its threads had a core for 52 % of the time: other programs use its cores\n");
}

TEST_CASE("ranks that share cores are labelled, and their speed is never wrong") {
  JobFacts job = healthy(5, 5);
  job.ranks[1].host.cores = job.ranks[0].host.cores;
  job.ranks[0].device.matrix_rate = job.ranks[1].device.matrix_rate = 50e9;
  CHECK(findings(job) ==
        "matrix rate, f32: warning rank 0 is 50 % slower than the median: 50.0 GFLOP/s of 100 GFLOP/s; it "
        "shares its cores with rank 1\n"
        "matrix rate, f32: warning rank 1 is 50 % slower than the median: 50.0 GFLOP/s of 100 GFLOP/s; it "
        "shares its cores with rank 0\n"
        "cores: warning ranks 0, 1 share core 0 and compute with 2 threads together; the launcher gave no "
        "rank the other 1 core of the machine\n");
}

TEST_CASE("bindings that overlap are named unless all ranks of a host may use the same cores") {
  JobFacts job = healthy(2, 2);
  job.ranks[0].host.cores = job.ranks[1].host.cores = {0, 1, 2, 3};
  for (RankFacts& rank : job.ranks) rank.host.machine_cores = 4, rank.host.threads = 2;
  CHECK(findings(job).empty());  // not bound, and enough cores
  job.ranks[0].host.cores = {0, 1, 2};
  job.ranks[1].host.cores = {2, 3};
  CHECK(findings(job) == "cores: warning the bindings of ranks 0, 1 overlap (cores 0-3)\n");
  job.ranks[0].host.cores = {0, 1};
  CHECK(findings(job).empty());
  job.ranks[1].host.threads = 1;
  CHECK_THAT(findings(job), contains("different numbers of threads: rank 1 with 1 thread, rank 0 with 2"));
}

TEST_CASE("faults of a GPU are named with their rank") {
  JobFacts job = healthy_gpus(4, 2);
  job.ranks[0].device.state->uncorrected_errors = 3;
  job.ranks[1].device.state->throttle_reasons = {"power cap"};  // normal under load
  job.ranks[2].device.state->throttle_reasons = {"hardware slowdown"};
  job.ranks[3].device.state->power_limit = 500;
  CHECK(findings(job) ==
        "GPU health: WRONG rank 0 (node0): the GPU's memory had 3 uncorrected errors since the driver was "
        "loaded\n"
        "GPU health: WRONG rank 2 (node1): the GPU's clock is lowered: hardware slowdown\n"
        "GPU health: warning rank 3 (node1): the GPU's power limit is 500 W, its default 700 W\n");
  job = healthy_gpus(2, 2);
  job.ranks[1].device.pci_address = job.ranks[0].device.pci_address;
  job.ranks[1].device.matrix_rate = 40e9;
  CHECK_THAT(findings(job), contains("devices: warning ranks 0, 1 share GPU 0000:10:00.0") &&
                                contains("matrix rate, bf16: warning rank 1 is 60 % slower") &&
                                contains("it shares its GPU with rank 0"));
  job = healthy_gpus(2, 2);
  job.ranks[0].device.visible_gpus = 1;
  job.ranks[1].device.state.reset();
  CHECK(findings(job) ==
        "GPU health: warning the GPUs of rank 1 were not checked: NVML does not list them\n");
  CHECK_THAT(report_text(job, checks(job)),
             contains(" 2 × NVIDIA H100; GPUs that a rank sees: 1-2 of 2 of its machine\n"));
  job = healthy(2, 2);
  job.ranks[1].device.machine_gpus = 8;
  CHECK(findings(job) ==
        "devices: warning rank 1 computes on the CPU, but its machine has 8 GPUs, none of which it sees\n");
}

TEST_CASE("slow links, limits, clocks and shared memory are named") {
  JobFacts job = healthy_gpus(8, 2);
  job.ranks[3].next.bandwidth = 4e9;  // between nodes
  job.ranks[7].groups[1].rate.bandwidth = 2e9;
  job.ranks[4].host.limits.open_files = 100;
  job.ranks[6].clock->seconds = -90;
  for (const std::size_t rank : {2U, 3U}) job.ranks[rank].host.shared_memory = 64 << 20;
  CHECK(findings(job) ==
        "limits: WRONG rank 4 (node2) may open 100 files; a job of 8 ranks needs 288 (ulimit -n)\n"
        "shared memory: warning /dev/shm of node1 has 67.1 MB; MPI and NCCL may need 134 MB for 2 ranks "
        "(in Docker: --shm-size)\n"
        "clocks: warning the clock of rank 6 (node3) is 90.00 s behind that of rank 0: times in logs of the "
        "hosts do not compare\n"
        "messages: WRONG the link from rank 3 (node1) to rank 4 (node2) has 4.00 GB/s, the median between "
        "nodes: 10.0 GB/s\n"
        "all-reduce, data parallel: WRONG the all-reduce of ranks 6, 7 (node3) has 2.00 GB/s, the median is "
        "8.00 "
        "GB/s\n");
}

TEST_CASE("a run folder that ranks cannot use or do not share is wrong") {
  JobFacts job = healthy(4, 2);
  job.ranks[2].folder->shared = job.ranks[3].folder->shared = false;
  CHECK(findings(job) ==
        "run folder: WRONG ranks 2, 3 (node1) do not see the file that rank 0 created in "
        "/scratch/runs: the folder is not shared\n");
  job.ranks[3].folder->problem = "writing to /scratch/runs failed: Read-only file system";
  CHECK_THAT(findings(job),
             contains("WRONG rank 3 (node1): writing to /scratch/runs failed: Read-only file system") &&
                 contains("WRONG rank 2 (node1) does not see the file"));
  job = healthy(2, 2);
  job.ranks[0].folder->free_bytes = job.ranks[1].folder->free_bytes = 500'000'000;
  CHECK(findings(job) == "run folder: WRONG /scratch/runs has only 500 MB free\n");
}

TEST_CASE("the table fits 100 columns and counts its findings") {
  JobFacts job = healthy_gpus(16, 8);
  job.ranks[11].folder->problem = "writing to " + std::string(60, 'x') + " failed: Permission denied";
  job.ranks[3].device.matrix_rate = 10e9;
  job.ranks[4].device.matrix_rate = 94e9;
  const std::string text = report_text(job, checks(job));
  INFO(text);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    CHECK(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; }) <= 100);
    CHECK_FALSE(line.ends_with(' '));
  }
  CHECK_THAT(text, contains("doctor     16 ranks on 2 hosts") && contains("\n2 wrong, 1 warning\n"));
  CHECK_THAT(report_text(healthy(2, 2), checks(healthy(2, 2))), contains("\neverything is fine\n"));
}

TEST_CASE("the table lists the first findings of a row and counts the others") {
  JobFacts job = healthy(64, 8);
  for (std::size_t rank = 0; rank < 30; ++rank) job.ranks[rank].device.matrix_rate = 50e9;
  const std::string text = report_text(job, checks(job));
  INFO(text);
  CHECK_THAT(text, contains("rank 19 (node2) is 50 % slower") && !contains("rank 20 (node2) is") &&
                       contains("WRONG    matrix rate, f32: 10 more findings, listed by --json\n") &&
                       contains("\n30 wrong, 0 warnings\n"));
  CHECK_THAT(report_json(job, checks(job), 5), contains("rank 29 (node3) is 50 % slower"));
}

TEST_CASE("facts stay the same through JSON, and the JSON report has every finding") {
  JobFacts job = healthy_gpus(2, 1);
  job.ranks[0].device.state->throttle_reasons = {"hardware slowdown"};
  for (const RankFacts& rank : job.ranks)
    CHECK(to_json_text(rank_facts_from(to_json_text(rank))) == to_json_text(rank));
  const RankFacts back = rank_facts_from(to_json_text(job.ranks[1]));
  CHECK(back.host.name == "node1");
  CHECK(back.host.limits.open_files == 65536);
  REQUIRE(back.clock);
  CHECK(back.clock->seconds == 0.001);
  REQUIRE(back.folder);
  CHECK(back.folder->free_bytes == std::int64_t{1} << 40);
  REQUIRE(back.device.state);
  CHECK(back.device.state->temperature == 60);
  CHECK_FALSE(back.device.state->clock);

  const nlohmann::json report = nlohmann::json::parse(report_json(job, checks(job), 5));
  CHECK(report["exit_code"] == 5);
  CHECK(report["ranks"].size() == 2);
  int findings = 0;
  for (const auto& row : report["checks"]) {
    for (const auto& finding : row["findings"]) {
      CHECK(row["name"] == "GPU health");
      CHECK(row["result"] == "WRONG");
      CHECK_THAT(finding["text"].get<std::string>(), contains("rank 0 (node0)"));
      ++findings;
    }
  }
  CHECK(findings == 1);
}

TEST_CASE("the saved file has the median rates and the links inside and between nodes") {
  JobFacts job = healthy(4, 2);
  job.ranks[1].next = {8e-6, 1e9};
  job.ranks[3].device.matrix_rate = 40e9;
  const nlohmann::json machine = nlohmann::json::parse(machine_json(job));
  CHECK(machine["device"] == "cpu");
  CHECK(machine["links"]["per_node"] == 2);
  CHECK(machine["all_reduce"]["bandwidth"] == 5e9);
  CHECK(machine["matrix_rate"] == 100e9);
  CHECK(machine["links"]["inside"]["bandwidth"] == 10e9);
  CHECK(machine["links"]["inside"]["latency"] == 2e-6);
  CHECK(machine["links"]["between"]["bandwidth"] == 1e9);
  CHECK_FALSE(nlohmann::json::parse(machine_json(healthy(2, 2)))["links"].contains("between"));
}
