#include "launch/commands/train.h"

#include "launch/commands/flight.h"
#include "launch/commands/ranks.h"
#include "launch/config/config_validator.h"
#include "launch/config/elastic_layout.h"
#include "launch/console/failure.h"
#include "launch/console/stop_notice.h"
#include "launch/session/train_config.h"
#include "launch/training/run_folder.h"
#include "launch/training/run_profile.h"
#include "launch/training/training.h"

namespace foretoken {

namespace {

/// Labels each rank with its place in the layout, for messages about other ranks.
void label_ranks(Watchdog& watchdog, const Grid& grid, int size) {
  std::vector<std::string> labels;
  for (int rank = 0; rank < size; ++rank)
    labels.push_back(fmt::format("pp{} dp{}", grid.pp_rank_of(rank), grid.dp_rank_of(rank)));
  watchdog.set_labels(labels);
}

/// resolve_grid(). If the layout does not fit the ranks, the error says what --auto-layout would choose.
Grid grid_for(const Config& config, int ranks) {
  try {
    return resolve_grid(config, ranks);
  } catch (const UsageError& misfit) {
    std::string choice;
    try {
      choice = layout_text(layout_for(config, ranks), ranks);
    } catch (const UsageError&) {
      throw misfit;
    }
    throw UsageError("{}; --auto-layout would choose {}", misfit.what(), choice);
  }
}

}  // namespace

int train(const Config& parsed, const TrainArguments& arguments) {
  validate(parsed);
  const Seconds start_up(parsed.parallel.startup_seconds);
  const std::filesystem::path flight = start_up_flight_folder(parsed, arguments);
  return static_cast<int>(run_on_ranks(flight, start_up, [&](MpiCommunicator& world) {
    Console console(world.rank() == 0, Console::Delivery::queue);
    RunFolder folder(world, arguments, console);
    // The settings of a run are final once its lock is held.
    const bool resumes = !folder.resume().empty() || arguments.auto_resume;
    Config settings = resumes ? resolve_config(arguments, folder.resume()) : parsed;
    if (resumes) validate(settings);
    load_run_profile(settings, folder.resume(), world, console);
    if (!folder.resume().empty())
      if (const std::string text = config_difference(arguments, settings); !text.empty()) console.warn(text);
    const Config config = settings.parallel.elastic ? layout_for(settings, world.size()) : settings;
    if (!is_same_layout(config.parallel, settings.parallel))
      console.line(fmt::format("elastic    the ranks use {}, because the configured layout does not fit them",
                               layout_text(config, world.size())));
    const Grid grid = grid_for(config, world.size());
    name_rank(world.rank(), fmt::format("rank {} pp{} dp{}", world.rank(), grid.pp_rank_of(world.rank()),
                                        grid.dp_rank_of(world.rank())));
    Watchdog* watchdog = world.world().watchdog();
    if (watchdog) label_ranks(*watchdog, grid, world.size());
    world.world().limits().wait = Seconds(config.parallel.startup_seconds);
    StopNotice notice(console, world.rank());
    auto parts = open_training(world, config, arguments, folder, console, notice);
    const std::string run = parts->files->directory.path();
    if (watchdog) {
      world.barrier();  // all ranks must write the records of one time-out to the same folder
      watchdog->set_folder(flight_folder(run));
    }
    if (world.rank() == 0) remove_old_flights(run);
    world.world().limits().wait = Seconds(config.parallel.timeout_seconds);
    return Training(std::move(parts), checkpoint_rules(config, arguments)).run();
  }));
}

}  // namespace foretoken
