#include "model/generation/decoder.h"

#include <algorithm>
#include <utility>

#include "model/heads/head_kinds.h"
#include "model/layout.h"
#include "model/parameter_names.h"
#include "runtime/error.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

using Kind = MtpConfig::Kind;

Decoder::Decoder(Stream& stream, const DecoderOptions& options)
    : stream_(stream),
      options_(options),
      arena_(stream.device()),
      small_context_{.stream = stream},
      host_arena_(DeviceKind::cpu, stream.device() == DeviceKind::cuda),
      replays_(stream) {
  const ModelConfig& model = options_.model;
  const std::int64_t s = options_.sequences, p = cells(), r = std::max(options_.rows, logits_together()),
                     c = model.hidden_size;
  if (s * p > std::int64_t{1} << 31)
    throw UsageError("decoder: {} sequences of {} positions, at most 2^31 places are numbered", s, p);
  plan_trunk();
  scratch_ = CachedBlock::plan_scratch(arena_, model, options_.dtype, r);
  constexpr std::int64_t of_several_passes = std::int64_t{1} << 14, in_flight = 4;
  index_ = arena_.tensor(DType::i32, {std::max(r * (4 + options_.branches), of_several_passes)});
  host_index_ = host_arena_.tensor(DType::i32, {in_flight * index_.elements()});
  x_ = arena_.tensor(options_.dtype, {r, c});
  if (is_last()) plan_last();
  arena_.seal();
  host_arena_.seal();
}

void Decoder::plan_trunk() {
  const ModelConfig& model = options_.model;
  const TrunkPipeline* pipeline = options_.pipeline;
  const ModelLayout layout = pipeline ? pipeline->layout() : one_stage(model);
  const int stage = pipeline ? pipeline->stage() : 0;
  parameters_ =
      std::make_unique<Parameters>(arena_, Parameters::Buffers{.weights = options_.dtype, .gradients = false},
                                   units_of(model, options_.mtp, layout, stage), 128);
  rope_ = make_rope_tables(stream_, arena_, model, options_.positions, options_.dtype);
  if (tensors_of(model, options_.mtp, layout, stage).embedding) table_ = parameters_->weight(embedding_name);
  for (const auto& [layer, part] : layout.blocks_of(stage))
    blocks_.emplace_back(model, *parameters_, block_prefix(layer), arena_, options_.dtype, options_.sequences,
                         cells(), part);
}

void Decoder::plan_last() {
  const std::int64_t c = options_.model.hidden_size, v = options_.model.vocab_size;
  norm_ = parameters_->weight(final_norm_name);
  output_ = parameters_->weight(output_matrix_name(options_.model));
  gathered_ = arena_.tensor(options_.dtype, {logits_together(), c});
  logits_ = arena_.tensor(DType::f32, {logits_together(), v});
  chosen_ = arena_.tensor(DType::i32, {2 * options_.logits});  // a round's drafts, and the tokens after each
  host_logits_ = host_arena_.tensor(logits_.dtype, {options_.logits, v});
  host_chosen_ = host_arena_.tensor(chosen_.dtype, chosen_.shape);
  states_.push_back(arena_.tensor(options_.dtype, {options_.sequences, cells(), c}));
  if (options_.mtp.depths > 0) plan_heads();
}

void Decoder::plan_heads() {
  const ModelConfig& model = options_.model;
  const MtpConfig& mtp = options_.mtp;
  const DType dtype = options_.dtype;
  const std::int64_t s = options_.sequences, p = cells(), c = model.hidden_size;
  if (mtp.kind == Kind::residual || mtp.kind == Kind::linear) {
    const ActivationPlan plan{.shape = {.rows = logits_together(), .length = 1}, .dtype = dtype};
    small_heads_ = head_kind(mtp.kind).make({.stream = stream_,
                                             .model = model,
                                             .mtp = mtp,
                                             .parameters = *parameters_,
                                             .arena = arena_,
                                             .activations = plan,
                                             .scratch = {}});
    small_input_ = arena_.tensor(dtype, {logits_together(), 1, c});
    small_heads_->add_slot({.normed = small_input_}, {});
    return;
  }
  const bool sequential = mtp.kind == Kind::sequential;
  for (std::int64_t depth = 1; depth <= mtp.depths; ++depth) {
    const std::string prefix = mtp_prefix(model, mtp, depth);
    heads_.push_back({.module = {},
                      .block = CachedBlock(model, *parameters_, prefix, arena_, dtype, s, p),
                      .norm = sequential ? parameters_->weight(prefix + ".shared_head.norm.weight") : norm_});
    if (sequential) heads_.back().module = MtpModule::weights(*parameters_, parameters_->weights(), prefix);
    states_.push_back(arena_.tensor(dtype, {s, p, c}));
  }
  if (sequential) {
    embedded_ = arena_.tensor(dtype, {options_.rows, c});
    joined_ = arena_.tensor(dtype, {options_.rows, 2 * c});
  } else {
    last_input_ = arena_.tensor(dtype, {s, p, c});
  }
}

bool Decoder::keeps_normed(int level) const {
  if (!is_chained()) return true;
  return (level == 0 ? options_.mtp.trunk_hidden : options_.mtp.recycled_hidden) == MtpConfig::Hidden::normed;
}

