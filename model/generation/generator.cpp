#include "model/generation/generator.h"

#include <algorithm>

#include "runtime/error.h"

namespace foretoken {

double SpeculationStatistics::acceptance_rate() const {
  return drafted == 0 ? 0 : static_cast<double>(accepted) / static_cast<double>(drafted);
}

double SpeculationStatistics::mean_acceptance_length() const {
  return rounds == 0 ? 1 : 1 + static_cast<double>(accepted) / static_cast<double>(rounds);
}

std::vector<double> SpeculationStatistics::acceptance_by_depth() const {
  std::vector<double> shares;
  for (std::size_t j = 0; j < drafted_at.size() && drafted_at[j] > 0; ++j)
    shares.push_back(static_cast<double>(accepted_at[j]) / static_cast<double>(drafted_at[j]));
  return shares;
}

SpeculationStatistics& SpeculationStatistics::operator+=(const SpeculationStatistics& other) {
  rounds += other.rounds;
  plain_rounds += other.plain_rounds;
  drafted += other.drafted;
  accepted += other.accepted;
  const std::size_t depths = other.drafted_at.size();
  drafted_at.resize(std::max(drafted_at.size(), depths));
  accepted_at.resize(drafted_at.size());
  for (std::size_t j = 0; j < depths; ++j) {
    drafted_at[j] += other.drafted_at[j];
    accepted_at[j] += other.accepted_at[j];
  }
  return *this;
}

namespace {

/// Throws a UsageError for a prompt that cannot be continued; `number` counts from 1.
void check_prompt(std::span<const std::int32_t> prompt, std::size_t number, std::int64_t vocabulary,
                  std::size_t positions) {
  if (prompt.empty()) throw UsageError("generate: prompt {} is empty", number);
  for (const std::int32_t token : prompt)
    if (token < 0 || token >= vocabulary)
      throw UsageError("generate: prompt {}: token {} is outside the vocabulary of {}", number, token,
                       vocabulary);
  if (prompt.size() >= positions)
    throw UsageError(
        "generate: prompt {} has {} tokens, but the model has {} positions "
        "(max_position_embeddings), one of them for a new token",
        number, prompt.size(), positions);
}

}  // namespace

Generator::Generator(Decoder& decoder, const GenerationOptions& options,
                     std::vector<std::vector<std::int32_t>> prompts, Drafter* drafter, DraftLength* length)
    : decoder_(decoder),
      options_(options),
      choosers_(options.sampling, options.vocabulary, prompts.size()),
      drafter_(drafter),
      length_(length),
      computed_(prompts.size()),
      statistics_(prompts.size()) {
  validate(options_.sampling);
  validate(options_.drafts);
  if (options_.keep_best && !choosers_.greedy())
    throw UsageError("generate: keeping the best candidate needs temperature 0, found {}",
                     options_.sampling.temperature);
  const auto positions = static_cast<std::size_t>(decoder_.options().positions);
  if (static_cast<std::int64_t>(prompts.size()) > decoder_.options().sequences)
    throw DefectError("generate: {} prompts, planned for {}", prompts.size(), decoder_.options().sequences);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<std::int32_t>& prompt = prompts[i];
    check_prompt(prompt, i + 1, options_.vocabulary, positions);
    const std::size_t size = prompt.size();
    texts_.push_back({.sequence = static_cast<std::int32_t>(i),
                      .tokens = std::move(prompt),
                      .prompt = size,
                      .limit = std::min(size + static_cast<std::size_t>(options_.max_tokens), positions),
                      .rng = {options_.seed, static_cast<std::int64_t>(i)},
                      .drafts = {}});
  }
  const std::size_t deepest = drafter_ ? static_cast<std::size_t>(drafter_->longest()) : 0;
  options_.drafts.resize(std::min(options_.drafts.size(), deepest));
  for (SpeculationStatistics& statistics : statistics_) {
    statistics.drafted_at.resize(options_.drafts.size());
    statistics.accepted_at.resize(options_.drafts.size());
  }
}

SpeculationStatistics Generator::statistics() const {
  SpeculationStatistics sum;
  for (const SpeculationStatistics& each : statistics_) sum += each;
  return sum;
}

std::int64_t Generator::new_tokens(std::size_t sequence) const {
  return static_cast<std::int64_t>(texts_[sequence].tokens.size() - texts_[sequence].prompt);
}

std::int64_t Generator::new_tokens() const {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < texts_.size(); ++i) count += new_tokens(i);
  return count;
}

bool Generator::round(const OnTokens& on_tokens) {
  active_.clear();
  for (GeneratedText& text : texts_)
    if (!text.finished) active_.push_back(&text);
  if (active_.empty()) return false;
  for (GeneratedText* text : active_) text->drafts.clear();
  const bool drafts = !options_.drafts.empty() && !is_first_round();  // drafting needs computed prompts
  if (drafts) draft();
  const Predictions model = run_trunk();
  verify_all(model);
  moves_.clear();
  for (std::size_t i = 0; i < active_.size(); ++i) {
    count_plain(*active_[i]);
    const std::size_t taken = take(*active_[i], verifications_[i], on_tokens);
    count_drafts(*active_[i], verifications_[i], taken);
  }
  decoder_.move_slots(moves_);
  if (drafts && length_) length_->end_round();
  return true;
}

