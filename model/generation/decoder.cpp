#include "model/generation/decoder.h"

#include <algorithm>

#include "model/layout.h"
#include "runtime/error.h"
#include "runtime/operators/argmax.h"
#include "runtime/operators/cached_attention.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/elementwise.h"
#include "runtime/operators/embedding.h"
#include "runtime/operators/linear.h"
#include "runtime/operators/rms_norm.h"

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
  index_ = arena_.tensor(DType::i32, {4, r});
  if (options_.branches > 0) paths_ = arena_.tensor(DType::i32, {r, options_.branches});
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
  likeliest_ = arena_.tensor(DType::i32, {options_.logits});
  host_logits_ = host_arena_.tensor(logits_.dtype, {options_.logits, v});
  host_likeliest_ = host_arena_.tensor(likeliest_.dtype, likeliest_.shape);
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
  if (row.token < 0 || row.token >= options_.model.vocab_size)
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
  if (level > 0 && small_heads_) return;  // they keep nothing
  const auto part = static_cast<std::size_t>(of_rows);
  for (std::size_t begin = 0; begin < rows.size(); begin += part)
    forward_part(level, rows.subspan(begin, std::min(part, rows.size() - begin)), input);
}

void Decoder::forward_part(int level, std::span<const Row> rows, Input input) {
  const std::size_t n = rows.size();
  if (level == 0) tell(rows);
  host_index_.resize(4 * n);
  for (std::size_t i = 0; i < n; ++i) {
    const Row& row = rows[i];
    const auto [sequence, position] = row.place;
    const std::int32_t of_text = position - (input == Input::own_output ? 1 : 0);
    host_index_[i] = row.token;
    host_index_[n + i] = position;
    host_index_[2 * n + i] = cell(sequence, row.branch.empty() ? position : row.branch.front());
    host_index_[3 * n + i] = cell(sequence, row.from == -1 ? of_text : row.from);
  }
  const auto count = static_cast<std::int64_t>(n);
  copy(stream_, tensor_over(std::span(host_index_), {4 * count}), index_.flat(0, 4 * count));
  const CachedRows cached{.stream = stream_,
                          .positions = index_.flat(count, count),
                          .cells = index_.flat(2 * count, count),
                          .paths = put_paths(rows),
                          .rope_cos = rope_.cos,
                          .rope_sin = rope_.sin};
  const std::int64_t reach = cached.paths.defined() ? cached.paths.shape[1] : 0;
  TrunkPipeline* pipeline = level == 0 ? options_.pipeline : nullptr;
  if (pipeline) pipeline->receive(x_.rows(0, count));
  enqueue(Work::forward, level, count, 2 * reach + static_cast<std::int64_t>(input), [&] {
    if (level == 0)
      run_trunk(cached);
    else
      run_head(cached, level, input);
  });
  if (pipeline) pipeline->send(x_.rows(0, count));
}

void Decoder::enqueue(Work work, int level, std::int64_t rows, std::int64_t variant,
                      const std::function<void()>& operators) {
  if (rows > most_few_rows) return operators();  // a GPU takes longer for the kernels than their launch
  replays_.run({static_cast<std::int64_t>(work), level, rows, variant}, operators);
}

Tensor Decoder::put_paths(std::span<const Row> rows) {
  std::size_t reach = 0;
  for (const Row& row : rows) reach = std::max(reach, row.branch.size());
  if (reach == 0) return {};
  host_paths_.clear();
  for (const Row& row : rows) {
    host_paths_.insert(host_paths_.end(), row.branch.begin(), row.branch.end());
    for (std::size_t back = row.branch.size(); back < reach; ++back)
      host_paths_.push_back(std::max(row.place.position - static_cast<std::int32_t>(back), 0));
  }
  const Shape shape{static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(reach)};
  const Tensor paths = paths_.flat(0, shape[0] * shape[1]).view(shape);
  copy(stream_, tensor_over(std::span(host_paths_), shape), paths);
  return paths;
}

void Decoder::settle(std::span<const Move> moves) {
  if (moves.empty()) return;
  tell(moves);
  const auto m = static_cast<std::int64_t>(moves.size());
  if (2 * m > index_.elements())
    throw DefectError("decoder: {} moves, planned for {}", m, index_.elements() / 2);
  host_index_.resize(2 * moves.size());
  for (std::size_t i = 0; i < moves.size(); ++i) {
    const auto [sequence, from, to] = moves[i];
    check("a move", 0, {sequence, from}, cells());
    check("a move", 0, {sequence, to}, options_.positions);
    host_index_[i] = cell(sequence, from);
    host_index_[moves.size() + i] = cell(sequence, to);
  }
  copy(stream_, tensor_over(std::span(host_index_), {2 * m}), index_.flat(0, 2 * m));
  const auto move = [&](const Tensor& cache) {
    cache_move(stream_, {.from = index_.flat(0, m), .to = index_.flat(m, m), .cache = cache});
  };
  for (const CachedBlock& block : blocks_)
    if (block.cache().defined()) move(block.cache());
  if (is_last()) move(states(0));
  if (last_input_.defined()) move(last_input_);
}

void Decoder::run_trunk(const CachedRows& rows) {
  const Tensor x = x_.rows(0, rows.count());
  if (is_first()) look_up(table_, index_.flat(0, rows.count()), x);
  for (const CachedBlock& block : blocks_) {
    if (last_input_.defined() && &block == &blocks_.back())
      cache_store(stream_, {.x = {x}, .cells = rows.cells, .cache = last_input_});
    block.forward(rows, x, scratch_);
  }
  if (is_last()) keep(rows, 0, x);
}

