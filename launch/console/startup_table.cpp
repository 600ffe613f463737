#include "launch/console/startup_table.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/cost.h"
#include "parallel/pipeline/simulate.h"

namespace foretoken {

namespace {

std::string millions(std::int64_t count) {
  return fmt::format("{:.2f} M", static_cast<double>(count) / 1e6);
}

/// Example: "attention of layer 3".
std::string half_of(const HeldBlock& block) {
  return fmt::format("{} of layer {}", block.part == Block::Part::attention ? "attention" : "MLP",
                     block.layer);
}

/// Example: "embedding, layers 0-3, attention of layer 4; MLP of layer 7, layers 8-9, final norm, mtp 1-2,
/// head". Semicolons separate stages.
std::string holds(const Session& session, int pp_rank) {
  const ModelConfig& model = session.config().model;
  const MtpConfig& mtp = session.config().mtp;
  const ModelLayout& layout = session.layout();
  std::string text;
  for (int stage : layout.stages_of(pp_rank)) {
    std::string part;
    const auto add = [&](const std::string& what) { part += (part.empty() ? "" : ", ") + what; };
    const auto numbered = [](const char* one, const char* many, std::int64_t first, std::int64_t last) {
      return first == last ? fmt::format("{} {}", one, first) : fmt::format("{} {}-{}", many, first, last);
    };
    if (stage == 0) add("embedding");
    const std::vector<HeldBlock> blocks = layout.blocks_of(stage);
    const auto is_whole = [](const HeldBlock& block) { return block.part == Block::Part::whole; };
    const auto first = std::find_if(blocks.begin(), blocks.end(), is_whole);
    const auto end = std::find_if_not(first, blocks.end(), is_whole);
    for (auto block = blocks.begin(); block != first; ++block) add(half_of(*block));
    if (first != end) add(numbered("layer", "layers", first->layer, std::prev(end)->layer));
    for (auto block = end; block != blocks.end(); ++block) add(half_of(*block));
    const StageTensors tensors = tensors_of(model, mtp, layout, stage);
    const DepthRange& depths = tensors.depths;
    const bool main = stage == layout.head_stage();
    if (main) add("final norm");
    if (!depths.empty() && !mtp.repeat) add(numbered("mtp", "mtp", depths.first, depths.last));
    if (!depths.empty() && mtp.repeat) add(main ? "mtp 1" : fmt::format("mtp 1 for depth {}", depths.first));
    if (main) add(model.tie_word_embeddings ? "head (tied)" : "head");
    std::vector<const char*> replicas;
    const auto is_at = [&](int other) { return layout.grid.pp_rank_of_stage(other) == pp_rank; };
    if (tensors.embedding && !is_at(0)) replicas.push_back("embedding");
    if (tensors.final_norm && !is_at(layout.head_stage())) replicas.push_back("final norm");
    if (tensors.head && !is_at(layout.head_stage())) replicas.push_back("head");
    if (!replicas.empty()) add(fmt::format("{} replica", fmt::join(replicas, " and ")));
    text += (text.empty() ? "" : "; ") + part;
  }
  return text;
}

/// Examples: "2 MTP modules", "1 MTP module applied 3 times", "3 parallel heads (detached)".
std::string heads_text(const MtpConfig& mtp) {
  const char* what = "";
  switch (mtp.kind) {
    case MtpConfig::Kind::sequential:
      what = "MTP module";
      break;
    case MtpConfig::Kind::parallel:
      what = "parallel head";
      break;
    case MtpConfig::Kind::residual:
      what = mtp.residual_form == MtpConfig::ResidualForm::mlp ? "residual head" : "Medusa head";
      break;
    case MtpConfig::Kind::linear:
      what = "linear head";
      break;
  }
  const char* detached = mtp.detach_heads ? " (detached)" : "";
  const char* matrices = !mtp.own_output   ? ""
                         : mtp.depths == 1 ? " with its own output matrix"
                                           : " with their own output matrices";
  if (mtp.repeat) return fmt::format("1 {} applied {} times{}", what, mtp.depths, detached);
  return fmt::format("{} {}{}{}{}", mtp.depths, what, mtp.depths == 1 ? "" : "s", matrices, detached);
}

/// Example: "objective  main + 0.3 mtp1 + 0.1 mtp2, times 1 at 0 tokens to 0.1 at 1e+13"; empty without
/// heads.
std::string objective_line(const MtpConfig& mtp) {
  if (mtp.depths == 0) return "";
  MtpConfig base = mtp;
  base.schedule.clear();
  const Objective objective(base);
  std::string text = "objective  ";
  if (mtp.main_weight != 1) text += fmt::format("{:.4g} ", mtp.main_weight);
  text += "main";
  for (std::size_t k = 1; k < objective.weights().size(); ++k)
    text += fmt::format(" + {:.3g} mtp{}", objective.weights()[k], k);
  if (!mtp.schedule.empty())
    text += fmt::format(", times {:g} at {:g} tokens to {:g} at {:g}", mtp.schedule.front().second,
                        mtp.schedule.front().first, mtp.schedule.back().second, mtp.schedule.back().first);
  if (mtp.balance == MtpConfig::Balance::dynamic)
    text += fmt::format(", moved to gradients of {:g} of the main loss's at the trunk", mtp.balance_ratio);
  if (mtp.balance == MtpConfig::Balance::sampling)
    text += fmt::format(", depths drawn with probability {:g}", fmt::join(mtp.sample_probabilities, ", "));
  return text + "\n";
}

std::int64_t parameters_of(const Session& session, int pp_rank) {
  std::int64_t count = 0;
  for (const ParameterUnit& unit :
       units_of(session.config().model, session.config().mtp, session.layout(), pp_rank))
    for (const ParameterSpec& spec : unit.specs) count += spec.shape.elements();
  return count;
}

}  // namespace

std::string startup_table(const Session& session) {
  const Config& config = session.config();
  const Grid& grid = session.grid();
  // Messages take no time here, as in the partition.
  const Durations expected{
      .stages = stage_costs(layer_costs(config, Purpose::train), session.layout().halves_per_stage)};
  const SimulatedTimeline step = simulate(session.training().program, session.training().footprint, expected);
  double total = 0;
  for (const StageDurations& stage : expected.stages) total += stage.total();

  std::string text = fmt::format(
      "model      {} parameters, {} layers, hidden {}, {}\n"
      "batch      {} rows of {} tokens: {} microbatch{} of {} rows on each of dp {}\n"
      "{}"
      "layout     {}, {}, expected bubble {:.1f} %\n",
      millions(parameter_count(config.model, config.mtp)), config.model.num_hidden_layers,
      config.model.hidden_size, heads_text(config.mtp), config.train.global_batch,
      config.data.sequence_length, microbatches_of(config, grid),
      microbatches_of(config, grid) == 1 ? "" : "es", config.train.microbatch, grid.dp,
      objective_line(config.mtp), to_string(grid), config.parallel.schedule, 100 * step.bubble());

  std::vector<std::pair<std::string, std::string>> rows{{"ranks", "holds"}};
  for (int pp_rank = 0; pp_rank < grid.pp; ++pp_rank) {
    std::string ranks;
    for (int dp_rank = 0; dp_rank < grid.dp; ++dp_rank) {
      if (dp_rank == 3 && grid.dp > 4) {
        ranks += fmt::format(", … {}", grid.rank_of(pp_rank, grid.dp - 1));
        break;
      }
      ranks += fmt::format("{}{}", dp_rank == 0 ? "" : ", ", grid.rank_of(pp_rank, dp_rank));
    }
    rows.emplace_back(ranks, holds(session, pp_rank));
  }
  std::size_t width[2] = {0, 0};
  for (const auto& [ranks, what] : rows) {
    width[0] = std::max(width[0], ranks.size());
    width[1] = std::max(width[1], what.size());
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const int pp_rank = static_cast<int>(i) - 1;
    text += fmt::format("  {:<{}}  {:>3}  {:<{}}  ", rows[i].first, width[0],
                        i == 0 ? "pp" : std::to_string(pp_rank), rows[i].second, width[1]);
    if (i == 0) {
      text += "parameters  share of time\n";
      continue;
    }
    double share = 0;
    for (int stage : session.layout().stages_of(pp_rank))
      share += expected.stages[static_cast<std::size_t>(stage)].total();
    text +=
        fmt::format("{:>10}  {:>11.0f} %\n", millions(parameters_of(session, pp_rank)), 100 * share / total);
  }
  if (config.train.precision == TrainConfig::Precision::fp8)
    text += fmt::format("products of layers and modules in fp8, {}\n",
                        config.fp8.recipe == Fp8Recipe::tensor
                            ? "one scale for each tensor"
                            : "a scale for 1 × 128 values or 128 × 128 weights");
  return text;
}

std::string device_text(Session& session) {
  if (session.stream().device() == DeviceKind::cuda)
    return fmt::format(
        "{} in {}{}", session.device().name(), name_of(session.model().parameters().weights().dtype),
        session.groups().world.size() > 1 ? ", " + session.groups().transport->description() : "");
  if constexpr (!with_cuda) return "cpu (this build has no CUDA backend)";
  if (session.config().run.device == RunConfig::Device::cpu) return "cpu";
  return Device::gpus() == 0 ? "cpu (this machine shows no GPU)" : "cpu (another rank sees no GPU)";
}

}  // namespace foretoken