void Generator::draft() {
  TreeShape shape = options_.drafts;
  if (length_) shape.resize(static_cast<std::size_t>(length_->begin_round(active_.size())));
  drafter_->draft(active_, shape, choosers_);
  if (decoder_.options().pipeline) resolve_drafts(decoder_.tokens());  // other ranks need the drafts' values
}

void Generator::resolve_drafts(std::span<const std::int32_t> tokens) {
  for (GeneratedText* text : active_) text->drafts.resolve(tokens);
}

Predictions Generator::run_trunk() {
  const bool prompts = is_first_round();
  rows_.clear();
  slots_.clear();
  for (const GeneratedText* text : active_) {
    std::int32_t& computed = computed_[static_cast<std::size_t>(text->sequence)];
    for (; computed < text->size(); ++computed)
      rows_.add_token(*text, computed, text->tokens[static_cast<std::size_t>(computed)]);
    for (std::int32_t draft = 0; draft < text->drafts.size(); ++draft)
      rows_.add_draft(*text, text->size(), draft);
    for (std::int32_t draft = -1; draft < text->drafts.size(); ++draft)
      slots_.push_back(DraftRows::slot(*text, text->size(), draft));
  }
  if (prompts)
    decoder_.forward_prompts(rows_.rows());
  else
    decoder_.forward(0, rows_.rows());
  Predictions model =
      options_.keep_best ? Predictions(decoder_, 0, slots_) : choosers_.predictions(decoder_, 0, slots_, 1);
  const std::span<const std::int32_t> tokens = decoder_.tokens();
  resolve_drafts(tokens);
  model.resolve(tokens);
  return model;
}

void Generator::verify_all(const Predictions& model) {
  verifications_.resize(active_.size());
  choosers_.for_each(active_, model, decoder_.threads(), [&](std::size_t i, TokenChooser& chooser) {
    verifications_[i] = verify_drafts(*active_[i], {model, active_[i]->sequence}, chooser);
  });
}

Verification Generator::verify_drafts(const GeneratedText& text, const DraftPredictions& model,
                                      TokenChooser& chooser) const {
  if (options_.keep_best) return best_candidate(text, model, chooser);
  if (chooser.greedy()) return follow_likeliest(text, model, chooser);
  return verify(text, model, chooser);
}

void Generator::count_plain(const GeneratedText& text) {
  if (text.drafts.empty() && !options_.drafts.empty() && text.room() > 0)
    ++statistics_[static_cast<std::size_t>(text.sequence)].plain_rounds;
}

void Generator::count_drafts(const GeneratedText& text, const Verification& verification, std::size_t taken) {
  if (text.drafts.empty()) return;
  const auto depth = static_cast<std::size_t>(text.drafts.depth());
  const std::size_t accepted = std::min(verification.accepted.size(), taken);
  SpeculationStatistics& statistics = statistics_[static_cast<std::size_t>(text.sequence)];
  ++statistics.rounds;
  statistics.drafted += text.drafts.size();
  statistics.accepted += static_cast<std::int64_t>(accepted);
  for (std::size_t j = 0; j < depth; ++j) ++statistics.drafted_at[j];
  for (std::size_t j = 0; j < accepted; ++j) ++statistics.accepted_at[j];
  if (length_) length_->record_acceptance(depth, verification.accepted.size());
}

/// Appends the accepted drafts and the token after them to the text. Lists the moves of the drafts' rows to
/// the slots of the text.
std::size_t Generator::take(GeneratedText& text, const Verification& verification,
                            const OnTokens& on_tokens) {
  added_.clear();
  std::int32_t& computed = computed_[static_cast<std::size_t>(text.sequence)];
  for (const std::int32_t draft : verification.accepted) {
    added_.push_back(text.drafts[draft].token);
    const std::int32_t from = DraftRows::slot(text, text.size(), draft).slot;
    if (from != computed) moves_.push_back({.sequence = text.sequence, .from = from, .to = computed});
    ++computed;
  }
  added_.push_back(verification.token);
  if (const auto end = std::find(added_.begin(), added_.end(), options_.end); end != added_.end()) {
    added_.erase(end + 1, added_.end());
    text.finished = true;
  }
  if (const auto last = on_tokens(static_cast<std::size_t>(text.sequence), added_)) {
    added_.resize(std::min(*last, added_.size()));
    text.finished = true;
  }
  text.tokens.insert(text.tokens.end(), added_.begin(), added_.end());
  if (text.tokens.size() >= text.limit) text.finished = true;
  return added_.size();
}

}  // namespace foretoken
