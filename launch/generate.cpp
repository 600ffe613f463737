#include "launch/generate.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/config_loader.h"
#include "launch/console.h"
#include "launch/ranks.h"
#include "launch/resume.h"
#include "launch/text_stream.h"
#include "model/generation/generator.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string text_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) throw DataError("generate: {}: cannot be read", path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> prompts_of(const GenerateArguments& arguments) {
  std::vector<std::string> prompts = arguments.prompts;
  for (const std::string& path : arguments.prompt_files) prompts.push_back(text_of_file(path));
  if (prompts.empty()) throw UsageError("generate: no prompt; give one with --prompt or --prompt-file");
  for (std::size_t i = 0; i < prompts.size(); ++i)
    if (prompts[i].empty()) throw UsageError("generate: prompt {} is empty", i + 1);
  return prompts;
}

/// Shows several texts one after another: one of them as it comes, those after it when their turn has come.
class Transcript {
 public:
  Transcript(std::size_t texts, const std::vector<std::string>& stops)
      : streams_(texts, TextStream(stops)), waiting_(texts), ended_(texts) {
    begin();
  }

  /// False where a stop text has appeared.
  bool add(std::size_t text, std::string_view bytes) {
    show(text, streams_[text].push(bytes));
    return !streams_[text].stopped();
  }
  void end(std::size_t text) {
    if (ended_[text]) return;
    show(text, streams_[text].finish());
    ended_[text] = true;
    while (current_ < ended_.size() && ended_[current_]) {
      fmt::print("\n");
      if (++current_ == ended_.size()) break;
      begin();
      show(current_, std::exchange(waiting_[current_], {}));
    }
    std::fflush(stdout);
  }

 private:
  void begin() const {
    if (ended_.size() > 1) fmt::print("==> prompt {} <==\n", current_ + 1);
  }
  void show(std::size_t text, const std::string& shown) {
    if (text != current_) {
      waiting_[text] += shown;
      return;
    }
    fmt::print("{}", shown);
    std::fflush(stdout);
  }

  std::vector<TextStream> streams_;
  std::vector<std::string> waiting_;
  std::vector<bool> ended_;
  std::size_t current_ = 0;
};

/// The checkpoint's settings, but for what is of training alone. The same seed gives the same text: nothing
/// is chosen by timing.
Config config_of(const Checkpoint& checkpoint, const GenerateArguments& arguments) {
  Config config = settings_of(checkpoint);
  config.run.device = arguments.device;
  config.origins["run.device"] = "--device";
  config.parallel.threads = 0;
  config.train.deterministic = true;
  if (config.train.precision == TrainConfig::Precision::bf16)
    config.train.precision = TrainConfig::Precision::automatic;
  return config;
}

void load_weights(const GenerateArguments& arguments, const Config& config, const Tokenizer& tokenizer,
                  Parameters& parameters, Stream& stream, MpiCommunicator& world, Console& console) {
  load_checkpoint(arguments.path, config, to_string(tokenizer.identity()), weight_pieces(parameters), stream,
                  world, console);
  parameters.round_weights(stream);
}

void report(std::int64_t tokens, double seconds, double first_token, const SpeculationStatistics& s) {
  fmt::print(stderr, "generate   {} tokens in {:.2f} s, {:.1f} tokens/s; first token after {:.3f} s\n",
             tokens, seconds, static_cast<double>(tokens) / seconds, first_token);
  if (s.rounds == 0) return;
  std::vector<std::string> positions;
  for (const std::int64_t accepted : s.accepted_at)
    positions.push_back(fmt::format("{:.3f}", static_cast<double>(accepted) / static_cast<double>(s.rounds)));
  fmt::print(stderr,
             "speculate  {} rounds, acceptance rate {:.3f}, mean acceptance length {:.2f}, by position {}\n",
             s.rounds, s.acceptance_rate(), s.mean_acceptance_length(), fmt::join(positions, " "));
}

ExitCode run(const GenerateArguments& arguments, const std::vector<std::string>& prompts,
             MpiCommunicator& world) {
  if (world.size() > 1) throw UsageError("generate: runs on one rank, found {}", world.size());
  Console console(true);
  const Checkpoint checkpoint = newest_readable(arguments.path);
  const Config config = config_of(checkpoint, arguments);
  const std::string& identity = checkpoint.info().tokenizer;
  const auto tokenizer = make_tokenizer(identity.substr(0, identity.find(' ')));

  std::vector<std::vector<std::int32_t>> tokens;
  std::size_t longest = 0;
  for (const std::string& prompt : prompts) {
    tokenizer->encode(prompt, tokens.emplace_back());
    longest = std::max(longest, tokens.back().size());
  }
  Device device(resolve_device(config, world));
  if (arguments.speculate > 0 && config.mtp.depths == 0)
    console.warn(fmt::format("generate: the model has no prediction heads; --speculate {} is left out",
                             arguments.speculate));
  MtpConfig mtp = config.mtp;
  if (arguments.speculate == 0) mtp.depths = 0;
  const auto sequences = static_cast<std::int64_t>(prompts.size());
  Decoder decoder(device.stream(),
                  {.model = config.model,
                   .mtp = mtp,
                   .dtype = compute_dtype(config, device.stream().device()),
                   .sequences = sequences,
                   .positions = std::min(config.model.max_position_embeddings,
                                         static_cast<std::int64_t>(longest) + arguments.max_tokens),
                   .logits = sequences * (1 + arguments.speculate)});
  Generator generator(decoder,
                      {.sampling = arguments.sampling,
                       .seed = arguments.seed,
                       .max_tokens = arguments.max_tokens,
                       .vocabulary = tokenizer->identity().vocab_size,
                       .end = tokenizer->identity().end_of_document,
                       .speculate = arguments.speculate},
                      std::move(tokens));
  load_weights(arguments, config, *tokenizer, decoder.parameters(), device.stream(), world, console);

  Transcript transcript(prompts.size(), arguments.stops);
  const auto take = [&](std::size_t sequence, std::span<const std::int32_t> added) {
    const bool ends = added.back() == tokenizer->identity().end_of_document;
    return transcript.add(sequence, tokenizer->decode(added.first(added.size() - (ends ? 1 : 0))));
  };
  const Clock::time_point start = Clock::now();
  double first_token = 0;
  while (generator.round(take)) {
    if (first_token == 0) first_token = seconds_since(start);
    for (std::size_t i = 0; i < prompts.size(); ++i)
      if (generator.finished(i)) transcript.end(i);
  }
  report(generator.new_tokens(), seconds_since(start), first_token, generator.statistics());
  return ExitCode::done;
}

}  // namespace

int generate(const GenerateArguments& arguments) {
  const std::vector<std::string> prompts = prompts_of(arguments);
  return static_cast<int>(
      run_on_ranks([&](MpiCommunicator& world) { return run(arguments, prompts, world); }));
}

}  // namespace foretoken
