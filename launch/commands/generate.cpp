#include "launch/commands/generate.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/datasets/tokenizer.h"
#include "io/files/text_file.h"
#include "launch/commands/ranks.h"
#include "launch/commands/transcript.h"
#include "launch/console/console.h"
#include "launch/training/resume.h"
#include "model/generation/generator.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string text_of_file(const std::string& path) {
  try {
    return read_text_file(path, most_prompt_bytes);
  } catch (const DataError& error) {
    throw DataError("generate: {}", error.what());
  }
}

std::vector<std::string> prompts_of(const GenerateArguments& arguments) {
  std::vector<std::string> prompts = arguments.prompts;
  for (const std::string& path : arguments.prompt_files) prompts.push_back(text_of_file(path));
  if (prompts.empty()) throw UsageError("generate: no prompt; give one with --prompt or --prompt-file");
  for (std::size_t i = 0; i < prompts.size(); ++i)
    if (prompts[i].empty()) throw UsageError("generate: prompt {} is empty", i + 1);
  return prompts;
}

/// A checkpoint's settings, without those for training alone. The same seed gives the same text: nothing
/// depends on timing except, if requested, the draft depth.
Config config_of(const Checkpoint& checkpoint, const GenerateArguments& arguments) {
  Config config = settings_of(checkpoint);
  config.run.device = arguments.device;
  config.origins["run.device"] = "--device";
  config.parallel.threads = 0;
  config.train.deterministic = true;
  if (config.train.precision != TrainConfig::Precision::f32)
    config.train.precision = TrainConfig::Precision::automatic;
  return config;
}

/// A model to generate or draft with: checkpoint, settings and, after load(), a decoder.
struct Model {
  const std::string& path;
  Checkpoint checkpoint;
  Config config;
  std::optional<Decoder> decoder;

  Model(const std::string& from, const GenerateArguments& arguments)
      : path(from), checkpoint(newest_readable(from)), config(config_of(checkpoint, arguments)) {}
  const TokenizerIdentity& tokenizer() const { return checkpoint.info().tokenizer; }
  void plan(Stream& stream, DecoderOptions shape, const MtpConfig& heads, TrunkPipeline* pipeline = nullptr) {
    shape.model = config.model;
    shape.mtp = heads;
    shape.pipeline = pipeline;
    shape.dtype = compute_dtype(config, stream.device());
    decoder.emplace(stream, shape);
  }
  void load(Stream& stream, Communicator& ranks, Console& console) {
    load_checkpoint(path, config, tokenizer(), weight_pieces(decoder->parameters()), stream, ranks, console);
    decoder->parameters().round_weights(stream);
  }
};

/// The drafts of a round: the requested tree, or the requested candidates for each of the heads.
TreeShape drafts_of(const GenerateArguments& arguments, const Config& config, Console& console) {
  TreeShape drafts = arguments.drafts;
  if (!arguments.draft_path.empty() || (drafts.empty() && arguments.parallel_candidates == 0)) return drafts;
  if (config.mtp.depths == 0) {
    console.warn("generate: the model has no prediction heads; it generates plainly");
    return {};
  }
  if (arguments.parallel_candidates > 0) {
    if (drafts.empty()) drafts.resize(static_cast<std::size_t>(config.mtp.depths));
    std::fill(drafts.begin(), drafts.end(), arguments.parallel_candidates);
    console.warn(
        "generate: --parallel-decode keeps the likeliest candidates as a whole; "
        "the text is not that of plain decoding");
  }
  validate(drafts);
  return drafts;
}

std::string by_position(const SpeculationStatistics& s) {
  std::vector<std::string> shares;
  for (std::size_t j = 0; j < s.drafted_at.size() && s.drafted_at[j] > 0; ++j)
    shares.push_back(
        fmt::format("{:.3f}", static_cast<double>(s.accepted_at[j]) / static_cast<double>(s.drafted_at[j])));
  return fmt::format("{}", fmt::join(shares, " "));
}

struct Pace {
  std::int64_t tokens = 0;
  double seconds = 0;
};

/// The first round computes the prompts, so tokens per second are counted after it.
void report(const Pace& whole, const Pace& first, const SpeculationStatistics& s) {
  fmt::print(stderr, "generate   {} tokens in {:.2f} s; first token after {:.3f} s", whole.tokens,
             whole.seconds, first.seconds);
  if (whole.tokens > first.tokens)
    fmt::print(stderr, ", then {:.1f} tokens/s",
               static_cast<double>(whole.tokens - first.tokens) / (whole.seconds - first.seconds));
  fmt::print(stderr, "\n");
  if (s.rounds == 0) return;
  fmt::print(stderr,
             "speculate  {} rounds, acceptance rate {:.3f}, mean acceptance length {:.2f}, by position {}; "
             "{} rounds without drafts\n",
             s.rounds, s.acceptance_rate(), s.mean_acceptance_length(), by_position(s), s.plain_rounds);
}

