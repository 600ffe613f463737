#include "launch/commands/free_running.h"

#include <algorithm>
#include <optional>

#include "launch/session/resume.h"
#include "launch/session/session.h"
#include "model/generation/generator.h"

namespace foretoken {

namespace {

constexpr std::int64_t batch = 8, most_new_tokens = 128;

struct Counts {
  std::int64_t tokens = 0;
  SpeculationStatistics drafts;
};

/// Adds the counts of one batch of prompts.
void run_batch(Decoder& decoder, const GenerationOptions& options,
               std::span<const std::vector<std::int32_t>> prompts, std::int64_t new_tokens, Counts& counts) {
  HeadDrafter drafter(decoder);
  Generator generator(decoder, options, {prompts.begin(), prompts.end()}, &drafter);
  std::vector<std::int64_t> written(prompts.size());
  // A text ends with the whole round in which it reaches its length: a shortened round would lose accepted
  // drafts, so its acceptance would be too low.
  const auto take = [&](std::size_t sequence,
                        std::span<const std::int32_t> tokens) -> std::optional<std::size_t> {
    if ((written[sequence] += std::ssize(tokens)) < new_tokens) return std::nullopt;
    return tokens.size();
  };
  while (generator.round(take)) {
  }
  counts.tokens += generator.new_tokens();
  counts.drafts += generator.statistics();
}

void sum_over_ranks(Counts& counts, Communicator& world) {
  SpeculationStatistics& drafts = counts.drafts;
  std::vector<std::int64_t> all{counts.tokens, drafts.rounds, drafts.drafted, drafts.accepted};
  all.insert(all.end(), drafts.accepted_at.begin(), drafts.accepted_at.end());
  world.all_reduce(tensor_over(std::span(all), {std::ssize(all)}));
  counts.tokens = all[0];
  drafts.rounds = all[1];
  drafts.drafted = all[2];
  drafts.accepted = all[3];
  drafts.accepted_at.assign(all.begin() + 4, all.end());
}

FreeRunningMetrics metrics_of(const Counts& counts, std::int64_t prompts) {
  FreeRunningMetrics metrics{.prompts = prompts,
                             .tokens = counts.tokens,
                             .rounds = counts.drafts.rounds,
                             .acceptance = {},
                             .acceptance_rate = counts.drafts.acceptance_rate(),
                             .accepted_length = counts.drafts.mean_acceptance_length()};
  for (const std::int64_t accepted : counts.drafts.accepted_at)  // NaN if there was no round
    metrics.acceptance.push_back(static_cast<double>(accepted) / static_cast<double>(metrics.rounds));
  return metrics;
}

}  // namespace

std::vector<std::vector<std::int32_t>> free_running_prompts(const TokenDataset& dataset,
                                                            const PromptRows& from) {
  const std::int64_t count = std::min(from.count, from.rows);
  std::vector<std::vector<std::int32_t>> prompts;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t begin = i * from.rows / count * from.length;
    std::vector<std::int32_t> prompt(static_cast<std::size_t>(from.tokens));
    dataset.read(begin, prompt);
    while (!prompt.empty() && prompt.back() == dataset.tokenizer().end_of_document) prompt.pop_back();
    if (prompt.empty()) continue;
    const std::int64_t document = dataset.document_start(begin + std::ssize(prompt) - 1);
    prompt.erase(prompt.begin(), prompt.begin() + std::max<std::int64_t>(0, document - begin));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

FreeRunningMetrics free_running(const std::string& path, const Config& config, const TokenDataset& dataset,
                                std::int64_t rows, std::int64_t prompts, MpiCommunicator& world) {
  const std::int64_t depths = config.mtp.depths, length = config.data.sequence_length;
  const std::int64_t prompt_tokens = std::max<std::int64_t>(1, length / 2);
  const std::int64_t new_tokens = std::min(prompt_tokens, most_new_tokens);
  const auto all = free_running_prompts(
      dataset, {.length = length, .rows = rows, .count = prompts, .tokens = prompt_tokens});

  Config own = config;
  // Reproducible choice among tokens of equal probability: no kernel is chosen by timing.
  own.train.deterministic = true;
  Device device(resolve_device(own, world));
  const int stages = config.parallel.pp, pipelines = world.size() / stages;
  std::optional<TrunkPipeline> pipeline;
  if (stages > 1) pipeline.emplace(world, device.stream(), decoding_layout(config.model, config.mtp, stages));
  Decoder decoder(device.stream(), {.model = config.model,
                                    .mtp = config.mtp,
                                    .dtype = compute_dtype(own, device.stream().device()),
                                    .sequences = batch,
                                    .positions = std::min(config.model.max_position_embeddings,
                                                          prompt_tokens + new_tokens + depths),
                                    .logits = batch * (1 + depths),
                                    .pipeline = pipeline ? &*pipeline : nullptr});
  Console silent(false);  // warnings were already printed when the losses were computed
  const std::int64_t step =
      load_checkpoint(path, config, dataset.tokenizer(), weight_pieces(decoder.parameters()), device.stream(),
                      world, silent)
          .info()
          .step;
  decoder.parameters().round_weights(device.stream());

  const GenerationOptions options{.sampling = {.temperature = 0},
                                  .max_tokens = new_tokens + depths,
                                  .vocabulary = dataset.tokenizer().vocab_size,
                                  .end = dataset.tokenizer().end_of_document,
                                  .drafts = TreeShape(static_cast<std::size_t>(depths), 1)};
  Counts counts;
  counts.drafts.accepted_at.resize(static_cast<std::size_t>(depths));
  if (pipeline && !pipeline->is_last()) {
    decoder.follow();
  } else {
    for (std::int64_t first = batch * (world.rank() / stages); first < std::ssize(all);
         first += batch * pipelines)
      run_batch(decoder, options,
                std::span(all).subspan(static_cast<std::size_t>(first),
                                       static_cast<std::size_t>(std::min(batch, std::ssize(all) - first))),
                new_tokens, counts);
    decoder.stop_followers();
  }
  sum_over_ranks(counts, world);
  FreeRunningMetrics metrics = metrics_of(counts, std::ssize(all));
  metrics.step = step;
  return metrics;
}

}  // namespace foretoken
