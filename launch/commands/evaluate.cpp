#include "launch/commands/evaluate.h"

#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "launch/commands/free_running.h"
#include "launch/commands/ranks.h"
#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/console/console.h"
#include "launch/session/data_identity.h"
#include "launch/session/evaluation.h"
#include "launch/session/resume.h"
#include "parallel/optimizer/shared_weights.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// The checkpoint's settings, adapted to the available ranks.
Config config_of(const EvaluateArguments& arguments, int ranks) {
  Config config = settings_of(newest_readable(arguments.path));
  config.data.path = arguments.data;
  config.parallel.pp = 1;
  config.parallel.dp = 0;
  config.parallel.virtual_stages = 1;
  config.parallel.schedule = "1f1b";
  config.parallel.blocks_per_stage.clear();
  config.mtp.placement = MtpConfig::Placement::last;
  config.train.global_batch = config.train.microbatch * ranks;
  apply_sets(config, arguments.sets);
  validate(config);
  return config;
}

/// Teacher-forced metrics on the dataset's text. The session and its memory are freed at the end of the call.
EvaluationMetrics teacher_forced(const EvaluateArguments& arguments, const Config& config,
                                 const TokenDataset& dataset, MpiCommunicator& world, Console& console) {
  Session session(world, config, resolve_grid(config, world.size()), Purpose::evaluate);
  const CheckpointInfo info =
      load_checkpoint(arguments.path, config, dataset.tokenizer(),
                      weight_pieces(session.model().parameters()), session.stream(), world, console)
          .info();
  session.model().parameters().round_weights(session.stream());
  restore_objective(session.objective(), info, config);
  check_replicas(session.stream(), session.model().parameters(), session.groups());
  console.line(fmt::format("evaluate   {} at step {}, on {} ({})\n", arguments.path, info.step,
                           arguments.data, to_string(session.grid())));
  return Evaluation(session, dataset, arguments.rows).run(info.step);
}

}  // namespace

int evaluate(const EvaluateArguments& arguments) {
  return static_cast<int>(run_on_ranks([&](MpiCommunicator& world) {
    const Config config = config_of(arguments, world.size());
    Console console(world.rank() == 0);
    const TokenDataset dataset(arguments.data);
    validate_vocabulary(config, dataset.tokenizer().vocab_size, arguments.data);
    require_same_on_all_ranks(dataset, world, console);
    std::optional<MetricsSink> sink;
    std::string unwritten;
    if (world.rank() == 0 && !arguments.metrics.empty())
      sink.emplace(arguments.metrics, [&](const std::string& message) { unwritten = message; });
    EvaluationMetrics metrics = teacher_forced(arguments, config, dataset, world, console);
    if (!std::isfinite(metrics.loss))
      throw NumericalError("evaluate: {} at step {}: the loss is {}", arguments.path, metrics.step,
                           metrics.loss);
    if (config.mtp.depths > 0 && arguments.free_running > 0)
      metrics.free_running =
          free_running(arguments.path, config, dataset, metrics.rows, arguments.free_running, world);
    // A training job in the same run may have retired the first checkpoint since.
    if (metrics.free_running && metrics.free_running->step != metrics.step)
      console.warn(fmt::format("evaluate: free-running figures are for step {}, all others for step {}",
                               metrics.free_running->step, metrics.step));
    console.line(table(metrics));
    if (sink) {
      sink->write(metrics);
      sink->sync();
    }
    console.require_written();
    if (!unwritten.empty()) throw DataError("{}", unwritten);
    return ExitCode::done;
  }));
}

}  // namespace foretoken