ExitCode run(const GenerateArguments& arguments, const std::vector<std::string>& prompts,
             MpiCommunicator& world) {
  const bool writes = world.rank() == 0;
  Console console(writes);
  Model model(arguments.path, arguments);
  std::optional<Model> draft_model;
  if (!arguments.draft_path.empty()) {
    draft_model.emplace(arguments.draft_path, arguments);
    if (draft_model->tokenizer() != model.tokenizer())
      throw DataError("generate: the draft model {} was trained on tokens of {}, the model {} on those of {}",
                      arguments.draft_path, to_string(draft_model->tokenizer()), arguments.path,
                      to_string(model.tokenizer()));
  }
  const TreeShape drafts = drafts_of(arguments, model.config, console);
  const auto tokenizer = make_tokenizer(model.tokenizer().name);
  const TokenizerIdentity& identity = tokenizer->identity();
  std::vector<std::vector<std::int32_t>> tokens;
  std::size_t longest = 0;
  for (const std::string& prompt : prompts) {
    tokenizer->encode(prompt, tokens.emplace_back());
    longest = std::max(longest, tokens.back().size());
  }

  Device device(resolve_device(model.config, world));
  Stream& stream = device.stream();
  const auto sequences = static_cast<std::int64_t>(prompts.size());
  const DecoderOptions shape{.sequences = sequences,
                             .positions = std::min(model.config.model.max_position_embeddings,
                                                   static_cast<std::int64_t>(longest) + arguments.max_tokens),
                             .branches = branches_of(drafts),
                             .logits = sequences * (1 + drafts_in(drafts))};
  const MtpConfig heads = draft_model || drafts.empty() ? MtpConfig{} : model.config.mtp;
  std::optional<TrunkPipeline> pipeline;
  if (world.size() > 1)
    pipeline.emplace(world, stream, decoding_layout(model.config.model, heads, world.size()));
  model.plan(stream, shape, heads, pipeline ? &*pipeline : nullptr);
  const auto writer = world.split(writes ? 0 : -1, 0, "rank 0");
  if (!writes) {
    model.load(stream, world, console);
    model.decoder->follow();
    return ExitCode::done;
  }
  std::unique_ptr<Drafter> drafter;
  if (draft_model) {
    draft_model->plan(stream, shape, {});
    drafter = std::make_unique<ModelDrafter>(*draft_model->decoder, identity.vocab_size);
  } else if (!drafts.empty()) {
    drafter = std::make_unique<HeadDrafter>(*model.decoder);
  }
  std::optional<DraftLength> length;
  if (drafter && arguments.adapt_drafts)
    length.emplace(std::min(static_cast<int>(drafts.size()), drafter->longest()), drafter->trained());
  Generator generator(*model.decoder,
                      {.sampling = arguments.sampling,
                       .seed = arguments.seed,
                       .max_tokens = arguments.max_tokens,
                       .vocabulary = identity.vocab_size,
                       .end = identity.end_of_document,
                       .drafts = drafts,
                       .keep_best = arguments.parallel_candidates > 0},
                      std::move(tokens), drafter.get(), length ? &*length : nullptr);
  model.load(stream, world, console);
  if (draft_model) draft_model->load(stream, *writer, console);

  Transcript transcript(prompts.size(), arguments.stops);
  // Token by token, so that a stop text ends the text after the same token, however many a round adds.
  const auto take = [&](std::size_t sequence,
                        std::span<const std::int32_t> added) -> std::optional<std::size_t> {
    for (std::size_t i = 0; i < added.size(); ++i)
      if (added[i] != identity.end_of_document &&
          !transcript.add(sequence, tokenizer->decode(added.subspan(i, 1))))
        return i + 1;
    return std::nullopt;
  };
  const Clock::time_point start = Clock::now();
  Pace first;
  while (generator.round(take)) {
    if (first.tokens == 0) first = {generator.new_tokens(), seconds_since(start)};
    for (std::size_t i = 0; i < prompts.size(); ++i)
      if (generator.finished(i)) transcript.end(i);
  }
  model.decoder->dismiss();
  report({generator.new_tokens(), seconds_since(start)}, first, generator.statistics());
  return ExitCode::done;
}

}  // namespace

int generate(const GenerateArguments& arguments) {
  const std::vector<std::string> prompts = prompts_of(arguments);
  return static_cast<int>(
      run_on_ranks([&](MpiCommunicator& world) { return run(arguments, prompts, world); }));
}

}  // namespace foretoken
