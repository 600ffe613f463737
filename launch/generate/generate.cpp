#include "launch/generate/generate.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "io/tokenizers/tokenizer.h"
#include "launch/commands/ranks.h"
#include "launch/console/console.h"
#include "launch/generate/prompts.h"
#include "launch/generate/text_collector.h"
#include "launch/session/resume.h"
#include "model/generation/generator.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

/// A checkpoint's settings, adapted to generation. They are deterministic: the same seed gives the same text.
/// Only the draft depth depends on timing, if it is chosen automatically.
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
    console.warn("generate: the model has no prediction heads: it generates without speculation");
    return {};
  }
  if (arguments.parallel_candidates > 0) {
    if (drafts.empty()) drafts.resize(static_cast<std::size_t>(config.mtp.depths));
    std::fill(drafts.begin(), drafts.end(), arguments.parallel_candidates);
    console.warn(
        "generate: --parallel-decode accepts whole blocks of drafts: the text differs from the text without "
        "this flag");
  }
  validate(drafts);
  return drafts;
}

/// Warns if texts may become longer than the model's positions, or than the rows it was trained on.
void warn_of_length(const GenerateArguments& arguments, const Config& config, std::int64_t longest_prompt,
                    Console& console) {
  const std::int64_t wanted = longest_prompt + arguments.max_tokens,
                     positions = config.model.max_position_embeddings, trained = config.data.sequence_length;
  if (wanted > positions && longest_prompt < positions)
    console.warn(
        fmt::format("generate: a prompt of {} and {} exceed the model's {} (max_position_embeddings): the "
                    "text ends at the last position",
                    counted(longest_prompt, "token"), counted(arguments.max_tokens, "new token"),
                    counted(positions, "position")));
  if (std::min(wanted, positions) > trained)
    console.warn(
        fmt::format("generate: a text may reach {} tokens, but the model was trained on rows of {} "
                    "(data.sequence_length): the text may get worse beyond that length",
                    std::min(wanted, positions), trained));
}

/// The models, the prompts' tokens and the shape of the drafts, equal on all ranks.
struct Request {
  Model model;
  std::optional<Model> draft_model;
  TreeShape drafts;
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<std::vector<std::int32_t>> tokens;  // tokens of the prompts
  std::int64_t longest = 0;                       // longest prompt, in tokens

  Request(const GenerateArguments& arguments, const std::vector<std::string>& prompts, Console& console)
      : model(arguments.path, arguments) {
    if (!arguments.draft_path.empty()) {
      draft_model.emplace(arguments.draft_path, arguments);
      if (draft_model->tokenizer() != model.tokenizer())
        throw DataError(
            "generate: the tokenizers differ: draft model {} was trained with {}, model {} with {}",
            arguments.draft_path, to_string(draft_model->tokenizer()), arguments.path,
            to_string(model.tokenizer()));
    }
    drafts = drafts_of(arguments, model.config, console);
    tokenizer = make_tokenizer(model.tokenizer().name);
    const std::unique_ptr<TokenEncoder> encoder = tokenizer->make_encoder();
    for (const std::string& prompt : prompts) {
      encoder->encode(prompt, tokens.emplace_back());
      longest = std::max<std::int64_t>(longest, std::ssize(tokens.back()));
    }
    warn_of_length(arguments, model.config, longest, console);
  }

  DecoderOptions shape(std::int64_t max_tokens) const {
    const auto sequences = std::ssize(tokens);
    return {.sequences = sequences,
            .positions = std::min(model.config.model.max_position_embeddings, longest + max_tokens),
            .branches = branches_of(drafts),
            .logits = sequences * (1 + drafts_in(drafts))};
  }
  /// The heads that the decoder needs.
  MtpConfig heads() const { return draft_model || drafts.empty() ? MtpConfig{} : model.config.mtp; }

  std::unique_ptr<Drafter> make_drafter(Stream& stream, std::int64_t max_tokens) {
    if (draft_model) {
      draft_model->plan(stream, shape(max_tokens), {});
      return std::make_unique<ModelDrafter>(*draft_model->decoder, tokenizer->identity().vocab_size);
    }
    if (drafts.empty()) return nullptr;
    return std::make_unique<HeadDrafter>(*model.decoder);
  }
};

ExitCode run(const GenerateArguments& arguments, Prompts prompts, MpiCommunicator& world) {
  const bool writes = world.rank() == 0;
  Console console(writes);
  read_standard_input(prompts, world);
  Request request(arguments, prompts.texts, console);
  Model& model = request.model;
  Device device(resolve_device(model.config, world));
  Stream& stream = device.stream();
  std::optional<TrunkPipeline> pipeline;
  if (world.size() > 1)
    pipeline.emplace(world, stream, decoding_layout(model.config.model, request.heads(), world.size()));
  model.plan(stream, request.shape(arguments.max_tokens), request.heads(), pipeline ? &*pipeline : nullptr);
  const auto writer = world.split(writes ? 0 : -1, 0, "rank 0");
  if (!writes) {
    model.load(stream, world, console);
    model.decoder->follow();
    return ExitCode::done;
  }
  const std::unique_ptr<Drafter> drafter = request.make_drafter(stream, arguments.max_tokens);
  std::optional<DraftLength> length;
  if (drafter && arguments.adapt_drafts)
    length.emplace(std::min(static_cast<int>(request.drafts.size()), drafter->longest()), drafter->trained());
  const TokenizerIdentity& identity = request.tokenizer->identity();
  Generator generator(*model.decoder,
                      {.sampling = arguments.sampling,
                       .seed = arguments.seed,
                       .max_tokens = arguments.max_tokens,
                       .vocabulary = identity.vocab_size,
                       .end = identity.end_of_document,
                       .drafts = request.drafts,
                       .keep_best = arguments.parallel_candidates > 0},
                      std::move(request.tokens), drafter.get(), length ? &*length : nullptr);
  model.load(stream, world, console);
  if (request.draft_model) request.draft_model->load(stream, *writer, console);

  TextCollector texts(arguments, prompts.texts, *request.tokenizer);
  while (generator.round([&](std::size_t sequence, std::span<const std::int32_t> tokens) {
    return texts.add(sequence, tokens);
  }))
    texts.end_round(generator);
  model.decoder->stop_followers();
  texts.report(generator);
  return ExitCode::done;
}

}  // namespace

int generate(const GenerateArguments& arguments) {
  const Prompts prompts = read_prompts(arguments);
  return static_cast<int>(
      run_on_ranks([&](MpiCommunicator& world) { return run(arguments, prompts, world); }));
}

}  // namespace foretoken
