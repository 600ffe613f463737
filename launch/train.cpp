#include "launch/train.h"

#include "launch/config_validator.h"
#include "launch/failure.h"
#include "launch/ranks.h"
#include "launch/run_folder.h"
#include "launch/stop_notice.h"
#include "launch/train_config.h"
#include "launch/training.h"

namespace foretoken {

int train(const Config& parsed, const TrainArguments& arguments) {
  validate(parsed);
  return static_cast<int>(run_on_ranks([&](MpiCommunicator& world) {
    Console console(world.rank() == 0, Console::Delivery::queue);
    RunFolder folder(world, arguments, console);
    // Under the run's lock its settings are final.
    const bool resumes = !folder.resume().empty() || arguments.auto_resume;
    const Config config = resumes ? resolve_config(arguments, folder.resume()) : parsed;
    if (resumes) validate(config);
    if (!folder.resume().empty())
      if (const std::string text = config_difference(arguments, config); !text.empty()) console.warn(text);
    const Grid grid = resolve_grid(config, world.size());
    name_rank(world.rank(), fmt::format("rank {} pp{} dp{}", world.rank(), grid.pp_rank_of(world.rank()),
                                        grid.dp_rank_of(world.rank())));
    StopNotice notice(console, world.rank());
    Training training(world, config, arguments, folder, console, notice);
    world.world().limits().wait = Seconds(config.parallel.timeout_seconds);
    return training.run();
  }));
}

}  // namespace foretoken
