#include "launch/train.h"

#include "launch/config_validator.h"
#include "launch/failure.h"
#include "launch/ranks.h"
#include "launch/stop_notice.h"
#include "launch/training.h"

namespace foretoken {

int train(const Config& config, const TrainArguments& arguments) {
  validate(config);
  return static_cast<int>(run_on_ranks([&](MpiCommunicator& world) {
    const Grid grid = resolve_grid(config, world.size());
    name_rank(world.rank(), fmt::format("rank {} pp{} dp{}", world.rank(), grid.pp_rank_of(world.rank()),
                                        grid.dp_rank_of(world.rank())));
    Console console(world.rank() == 0, Console::Delivery::queue);
    StopNotice notice(console, world.rank());
    Training training(world, config, arguments, console, notice);
    world.world().limits().wait = Seconds(config.parallel.timeout_seconds);
    return training.run();
  }));
}

}  // namespace foretoken
