#include "launch/training/startup_table.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/config/choice_names.h"
#include "launch/console/progress_bar.h"
#include "launch/console/terminal.h"
#include "launch/session/rank_memory.h"
#include "model/cost.h"
#include "model/heads/head_facts.h"
#include "parallel/planning/simulate.h"
#include "runtime/plural.h"

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
std::string holds(const SessionPlan& plan, int pp_rank) {
  const ModelConfig& model = plan.config.model;
  const MtpConfig& mtp = plan.config.mtp;
  const ModelLayout& layout = plan.layout;
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
  const std::string_view what = head_facts(mtp.kind).noun(mtp);
  const char* detached = mtp.detach_heads ? " (detached)" : "";
  const char* matrices = !mtp.own_output   ? ""
                         : mtp.depths == 1 ? " with its own output matrix"
                                           : " with their own output matrices";
  if (mtp.repeat) return fmt::format("1 {} applied {} times{}", what, mtp.depths, detached);
  return fmt::format("{}{}{}", counted(mtp.depths, what), matrices, detached);
}

/// Example: "objective  main + 0.3 mtp1 + 0.1 mtp2, times 1 at 0 tokens to 0.1 at 1e+13"; empty if there are
/// no heads.
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
    text += fmt::format(", balanced to gradient norms of {:g} times the main loss's at the trunk",
                        mtp.balance_ratio);
  if (mtp.balance == MtpConfig::Balance::sampling)
    text += fmt::format(", depths drawn with probability {:g}", fmt::join(mtp.sample_probabilities, ", "));
  return text + "\n";
}

std::int64_t parameters_of(const SessionPlan& plan, int pp_rank) {
  std::int64_t count = 0;
  for (const ParameterUnit& unit : units_of(plan.config.model, plan.config.mtp, plan.layout, pp_rank))
    for (const ParameterSpec& spec : unit.specs) count += spec.shape.elements();
  return count;
}

std::string flops_text(double flops) {
  return flops < 1e9 ? fmt::format("{:.4g} MFLOP", flops / 1e6) : fmt::format("{:.4g} GFLOP", flops / 1e9);
}

std::string model_line(const Config& config) {
  const ModelConfig& model = config.model;
  std::string heads = fmt::format("{} of {}", counted(model.num_attention_heads, "head"), model.head_dim);
  if (model.num_key_value_heads != model.num_attention_heads)
    heads += fmt::format(" ({} key/value)", model.num_key_value_heads);
  return fmt::format("model      {} parameters: {}, hidden size {}, {}, MLP {}, vocabulary {}\n",
                     millions(parameter_count(config.model, config.mtp)),
                     counted(model.num_hidden_layers, "layer"), model.hidden_size, heads,
                     model.intermediate_size, model.vocab_size);
}

std::string precision_line(const SessionPlan& plan) {
  const Config& config = plan.config;
  std::string text = fmt::format("precision  {}", name_of(compute_dtype(config, plan.device.kind)));
  if (config.train.precision == TrainConfig::Precision::fp8)
    text += fmt::format(", products of layers and modules in fp8 with {}",
                        config.fp8.recipe == Fp8Recipe::tensor
                            ? "one scale per tensor"
                            : "a scale per 1 × 128 values or 128 × 128 weights");
  return fmt::format("{}; f32 parameters, {} moments\n", text, name_of(config.optimizer.moments));
}

/// Example: "0, 4, 8, … 60".
std::string ranks_text(const Grid& grid, int pp_rank) {
  std::string ranks;
  for (int dp_rank = 0; dp_rank < grid.dp; ++dp_rank) {
    if (dp_rank == 3 && grid.dp > 4)
      return fmt::format("{}, … {}", ranks, grid.rank_of(pp_rank, grid.dp - 1));
    ranks += fmt::format("{}{}", dp_rank == 0 ? "" : ", ", grid.rank_of(pp_rank, dp_rank));
  }
  return ranks;
}

/// One row per pipeline rank, in aligned columns; the text of the last column is wrapped.
std::string rank_table(const SessionPlan& plan, const std::vector<StageDurations>& stages, int columns) {
  double total = 0;
  for (const StageDurations& stage : stages) total += stage.total();
  using Row = std::array<std::string, 6>;
  std::vector<Row> rows{{"ranks", "pp", "parameters", "time", "memory", "holds"}};
  for (int pp_rank = 0; pp_rank < plan.grid().pp; ++pp_rank) {
    double share = 0;
    for (const int stage : plan.layout.stages_of(pp_rank))
      share += stages[static_cast<std::size_t>(stage)].total();
    rows.push_back({ranks_text(plan.grid(), pp_rank), std::to_string(pp_rank),
                    millions(parameters_of(plan, pp_rank)), fmt::format("{:.0f} %", 100 * share / total),
                    format_bytes(static_cast<double>(plan_memory(plan, pp_rank, 0).allocated)),
                    holds(plan, pp_rank)});
  }
  std::array<int, 5> widths{};
  for (const Row& row : rows)
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  std::string text;
  for (const Row& row : rows) {
    std::string line = fmt::format("  {:<{}}", row[0], widths[0]);
    for (std::size_t i = 1; i < widths.size(); ++i) line += fmt::format("  {:>{}}", row[i], widths[i]);
    const int indent = width_of(line) + 2;
    text += wrapped(line + "  " + row[5], columns, indent) + '\n';
  }
  return text;
}

}  // namespace

std::string startup_table(const SessionPlan& plan, int columns) {
  const Config& config = plan.config;
  const Grid& grid = plan.grid();
  // Messages take no time in this estimate, as in the choice of the partition.
  const Durations expected{
      .stages = stage_costs(layer_costs(config, Purpose::train), plan.layout.halves_per_stage)};
  const SimulatedTimeline step = simulate(plan.training.program, plan.training.footprint, expected);
  std::string lines = model_line(config);
  if (config.mtp.depths > 0)
    lines += fmt::format("heads      {}\n{}", heads_text(config.mtp), objective_line(config.mtp));
  lines +=
      fmt::format("batch      {} of {} = {}: {} of {} on each of dp {}\n",
                  counted(config.train.global_batch, "row"), counted(config.data.sequence_length, "token"),
                  counted(config.train.global_batch * config.data.sequence_length, "token"),
                  counted(microbatches_of(config, grid), "microbatch", "microbatches"),
                  counted(config.train.microbatch, "row"), grid.dp);
  lines += precision_line(plan);
  lines += fmt::format(
      "work       {} per token: 6 × weights that it passes + 6 × blocks × heads × head size × {} tokens of a "
      "row; "
      "FLOP/s of a rank: this × tokens/s / {}\n",
      flops_text(training_flops_per_token(config.model, config.mtp, config.data.sequence_length)),
      config.data.sequence_length, counted(grid.pp * grid.dp, "rank"));
  lines += fmt::format("layout     {}, {}, expected bubble {:.1f} %; the times below are {}\n",
                       to_string(grid), config.parallel.schedule, 100 * step.bubble(),
                       config.device_times ? "those of parallel.profile" : "estimates");
  return wrapped(lines, columns, 11) + rank_table(plan, expected.stages, columns);
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
