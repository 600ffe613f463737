// Compares the reports of evaluations with a direct computation, which runs the whole model on the whole
// text, without caches, for every token.

#include "launch/session/evaluation.h"

#include <algorithm>
#include <cmath>

#include "launch/commands/free_running.h"
#include "launch/config/config_validator.h"
#include "launch/session/resume.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/multi_rank.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

constexpr std::int32_t end_of_document = 256;

/// The whole model of a run, on every rank.
class WholeModel {
 public:
  WholeModel(const std::string& run, const Config& config, const TokenDataset& data, std::int64_t length)
      : depths_(config.mtp.depths), length_(length), model_(stream_, options(config, length)) {
    Console silent(false);
    load_checkpoint(run, config, data.tokenizer(), weight_pieces(model_.parameters()), stream_,
                    multi_rank::world(), silent);
  }
  /// Logits [length][V] of one depth for a text of up to length + 1 + depths tokens.
  std::vector<std::vector<float>> logits(int depth, std::vector<std::int32_t> text,
                                         std::vector<std::int32_t> document_start = {}) {
    const std::int64_t width = length_ + 1 + depths_;
    text.resize(static_cast<std::size_t>(width));
    document_start.resize(static_cast<std::size_t>(width));
    const std::vector<MicrobatchInput> input{
        {.tokens = tensor_over(std::span(text), {1, width}),
         .document_start = tensor_over(std::span(document_start), {1, width})}};
    model_.begin_step({.request = StepRequest::evaluation(), .microbatches = input});
    model_.forward({});
    std::vector<float> flat(static_cast<std::size_t>(length_ * 257));
    model_.logits({.depth = depth, .out = tensor_over(std::span(flat), {length_, 257})});
    std::vector<std::vector<float>> result;
    for (auto at = flat.begin(); at != flat.end(); at += 257) result.emplace_back(at, at + 257);
    return result;
  }
  /// The most probable token of a depth at a position of a text.
  std::int32_t likeliest(int depth, const std::vector<std::int32_t>& text, std::size_t position) {
    const std::vector<float> row = logits(depth, text).at(position);
    return static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
  }

 private:
  static RankModelOptions options(const Config& config, std::int64_t length) {
    RankModelOptions options;
    options.model = config.model;
    options.mtp = config.mtp;
    options.layout = one_stage(config.model);
    options.shape = {.rows = 1, .length = length};
    options.slots = {1};
    return options;
  }

  TestStream stream_;
  std::int64_t depths_, length_;
  RankModel model_;
};

/// −ln of the probability of `token`.
double nats_of(const std::vector<float>& logits, std::int32_t token) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  return std::log(sum) - logits[static_cast<std::size_t>(token)];
}

struct Counts {
  std::int64_t tokens = 0, rounds = 0;
  std::vector<std::int64_t> accepted_at;
};

/// Runs greedy rounds with `depths` drafts after one prompt, until `limit` tokens or the end of the document,
/// and adds their counts to `counts`.
void count_rounds(WholeModel& model, std::vector<std::int32_t> text, int depths, std::int64_t limit,
                  Counts& counts) {
  std::vector<std::int32_t> fresh{model.likeliest(0, text, text.size() - 1)};
  for (std::int64_t written = 0;;) {
    for (const std::int32_t token : fresh) {
      text.push_back(token);
      ++written;
      ++counts.tokens;
      if (token == end_of_document) return;
    }
    if (written >= limit) return;
    std::vector<std::int32_t> drafted = text;
    for (int depth = 1; depth <= depths; ++depth)
      drafted.push_back(model.likeliest(depth, drafted, text.size() - 2));
    fresh.clear();
    for (std::size_t position = text.size() - 1; position < drafted.size(); ++position) {
      fresh.push_back(model.likeliest(0, drafted, position));
      if (position + 1 == drafted.size() || fresh.back() != drafted[position + 1]) break;
    }
    ++counts.rounds;
    for (std::size_t k = 0; k + 1 < fresh.size(); ++k) ++counts.accepted_at[k];
  }
}

}  // namespace

