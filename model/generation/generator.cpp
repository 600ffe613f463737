#include "model/generation/generator.h"

#include <algorithm>

#include "runtime/error.h"

namespace foretoken {

namespace {

Decoder::Place place(std::int32_t sequence, std::int64_t position) {
  return {.sequence = sequence, .position = static_cast<std::int32_t>(position)};
}

}  // namespace

double SpeculationStatistics::acceptance_rate() const {
  return drafted == 0 ? 0 : static_cast<double>(accepted) / static_cast<double>(drafted);
}

double SpeculationStatistics::mean_acceptance_length() const {
  return rounds == 0 ? 1 : 1 + static_cast<double>(accepted) / static_cast<double>(rounds);
}

Generator::Generator(Decoder& decoder, const GenerationOptions& options,
                     std::vector<std::vector<std::int32_t>> prompts)
    : decoder_(decoder), options_(options) {
  validate(options_.sampling);
  const auto positions = static_cast<std::size_t>(decoder_.options().positions);
  if (static_cast<std::int64_t>(prompts.size()) > decoder_.options().sequences)
    throw DefectError("generate: {} prompts, planned for {}", prompts.size(), decoder_.options().sequences);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<std::int32_t>& prompt = prompts[i];
    if (prompt.empty()) throw UsageError("generate: prompt {} is empty", i + 1);
    for (const std::int32_t token : prompt)
      if (token < 0 || token >= options_.vocabulary)
        throw UsageError("generate: prompt {}: token {} is outside of the vocabulary of {}", i + 1, token,
                         options_.vocabulary);
    if (prompt.size() >= positions)
      throw UsageError(
          "generate: prompt {} has {} tokens, but the model has {} positions "
          "(max_position_embeddings), one of them for a new token",
          i + 1, prompt.size(), positions);
    const std::size_t size = prompt.size();
    sequences_.push_back({.index = static_cast<std::int32_t>(i),
                          .text = std::move(prompt),
                          .prompt = size,
                          .limit = std::min(size + static_cast<std::size_t>(options_.max_tokens), positions),
                          .rng = {options_.seed, static_cast<std::int64_t>(i)},
                          .computed = std::vector<std::int64_t>(static_cast<std::size_t>(decoder_.levels())),
                          .drafts = {}});
  }
  if (decoder_.levels() == 1) options_.speculate = 0;
  // Heads that do not chain draft no further than each predicts.
  if (!decoder_.is_chained()) options_.speculate = std::min(options_.speculate, decoder_.levels() - 1);
  statistics_.accepted_at.resize(static_cast<std::size_t>(options_.speculate));
}

std::int64_t Generator::new_tokens() const {
  std::int64_t count = 0;
  for (const Sequence& sequence : sequences_)
    count += static_cast<std::int64_t>(sequence.text.size() - sequence.prompt);
  return count;
}

/// Every round adds a token beside the drafts; the first has nothing to draft from.
int Generator::drafts_of(const Sequence& sequence) const {
  if (sequence.computed.front() == 0) return 0;
  return std::min(options_.speculate, static_cast<int>(sequence.limit - sequence.text.size()) - 1);
}

/// What the model, or a head, has for the token after the text and so many drafts.
std::vector<double> Generator::next(const Sequence& sequence, std::size_t drafts,
                                    std::span<const float> logits) const {
  std::vector<std::int32_t> text = sequence.text;
  for (std::size_t j = 0; j < drafts; ++j) text.push_back(sequence.drafts[j].token);
  return distribution(logits.first(static_cast<std::size_t>(options_.vocabulary)), text, options_.sampling);
}

bool Generator::round(const OnTokens& on_tokens) {
  std::vector<Sequence*> active;
  for (Sequence& sequence : sequences_)
    if (!sequence.finished) active.push_back(&sequence);
  if (active.empty()) return false;
  draft(active);
  const std::vector<Decoder::Place> places = run_trunk(active);
  std::span<const float> logits = decoder_.logits(0, places);
  const std::size_t width = logits.size() / places.size();
  for (Sequence* sequence : active) {
    std::vector<std::vector<double>> model;
    for (std::size_t j = 0; j <= sequence->drafts.size(); ++j) {
      model.push_back(next(*sequence, j, logits.first(width)));
      logits = logits.subspan(width);
    }
    take(*sequence,
         verify(sequence->drafts, model, sequence->rng, static_cast<std::int64_t>(sequence->text.size())),
         on_tokens);
  }
  return true;
}

