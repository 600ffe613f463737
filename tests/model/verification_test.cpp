// Tests which drafts are accepted: compares the distribution of the resulting tokens with the model's, for
// one tree and for whole texts.

#include "model/generation/verification.h"

#include "tests/support/catch.h"
#include "tests/support/chi_square.h"
#include "tests/support/models/generation_lab.h"
#include "tests/support/models/whole_model.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

using Weights = std::vector<double>;

const std::vector<float> logits{2.0F, -1.0F, 0.5F, 3.0F, 0.0F, -2.5F, 2.5F, 1.0F};
const std::vector<float> other{2.5F, 1.0F, 0.5F, 2.0F, 0.0F, 2.2F, 3.0F, -1.0F};
constexpr std::size_t v = 8;

/// Draws drafts as a drafter does, without replacement.
void add_drafts(DraftTree& drafts, std::int32_t parent, int count, const Weights& source,
                const SequenceRng& rng) {
  Weights left = source;
  for (int child = 0; child < count && sum_of(left) > 0; ++child) {
    const std::int32_t token = draw(left, rng.draft(parent < 0 ? 0 : drafts[parent].depth, child));
    left[static_cast<std::size_t>(token)] = 0;
    drafts.add(parent, token);
  }
  drafts.new_source(parent) = source;
}

}  // namespace

TEST_CASE("a draft tree numbers its nodes by depth and returns the path from each node to the text") {
  DraftTree drafts;
  CHECK(drafts.depth() == 0);
  CHECK(drafts.at_depth(0).begin == -1);
  CHECK(drafts.at_depth(0).end == 0);
  for (const auto& [parent, token] :
       std::vector<std::pair<int, int>>{{-1, 7}, {-1, 8}, {0, 5}, {1, 5}, {1, 6}, {3, 9}})
    drafts.add(parent, token);
  CHECK(drafts.depth() == 3);
  CHECK(drafts.children(-1).count() == 2);
  CHECK(drafts.children(1).begin == 3);
  CHECK(drafts.children(1).end == 5);
  CHECK(drafts.children(2).count() == 0);
  CHECK(drafts.children(5).count() == 0);
  CHECK(drafts.at_depth(2).begin == 2);
  CHECK(drafts.at_depth(2).end == 5);
  std::vector<std::int32_t> slots;
  drafts.append_branch(5, 10, slots);
  CHECK(slots == std::vector<std::int32_t>{15, 13, 11});
  CHECK(drafts_in({3, 2, 1}) == 15);
  CHECK(branches_of({3, 2, 1}) == 15);
  CHECK(branches_of({1, 1, 1}) == 0);
  CHECK(drafts_in({}) == 0);
}

TEST_CASE(
    "speculative tokens follow the model's distribution for drafts of any quality, in chains and trees") {
  // Two positions. As in a model, the distribution of the second token depends on the first.
  const double draft_temperature = GENERATE(0.0, 0.3, 1.0, 5.0), top_p = GENERATE(1.0, 0.7);
  const TreeShape shape = GENERATE(TreeShape{1, 1}, TreeShape{2, 1}, TreeShape{3, 2}, TreeShape{1, 8});
  CAPTURE(draft_temperature, top_p, shape);
  const SamplingOptions options{.temperature = 0.8, .top_p = top_p};
  const auto model_after = [&](std::size_t first) {
    std::vector<float> rotated(v);
    for (std::size_t i = 0; i < v; ++i) rotated[i] = logits[(i + first) % v];
    return distribution(rotated, {}, options);
  };
  const Weights p0 = distribution(logits, {}, options),
                q = distribution(other, {}, {.temperature = draft_temperature, .top_p = top_p});
  std::vector<Weights> after;
  for (std::size_t i = 0; i < 2 * v; ++i) after.push_back(model_after(i));

  std::vector<std::int64_t> first(v), pairs(v * v);
  std::size_t accepted = 0;
  for (std::int64_t sequence = 0; sequence < 50000; ++sequence) {
    const SequenceRng rng(5, sequence);
    DraftTree drafts;
    add_drafts(drafts, -1, shape[0], q, rng);
    const DraftTree::Range children = drafts.children(-1);
    for (std::int32_t child = children.begin; child < children.end; ++child)
      add_drafts(drafts, child, shape[1], q, rng);
    const auto token = [&](std::int32_t draft) { return static_cast<std::size_t>(drafts[draft].token); };
    Weights p;
    const Verification verification = verify(
        drafts,
        [&](std::int32_t draft) {
          const std::int32_t parent = draft < 0 ? -1 : drafts[draft].parent;
          p = draft < 0 ? p0 : after[token(draft) + (parent < 0 ? 0 : token(parent))];
          return std::span<double>(p);
        },
        rng, 0);
    accepted += verification.accepted.size();
    const auto last = static_cast<std::size_t>(verification.token);
    const std::size_t t0 = verification.accepted.empty() ? last : token(verification.accepted[0]);
    // If no draft was accepted, the next round draws the second token from the model's distribution.
    const std::size_t t1 = verification.accepted.empty()
                               ? static_cast<std::size_t>(draw(after[t0], rng.token(1)))
                           : verification.accepted.size() == 1 ? last
                                                               : token(verification.accepted[1]);
    ++first[t0];
    ++pairs[t0 * v + t1];
  }
  Weights joint(v * v);
  for (std::size_t i = 0; i < v; ++i)
    for (std::size_t j = 0; j < v; ++j) joint[i * v + j] = p0[i] * after[i][j];
  check_counts(first, p0);
  check_counts(pairs, joint);
  CHECK(accepted > 0);
}

