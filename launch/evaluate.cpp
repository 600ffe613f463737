#include "launch/evaluate.h"

#include <fmt/format.h>

#include "launch/config_loader.h"
#include "launch/config_validator.h"
#include "launch/console.h"
#include "launch/evaluation.h"
#include "launch/ranks.h"
#include "launch/resume.h"
#include "parallel/shared_weights.h"
#include "runtime/error.h"

namespace foretoken {

int evaluate(const EvaluateArguments& arguments) {
  return static_cast<int>(run_on_ranks([&](MpiCommunicator& world) {
    Config config = settings_of(newest_readable(arguments.path));
    config.data.path = arguments.data;
    config.parallel.pp = 1;
    config.parallel.dp = 0;
    config.parallel.virtual_stages = 1;
    config.parallel.schedule = "1f1b";
    config.parallel.blocks_per_stage.clear();
    config.train.global_batch = config.train.microbatch * world.size();
    apply_sets(config, arguments.sets);
    validate(config);

    Console console(world.rank() == 0);
    const TokenDataset dataset(arguments.data);
    validate_vocabulary(config, dataset.tokenizer().vocab_size, arguments.data);
    Session session(world, config, resolve_grid(config, world.size()), Session::Purpose::evaluate);
    const CheckpointInfo info =
        load_checkpoint(arguments.path, config, to_string(dataset.tokenizer()),
                        weight_pieces(session.model().parameters()), session.stream(), world, console);
    session.model().parameters().round_weights(session.stream());
    restore_objective(session.objective(), info, config);
    check_replicas(session.stream(), session.model().parameters(), session.groups());
    console.line(fmt::format("evaluate   {} at step {}, on {} ({})", arguments.path, info.step,
                             arguments.data, to_string(session.grid())));
    console.line(console_line(Evaluation(session, dataset, arguments.rows).run(info.step)));
    return ExitCode::done;
  }));
}

}  // namespace foretoken
