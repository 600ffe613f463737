#include "model/decoder/decoder.h"

#include <algorithm>
#include <utility>

#include "model/decoder/trunk_orders.h"
#include "runtime/error.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

namespace {

/// Throws unless every slot has a number of 32 bits.
const DecoderOptions& checked(const DecoderOptions& options) {
  const std::int64_t slots = options.cache().slots();
  if (options.sequences * slots > std::int64_t{1} << 31)
    throw UsageError("decoder: {} sequences of {} slots each; at most 2^31 slots can be numbered",
                     options.sequences, slots);
  return options;
}

}  // namespace

Decoder::Decoder(Stream& stream, const DecoderOptions& options)
    : stream_(stream),
      options_(checked(options)),
      arena_(stream.device()),
      host_arena_(DeviceKind::cpu, stream.device() == DeviceKind::cuda),
      model_(stream, arena_, options_),
      queue_(stream, arena_, host_arena_, model_, options_) {
  if (options_.is_last_stage()) {
    host_logits_ = host_arena_.tensor(DType::f32, {options_.logits, options_.model.vocab_size});
    host_chosen_ = host_arena_.tensor(DType::i32, model_.chosen().shape);
  }
  arena_.seal();
  host_arena_.seal();
}

void Decoder::check_slot(const char* what, int level, const CacheSlot& slot, std::int64_t slots) const {
  if (level < 0 || level >= levels() || slot.sequence < 0 || slot.sequence >= options_.sequences ||
      slot.slot < 0 || slot.slot >= slots)
    throw DefectError(
        "decoder: {} at level {}, sequence {}, slot {} is outside {} levels, {} sequences "
        "and {} slots",
        what, level, slot.sequence, slot.slot, levels(), options_.sequences, slots);
}

void Decoder::check_row(const DecoderRow& row, int level, Input input) const {
  const std::int32_t sequence = row.sequence;
  check_slot("a row", level, {sequence, row.position}, options_.positions);
  if (input == Input::own_output && (!is_chained() || row.position == 0))
    throw DefectError("decoder: level {} has no output before position {}", level, row.position);
  const bool on_other_ranks = level == 0 && options_.pipeline;
  if (chosen(row.token) >= (on_other_ranks ? 0 : std::ssize(choices_)) ||
      row.token >= options_.model.vocab_size)
    throw UsageError("decoder: token {} of sequence {} is outside the model's vocabulary of {}", row.token,
                     sequence, options_.model.vocab_size);
  if (static_cast<std::int64_t>(row.branch.size()) > options_.branches)
    throw DefectError("decoder: a branch of {} rows, planned for {}", row.branch.size(), options_.branches);
  const std::int64_t slots = options_.cache().slots();
  for (const std::int32_t slot : row.branch) check_slot("a branch", level, {sequence, slot}, slots);
  if (row.input_slot != -1) check_slot("an input state", level, {sequence, row.input_slot}, slots);
}

void Decoder::forward(int level, std::span<const DecoderRow> rows, Input input) {
  forward_in_parts(level, rows, input, std::min(options_.rows, most_few_rows));
}

void Decoder::forward_prompts(std::span<const DecoderRow> rows) {
  forward_in_parts(0, rows, Input::previous_depth, options_.rows);
}

void Decoder::forward_in_parts(int level, std::span<const DecoderRow> rows, Input input,
                               std::int64_t rows_per_part) {
  for (const DecoderRow& row : rows) check_row(row, level, input);
  if (!model_.keeps_states(level)) return;
  const auto part = static_cast<std::size_t>(rows_per_part);
  for (std::size_t begin = 0; begin < rows.size(); begin += part)
    forward_part(level, rows.subspan(begin, std::min(part, rows.size() - begin)), input);
}

void Decoder::forward_part(int level, std::span<const DecoderRow> rows, Input input) {
  TrunkPipeline* pipeline = level == 0 ? options_.pipeline : nullptr;
  if (!pipeline) return queue_.add_rows(level, rows, input);
  queue_.start();
  if (sends_orders()) pipeline->send_order(TrunkPipeline::Order::rows, encode_rows(rows));
  const Tensor states = model_.hidden_states(std::ssize(rows));
  pipeline->receive(states);
  queue_.add_rows(level, rows, input);
  queue_.start();
  pipeline->send(states);
}