TEST_CASE("drafts drawn from the model's own distribution are accepted, at a fork the first one") {
  const Weights p = distribution(logits, {}, {});
  for (std::int64_t sequence = 0; sequence < 1000; ++sequence) {
    const SequenceRng rng(1, sequence);
    DraftTree drafts;
    add_drafts(drafts, -1, 3, p, rng);
    add_drafts(drafts, 0, 2, p, rng);
    Weights again;
    const Verification verification = verify(
        drafts, [&](std::int32_t) { return std::span<double>(again = p); }, rng, 7);
    CHECK(verification.accepted == std::vector<std::int32_t>{0, 3});
  }
}

TEST_CASE("text sampled with speculation follows the distribution of the whole model") {
  struct Sampling {
    double temperature, top_p;
  };
  const Sampling sampling = GENERATE(Sampling{0.5, 1}, Sampling{1, 1}, Sampling{1.5, 0.8});
  const TreeShape drafts = GENERATE(TreeShape{}, TreeShape{1, 1}, TreeShape{3, 2});
  const bool by_model = GENERATE(false, true);
  const SamplingOptions options{.temperature = sampling.temperature, .top_p = sampling.top_p};
  CAPTURE(sampling.temperature, sampling.top_p, drafts, by_model);
  if (drafts.empty() && by_model) return;
  // The first token of each text is drawn without drafts and is not counted. The next two are counted. With
  // drafts they come from one round, or from two if the first round accepts no draft.
  const std::vector<std::int32_t> prompt{3, 1, 4, 1, 5};
  std::vector<std::int64_t> counts(121);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    GenerationCase of{
        .mtp = {.depths = 2},
        .options = {.sampling = options, .seed = seed, .max_tokens = 4, .vocabulary = 11, .drafts = drafts},
        .prompts = Texts(200, prompt),
        .positions = 12};
    if (by_model) of.draft_model = tiny_model();
    of.draft_seed = 12;
    for (const std::vector<std::int32_t>& text : generate(of).texts)
      ++counts[static_cast<std::size_t>(text[6] * 11 + text[7])];
  }
  Weights p(121);
  const Weights first = distribution(whole_logits(prompt), {}, options);
  for (std::int32_t a = 0; a < 11; ++a) {
    if (first[static_cast<std::size_t>(a)] == 0) continue;
    std::vector<std::int32_t> text = prompt;
    text.push_back(a);
    const Weights second = distribution(whole_logits(text), {}, options);
    for (std::int32_t b = 0; b < 11; ++b) {
      if (second[static_cast<std::size_t>(b)] == 0) continue;
      text.push_back(b);
      const Weights third = distribution(whole_logits(text), {}, options);
      text.pop_back();
      for (std::size_t c = 0; c < 11; ++c)
        p[static_cast<std::size_t>(b) * 11 + c] +=
            first[static_cast<std::size_t>(a)] * second[static_cast<std::size_t>(b)] * third[c];
    }
  }
  check_counts(counts, p);
}
