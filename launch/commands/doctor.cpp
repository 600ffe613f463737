#include "launch/commands/doctor.h"

#include <array>
#include <numeric>
#include <optional>
#include <utility>

#include "io/files/durable_file.h"
#include "io/files/printable.h"
#include "launch/commands/flight.h"
#include "launch/commands/ranks.h"
#include "launch/config/config_validator.h"
#include "launch/console/console.h"
#include "launch/doctor/measure.h"
#include "launch/doctor/report.h"
#include "launch/session/agreement.h"
#include "launch/session/profile_on_ranks.h"
#include "launch/session/session.h"

namespace foretoken {

namespace {

// A wait that takes longer than this means that a rank or a link hangs, which the watchdog then reports.
constexpr Seconds longest_wait{120};

struct Layout {
  Grid grid;
  std::vector<std::vector<int>> holders;
};

/// The layout of the configuration; without one, a pipeline of all ranks, whose links are the most that
/// training may use.
Layout layout_of(const Config& config, const DoctorArguments& arguments, MpiCommunicator& world) {
  if (arguments.config_path.empty()) return {.grid = {.pp = world.size()}, .holders = {}};
  validate(config);
  Config loaded = config;
  load_profile(loaded, world);
  const Grid grid = resolve_grid(config, world.size());
  return {grid, sharing_ranks(config.model, config.mtp, resolve_layout(loaded, grid, Purpose::train))};
}

bool same_on_all_ranks(const std::string& text, Communicator& world) {
  std::array<std::int32_t, 1> same{broadcast_text(world, text) == text ? 1 : 0};
  world.all_reduce(tensor_over<std::int32_t>(same, {1}), ReduceOp::min);
  return same[0] != 0;
}

/// Measures devices and links with the transport that training would use.
void measure(const Config& config, const Layout& layout, const Nvml& nvml, MpiCommunicator& world,
             RankFacts& facts) {
  const Device::Options options = resolve_device(config, world);
  Device device(options);
  Groups groups = make_groups(world, layout.grid, device.stream(), layout.holders);
  facts.versions["transport"] = groups.transport->description();
  facts.host.threads = options.threads;
  facts.device = measure_device(device, nvml, world);
  measure_links(groups, device.stream(), facts);
  facts.clock = measure_clock(world);
}

}  // namespace

int doctor(const Config& config, const DoctorArguments& arguments) {
  return static_cast<int>(
      run_on_ranks(flight_folder_without_run(), longest_wait, [&](MpiCommunicator& world) {
        const Layout layout = layout_of(config, arguments, world);
        const Nvml nvml;
        RankFacts own{.versions = program_versions(nvml), .host = host_facts(world.world().cores())};
        JobFacts job{.layout = to_string(layout.grid)};
        job.measured = same_on_all_ranks(own.versions["build"], world);
        if (job.measured) {
          measure(config, layout, nvml, world, own);
          if (!arguments.run.empty()) own.folder = measure_folder(arguments.run, world);
        }
        std::array<std::int32_t, 1> code{0};
        for (const std::string& text : gather_texts(world, to_json_text(own)))
          job.ranks.push_back(rank_facts_from(text));
        if (world.rank() == 0) {
          const std::vector<Check> rows = checks(job);
          code[0] =
              static_cast<std::int32_t>(worst(rows) == Severity::wrong ? ExitCode::peer : ExitCode::done);
          if (!arguments.save.empty() && job.measured) write_durably(arguments.save, machine_json(job));
          print_text(
              printable_lines(arguments.json ? report_json(job, rows, code[0]) : report_text(job, rows)));
        }
        world.broadcast(tensor_over<std::int32_t>(code, {1}), 0);
        return static_cast<ExitCode>(code[0]);
      }));
}

}  // namespace foretoken