TEST_CASE(
    "losses and bits per byte equal those computed from the logits of every token that has a predecessor",
    "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets sets{"train.steps=20", "optimizer.lr=1e-2"};
  lab.train_serial(sets, {.run_directory = lab.path("run")});
  const Config config = lab.config(sets + Sets{"parallel.pp=" + std::to_string(world.size() > 1 ? 2 : 1)});
  const TokenDataset data(config.data.path);
  const std::int64_t length = config.data.sequence_length, rows = 21;

  std::vector<double> nats(3);
  std::vector<std::int64_t> tokens(3);
  std::int64_t bytes = 0;
  {
    WholeModel model(lab.path("run"), config, data, length);
    for (std::int64_t row = 0; row < rows; ++row) {
      std::vector<std::int32_t> text(static_cast<std::size_t>(length) + 3), start;
      data.read(row * length, text);
      for (std::int64_t i = 0; i < std::ssize(text); ++i)
        start.push_back(static_cast<std::int32_t>(
            std::max<std::int64_t>(0, data.document_start(row * length + i) - row * length)));
      for (std::size_t depth = 0; depth < 3; ++depth) {
        const auto logits = model.logits(static_cast<int>(depth), text, start);
        for (std::size_t i = 0; i < logits.size(); ++i) {
          const std::size_t target = i + depth + 1;
          if (start[target] != start[i]) continue;
          nats[depth] += nats_of(logits[i], text[target]);
          ++tokens[depth];
          if (depth == 0 && text[target] != end_of_document) ++bytes;
        }
      }
    }
  }
  Session session(world, config, resolve_grid(config, world.size()), Purpose::evaluate);
  Console silent(false);
  load_checkpoint(lab.path("run"), config, data.tokenizer(), weight_pieces(session.model().parameters()),
                  session.stream(), world, silent);
  const EvaluationMetrics metrics = Evaluation(session, data, rows).run(20);
  CHECK(metrics.tokens == tokens[0]);
  CHECK(metrics.bytes == bytes);
  CHECK(bytes < tokens[0]);
  for (std::size_t depth = 0; depth < 3; ++depth)
    CHECK(metrics.depth_losses[depth] ==
          Approx(nats[depth] / static_cast<double>(tokens[depth])).epsilon(1e-5));
  CHECK(metrics.bits_per_byte().value() ==
        Approx(nats[0] / std::log(2.0) / static_cast<double>(bytes)).epsilon(1e-5));
}

TEST_CASE("every layout counts the same free-running acceptance as the serial model",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  for (const std::string kind : {"kind=sequential", "repeat=true", "kind=parallel", "kind=residual",
                                 "kind=linear", "recycled_hidden=raw"}) {
    INFO(kind);
    const Sets sets{"mtp." + kind, "train.steps=40", "optimizer.lr=1e-2"};
    lab.train_serial(sets, {.run_directory = lab.path(kind)});
    const Config config = lab.config(sets);
    const TokenDataset data(config.data.path);
    Counts counts{.accepted_at = std::vector<std::int64_t>(2)};
    const auto prompts = free_running_prompts(data, {.length = 16, .rows = 60, .count = 20, .tokens = 8});
    WholeModel model(lab.path(kind), config, data, 20);
    for (const auto& prompt : prompts) count_rounds(model, prompt, 2, 8, counts);

    const auto rounds = static_cast<double>(counts.rounds);
    const auto first = static_cast<double>(counts.accepted_at[0]),
               second = static_cast<double>(counts.accepted_at[1]);
    for (int pp = 1; pp <= world.size(); pp *= 2) {
      const Config spread = lab.config(sets + Sets{"parallel.pp=" + std::to_string(pp)});
      const FreeRunningMetrics metrics = free_running(lab.path(kind), spread, data, 60, 20, world);
      CHECK(metrics.prompts == std::ssize(prompts));
      CHECK(metrics.tokens == counts.tokens);
      CHECK(metrics.rounds == counts.rounds);
      CHECK(metrics.acceptance == std::vector<double>{first / rounds, second / rounds});
      CHECK(metrics.acceptance_rate == Approx((first + second) / (2 * rounds)));
      CHECK(metrics.accepted_length == Approx(1 + (first + second) / rounds));
    }
    CHECK(first > 0);
    CHECK(first < rounds);
  }
}