void Decoder::check(const char* what, int level, const Place& place, std::int64_t positions) const {
  if (level < 0 || level >= levels() || place.sequence < 0 || place.sequence >= options_.sequences ||
      place.position < 0 || place.position >= positions)
    throw DefectError("decoder: {} of level {}, sequence {}, position {}; there are {}, {} and {}", what,
                      level, place.sequence, place.position, levels(), options_.sequences, positions);
}

void Decoder::check(const Row& row, int level, Input input) const {
  check("a row", level, row.place, options_.positions);
  if (input == Input::own_output && (!is_chained() || row.place.position == 0))
    throw DefectError("decoder: level {} has no output before position {}", level, row.place.position);
  const bool on_other_ranks = level == 0 && options_.pipeline;
  if (chosen(row.token) >= (on_other_ranks ? 0 : std::ssize(choices_)) ||
      row.token >= options_.model.vocab_size)
    throw UsageError("decoder: token {} of sequence {} is outside of the model's vocabulary of {}", row.token,
                     row.place.sequence, options_.model.vocab_size);
  if (static_cast<std::int64_t>(row.branch.size()) > options_.branches)
    throw DefectError("decoder: a branch of {} rows, planned for {}", row.branch.size(), options_.branches);
  for (const std::int32_t cell : row.branch) check("a branch", level, {row.place.sequence, cell}, cells());
  if (row.from != -1) check("a state", level, {row.place.sequence, row.from}, cells());
}

std::int32_t Decoder::cell(std::int32_t sequence, std::int32_t of_sequence) const {
  return static_cast<std::int32_t>(sequence * cells() + of_sequence);
}

void Decoder::forward(int level, std::span<const Row> rows, Input input) {
  forward_in_parts(level, rows, input, std::min(options_.rows, most_few_rows));
}

void Decoder::forward_prompts(std::span<const Row> rows) {
  forward_in_parts(0, rows, Input::previous_level, options_.rows);
}

void Decoder::forward_in_parts(int level, std::span<const Row> rows, Input input, std::int64_t of_rows) {
  for (const Row& row : rows) check(row, level, input);
  if (level > 0 && small_heads_) return;  // these heads keep no state
  const auto part = static_cast<std::size_t>(of_rows);
  for (std::size_t begin = 0; begin < rows.size(); begin += part)
    forward_part(level, rows.subspan(begin, std::min(part, rows.size() - begin)), input);
}

void Decoder::forward_part(int level, std::span<const Row> rows, Input input) {
  TrunkPipeline* pipeline = level == 0 ? options_.pipeline : nullptr;
  if (!pipeline) return note_rows(level, rows, input);
  start();
  tell(rows);
  const Tensor states = x_.rows(0, std::ssize(rows));
  pipeline->receive(states);
  note_rows(level, rows, input);
  start();
  pipeline->send(states);
}

std::span<const float> Decoder::logits(int level, std::span<const Place> places) {
  if (std::ssize(places) > options_.logits)
    throw DefectError("decoder: {} rows of logits, planned for {}", places.size(), options_.logits);
  for (std::int64_t first = 0; first < std::ssize(places); first += logits_together()) {
    const std::int64_t count = note_places({.work = Work::logits, .level = level}, places, first);
    start();
    copy(stream_, logits_.rows(0, count), host_logits_.rows(first, count));
  }
  synchronize();
  return host_logits_.rows(0, std::ssize(places)).span<float>();
}

std::int32_t Decoder::choose(int level, std::span<const Place> places, std::int64_t vocabulary,
                             std::int64_t candidates) {
  const std::int64_t number = std::ssize(choices_), last = number + std::ssize(places) * candidates;
  if (last > chosen_.elements())
    throw DefectError("decoder: {} tokens are chosen, planned for {}", last, chosen_.elements());
  if (vocabulary == 0) vocabulary = options_.model.vocab_size;
  for (std::int64_t first = 0; first < std::ssize(places); first += logits_together())
    note_places({.work = Work::choose,
                 .level = level,
                 .number = number + first * candidates,
                 .vocabulary = vocabulary,
                 .candidates = candidates},
                places, first);
  for (const Place& place : places)
    choices_.insert(choices_.end(), static_cast<std::size_t>(candidates), {level, place});
  return static_cast<std::int32_t>(number);
}

std::span<const std::int32_t> Decoder::tokens() {
  if (choices_.empty()) return {};
  start();
  const Tensor host = host_chosen_.rows(0, std::ssize(choices_));
  copy(stream_, chosen_.rows(0, host.elements()), host);
  synchronize();
  const std::span<const std::int32_t> tokens = host.span<std::int32_t>();
  choices_.swap(told_);
  choices_.clear();
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0)
      throw NumericalError("decoder: the logits of level {} after position {} of sequence {} are not finite",
                           told_[i].level, told_[i].place.position, told_[i].place.sequence);
  return tokens;
}

void Decoder::settle(std::span<const Move> moves) {
  if (moves.empty()) return;
  for (const auto& [sequence, from, to] : moves) {
    check("a move", 0, {sequence, from}, cells());
    check("a move", 0, {sequence, to}, options_.positions);
  }
  tell(moves);
  const auto part = static_cast<std::size_t>(index_.elements() / 2);
  for (std::size_t begin = 0; begin < moves.size(); begin += part)
    note_moves(moves.subspan(begin, std::min(part, moves.size() - begin)));
  start();
}

void Decoder::synchronize() {
  if (options_.pipeline)
    options_.pipeline->synchronize();
  else
    stream_.synchronize();
  host_begin_ = 0;
}

}  // namespace foretoken