void Generator::draft(std::vector<Sequence*>& active) {
  for (Sequence* sequence : active) sequence->drafts.clear();
  for (int depth = 1; depth <= options_.speculate; ++depth) {
    std::vector<Sequence*> drafting;
    for (Sequence* sequence : active)
      if (drafts_of(*sequence) >= depth) drafting.push_back(sequence);
    if (!drafting.empty()) draft_one(drafting, depth);
  }
}

/// With the text t₀ … t_{p+1}, of which the trunk has computed all but the last, draft k is t_{p+1+k}.
void Generator::draft_one(const std::vector<Sequence*>& drafting, int depth) {
  const int level = std::min(depth, decoder_.levels() - 1);
  const std::int64_t ahead = decoder_.is_chained() ? level : 0, beyond = depth - level;
  std::vector<Decoder::Row> rows;
  std::vector<Decoder::Place> last;
  for (Sequence* sequence : drafting) {
    const auto size = static_cast<std::int64_t>(sequence->text.size());
    const std::int64_t p = size - 2 + beyond;
    std::int64_t& computed = sequence->computed[static_cast<std::size_t>(level)];
    for (std::int64_t i = beyond > 0 ? p : computed; i <= p; ++i) {
      const std::int64_t at = i + ahead;
      rows.push_back({.place = place(sequence->index, i),
                      .token = at < size ? sequence->text[static_cast<std::size_t>(at)]
                                         : sequence->drafts[static_cast<std::size_t>(at - size)].token});
    }
    // Rows over drafts do not last.
    if (beyond == 0) computed = std::max<std::int64_t>(computed, size - std::max<std::int64_t>(ahead, 1));
    last.push_back(place(sequence->index, p));
  }
  decoder_.forward(level, rows, beyond > 0 ? Decoder::Input::own_output : Decoder::Input::previous_level);
  const std::span<const float> logits = decoder_.logits(level, last);
  const std::size_t width = logits.size() / last.size();
  for (std::size_t i = 0; i < drafting.size(); ++i) {
    Sequence& sequence = *drafting[i];
    Draft draft{.distribution = next(sequence, sequence.drafts.size(), logits.subspan(i * width, width))};
    draft.token =
        draw(draft.distribution,
             sequence.rng.draft(static_cast<std::int64_t>(sequence.text.size() + sequence.drafts.size())));
    sequence.drafts.push_back(std::move(draft));
  }
}

std::vector<Decoder::Place> Generator::run_trunk(const std::vector<Sequence*>& active) {
  std::vector<Decoder::Row> rows;
  std::vector<Decoder::Place> places;
  for (const Sequence* sequence : active) {
    const auto size = static_cast<std::int64_t>(sequence->text.size());
    for (std::int64_t i = sequence->computed.front(); i < size; ++i)
      rows.push_back({place(sequence->index, i), sequence->text[static_cast<std::size_t>(i)]});
    places.push_back(rows.back().place);
    for (const Draft& draft : sequence->drafts) {
      rows.push_back({place(sequence->index, rows.back().place.position + 1), draft.token});
      places.push_back(rows.back().place);
    }
  }
  decoder_.forward(0, rows);
  return places;
}

void Generator::take(Sequence& sequence, const Verdict& verdict, const OnTokens& on_tokens) {
  std::vector<std::int32_t> added;
  for (std::size_t j = 0; j < verdict.accepted; ++j) added.push_back(sequence.drafts[j].token);
  added.push_back(verdict.token);
  if (!sequence.drafts.empty()) {
    ++statistics_.rounds;
    statistics_.drafted += static_cast<std::int64_t>(sequence.drafts.size());
    statistics_.accepted += static_cast<std::int64_t>(verdict.accepted);
    for (std::size_t j = 0; j < verdict.accepted; ++j) ++statistics_.accepted_at[j];
  }
  if (const auto end = std::find(added.begin(), added.end(), options_.end); end != added.end()) {
    added.erase(end + 1, added.end());
    sequence.finished = true;
  }
  sequence.text.insert(sequence.text.end(), added.begin(), added.end());
  sequence.computed.front() = static_cast<std::int64_t>(sequence.text.size()) - 1;
  if (sequence.text.size() >= sequence.limit) sequence.finished = true;
  if (!on_tokens(static_cast<std::size_t>(sequence.index), added)) sequence.finished = true;
}

}  // namespace foretoken