std::span<const float> Decoder::logits(int level, std::span<const CacheSlot> slots) {
  if (std::ssize(slots) > options_.logits)
    throw DefectError("decoder: {} rows of logits, planned for {}", slots.size(), options_.logits);
  for (const CacheSlot& slot : slots) check_slot("logits", level, slot, options_.cache().slots());
  const auto part = static_cast<std::size_t>(options_.logits_per_pass());
  for (std::size_t first = 0; first < slots.size(); first += part) {
    const std::size_t count = std::min(part, slots.size() - first);
    queue_.add_outputs({.work = Pass::Work::logits, .level = level}, slots.subspan(first, count));
    queue_.start();
    const auto n = static_cast<std::int64_t>(count);
    copy(stream_, model_.logits().rows(0, n), host_logits_.rows(static_cast<std::int64_t>(first), n));
  }
  queue_.synchronize();
  return host_logits_.rows(0, std::ssize(slots)).span<float>();
}

std::int32_t Decoder::choose(int level, std::span<const CacheSlot> slots, std::int64_t vocabulary,
                             std::int64_t candidates) {
  const std::int64_t number = std::ssize(choices_), end = number + std::ssize(slots) * candidates;
  if (end > host_chosen_.elements())
    throw DefectError("decoder: {} tokens are chosen, planned for {}", end, host_chosen_.elements());
  for (const CacheSlot& slot : slots) check_slot("a choice", level, slot, options_.cache().slots());
  const auto part = static_cast<std::size_t>(options_.logits_per_pass());
  for (std::size_t first = 0; first < slots.size(); first += part)
    queue_.add_outputs({.work = Pass::Work::choose,
                        .level = level,
                        .first_choice = number + static_cast<std::int64_t>(first) * candidates,
                        .vocabulary = vocabulary == 0 ? options_.model.vocab_size : vocabulary,
                        .candidates = candidates},
                       slots.subspan(first, std::min(part, slots.size() - first)));
  for (const CacheSlot& slot : slots)
    choices_.insert(choices_.end(), static_cast<std::size_t>(candidates), {level, slot});
  return static_cast<std::int32_t>(number);
}

std::span<const std::int32_t> Decoder::tokens() {
  if (choices_.empty()) return {};
  queue_.start();
  const Tensor host = host_chosen_.rows(0, std::ssize(choices_));
  copy(stream_, model_.chosen().rows(0, host.elements()), host);
  queue_.synchronize();
  const std::span<const std::int32_t> tokens = host.span<std::int32_t>();
  const auto invalid = std::ranges::find_if(tokens, [](std::int32_t token) { return token < 0; });
  if (invalid != tokens.end()) {
    const Choice choice = choices_[static_cast<std::size_t>(invalid - tokens.begin())];
    choices_.clear();
    throw NumericalError("decoder: the logits of level {} after slot {} of sequence {} are not finite",
                         choice.level, choice.slot.slot, choice.slot.sequence);
  }
  choices_.clear();
  return tokens;
}

void Decoder::move_slots(std::span<const SlotMove> moves) {
  if (moves.empty()) return;
  for (const auto& [sequence, from, to] : moves) {
    check_slot("a move", 0, {sequence, from}, options_.cache().slots());
    check_slot("a move", 0, {sequence, to}, options_.positions);
  }
  if (sends_orders()) options_.pipeline->send_order(TrunkPipeline::Order::moves, encode_moves(moves));
  const std::size_t part = queue_.moves_per_pass();
  for (std::size_t begin = 0; begin < moves.size(); begin += part)
    queue_.add_moves(moves.subspan(begin, std::min(part, moves.size() - begin)));
  queue_.start();
}

void Decoder::follow() {
  std::vector<std::int32_t> numbers;
  std::vector<DecoderRow> rows;
  std::vector<SlotMove> moves;
  for (;;) switch (options_.pipeline->receive_order(numbers)) {
      case TrunkPipeline::Order::rows:
        decode_rows(numbers, rows);
        forward_part(0, rows, Input::previous_depth);
        break;
      case TrunkPipeline::Order::moves:
        decode_moves(numbers, moves);
        move_slots(moves);
        break;
      case TrunkPipeline::Order::end:
        return;
    }
}

void Decoder::stop_followers() {
  if (sends_orders()) options_.pipeline->send_order(TrunkPipeline::Order::end, {});
}

}  // namespace foretoken