void Decoder::run_head(const CachedRows& rows, int level, Input input) {
  const Tensor x = x_.rows(0, rows.count());
  if (is_chained())
    take_in(rows, head(level), states(input == Input::own_output ? level : level - 1), x);
  else
    look_up(last_input_, rows.cells, x);
  head(level).block.forward(rows, x, scratch_);
  keep(rows, level, x);
}

/// x = eh_proj · [ RMSNorm(Emb(token)) ; RMSNorm(state) ], as in model/heads/mtp_module.h
void Decoder::take_in(const CachedRows& rows, const Head& head, const Tensor& states, const Tensor& x) {
  const std::int64_t n = rows.count(), c = options_.model.hidden_size;
  const Tensor embedded = embedded_.rows(0, n), joined = joined_.rows(0, n);
  const std::int64_t embedded_column = options_.mtp.concat == MtpConfig::Concat::embedding_first ? 0 : c;
  look_up(table_, index_.flat(0, n), embedded);
  norm(embedded, head.module->enorm, {joined, embedded_column});
  look_up(states, index_.flat(3 * n, n), x);
  norm(x, head.module->hnorm, {joined, c - embedded_column});
  linear_forward(stream_, {.x = joined, .weight = head.module->eh_proj, .out = x});
}

void Decoder::keep(const CachedRows& rows, int level, const Tensor& x) {
  Tensor kept = x;
  if (keeps_normed(level)) {
    kept = scratch_.normed.rows(0, rows.count());
    norm(x, norm_of(level), {kept});
  }
  cache_store(stream_, {.x = {kept}, .cells = rows.cells, .cache = states(level)});
}

void Decoder::look_up(const Tensor& table, const Tensor& index, const Tensor& out) {
  const std::int64_t n = index.elements(), c = options_.model.hidden_size;
  embedding_forward(stream_, {.tokens = index.view({1, n}),
                              .table = table.view({table.elements() / c, c}),
                              .out = out.view({1, n, c})});
}

void Decoder::norm(const Tensor& x, const Tensor& weight, const Columns& out) {
  rms_norm_forward(stream_, {.x = x,
                             .weight = weight,
                             .eps = options_.model.rms_norm_eps,
                             .out = out,
                             .rstd = scratch_.rstd.rows(0, x.shape[0])});
}

void Decoder::in_parts(int level, std::span<const Place> places,
                       const std::function<void(std::int64_t first, std::int64_t count)>& part) {
  if (std::ssize(places) > options_.logits)
    throw DefectError("decoder: {} rows of logits, planned for {}", places.size(), options_.logits);
  const auto together = static_cast<std::size_t>(logits_together());
  for (std::size_t first = 0; first < places.size(); first += together) {
    host_index_.clear();
    for (const Place& place : places.subspan(first, std::min(together, places.size() - first))) {
      check("logits", level, place, cells());
      host_index_.push_back(cell(place.sequence, place.position));
    }
    copy(stream_, tensor_over(std::span(host_index_), {std::ssize(host_index_)}),
         index_.flat(0, std::ssize(host_index_)));
    part(static_cast<std::int64_t>(first), std::ssize(host_index_));
  }
}

Tensor Decoder::run_output(int level, std::int64_t m) {
  const bool small = level > 0 && small_heads_;
  Tensor hidden = (small ? small_input_.view(gathered_.shape) : gathered_).rows(0, m);
  look_up(states(small ? 0 : level), index_.flat(0, m), hidden);
  Tensor matrix = output_;
  if (small) {
    hidden = small_heads_->hidden(small_context_, 0, level).view(gathered_.shape).rows(0, m);
    matrix = small_heads_->output(level).weight;
  } else if (!keeps_normed(level)) {
    const Tensor normed = scratch_.normed.rows(0, m);
    norm(hidden, norm_of(level), {normed});
    hidden = normed;
  }
  linear_forward(stream_, {.x = hidden, .weight = matrix, .out = logits_.rows(0, m)});
  return logits_.rows(0, m);
}

void Decoder::synchronize() {
  if (options_.pipeline)
    options_.pipeline->synchronize();
  else
    stream_.synchronize();
}

std::span<const float> Decoder::logits(int level, std::span<const Place> places) {
  in_parts(level, places, [&](std::int64_t first, std::int64_t m) {
    enqueue(Work::logits, level, m, first,
            [&] { copy(stream_, run_output(level, m), host_logits_.rows(first, m)); });
  });
  synchronize();
  return host_logits_.rows(0, std::ssize(places)).span<float>();
}

std::span<const std::int32_t> Decoder::argmax(int level, std::span<const Place> places,
                                              std::int64_t vocabulary) {
  const std::int64_t count = vocabulary == 0 ? options_.model.vocab_size : vocabulary;
  const Tensor likeliest = likeliest_.rows(0, std::ssize(places)),
               host = host_likeliest_.rows(0, std::ssize(places));
  in_parts(level, places, [&](std::int64_t first, std::int64_t m) {
    enqueue(Work::argmax, level, m, first + count * options_.logits, [&] {
      foretoken::argmax(stream_,
                        {.x = run_output(level, m), .count = count, .out = likeliest.rows(first, m)});
    });
  });
  copy(stream_, likeliest, host);
  synchronize();
  const std::span<const std::int32_t> tokens = host.span<std::int32_t>();
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0)
      throw NumericalError("decoder: the logits of level {} after position {} of sequence {} are not finite",
                           level, places[i].position, places[i].sequence);
  return tokens;
}

}  // namespace foretoken
