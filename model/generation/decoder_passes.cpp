// How a decoder records passes and runs them.

#include "model/generation/decoder.h"
#include "runtime/error.h"
#include "runtime/operators/attention/cached_attention.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/vocabulary/argmax.h"
#include "runtime/operators/vocabulary/embedding.h"

namespace foretoken {

std::span<std::int32_t> Decoder::note(Pass pass, std::int64_t numbers) {
  if (numbers > index_.elements())
    throw DefectError("decoder: {} rows, places or moves are noted by {} numbers, planned for {}", pass.count,
                      numbers, index_.elements());
  if (noted_ + numbers > index_.elements()) start();
  pass.at = noted_;
  passes_.push_back(pass);
  noted_ += numbers;
  return host_index_.flat(host_begin_ + pass.at, numbers).span<std::int32_t>();
}

void Decoder::note_rows(int level, std::span<const Row> rows, Input input) {
  std::size_t reach = 0;
  for (const Row& row : rows) reach = std::max(reach, row.branch.size());
  const Pass pass{.level = level,
                  .count = level == 0 ? std::ssize(rows) : rounded(std::ssize(rows)),
                  .input = input,
                  .reach = static_cast<std::int64_t>(reach)};
  const std::span<std::int32_t> index = note(pass, pass.count * (4 + pass.reach));
  const auto n = static_cast<std::size_t>(pass.count);
  for (std::size_t i = 0; i < n; ++i) {
    const Row& row = rows[std::min(i, rows.size() - 1)];
    const auto [sequence, position] = row.place;
    const std::int32_t of_text = position - (input == Input::own_output ? 1 : 0);
    index[i] = row.token;
    index[n + i] = position;
    index[2 * n + i] = cell(sequence, row.branch.empty() ? position : row.branch.front());
    index[3 * n + i] = cell(sequence, row.from == -1 ? of_text : row.from);
    const std::span<std::int32_t> path = index.subspan(4 * n + i * reach, reach);
    for (std::size_t back = 0; back < reach; ++back)
      path[back] = back < row.branch.size() ? row.branch[back]
                                            : std::max(position - static_cast<std::int32_t>(back), 0);
  }
}

std::int64_t Decoder::rounded(std::int64_t count) const {
  constexpr std::int64_t step = 8;
  if (stream_.device() == DeviceKind::cpu || count <= step || count > most_few_rows) return count;
  return std::max(count, std::min((count + step - 1) / step * step, options_.rows));
}

std::int64_t Decoder::note_places(Pass pass, std::span<const Place> places, std::int64_t first) {
  pass.count = std::min(logits_together(), std::ssize(places) - first);
  const auto part = places.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(pass.count));
  for (const Place& place : part) check("logits", pass.level, place, cells());
  const std::span<std::int32_t> index = note(pass, pass.count);
  for (std::size_t i = 0; i < part.size(); ++i) index[i] = cell(part[i].sequence, part[i].position);
  return pass.count;
}

void Decoder::note_moves(std::span<const Move> moves) {
  const std::int64_t count = rounded(std::ssize(moves));
  const std::span<std::int32_t> index = note({.work = Work::settle, .count = count}, 2 * count);
  for (std::size_t i = 0; i < index.size() / 2; ++i) {
    const auto [sequence, from, to] = moves[std::min(i, moves.size() - 1)];
    index[i] = cell(sequence, from);
    index[index.size() / 2 + i] = cell(sequence, to);
  }
}

void Decoder::start() {
  if (passes_.empty()) return;
  copy(stream_, host_index_.flat(host_begin_, noted_), index_.flat(0, noted_));
  host_begin_ += noted_;
  noted_ = 0;
  running_.swap(passes_);
  passes_.clear();
  key_.clear();
  bool few = true;
  for (const Pass& pass : running_) {
    key_.insert(key_.end(), {static_cast<std::int64_t>(pass.work), pass.level, pass.count,
                             static_cast<std::int64_t>(pass.input), pass.reach, pass.number, pass.vocabulary,
                             pass.candidates});
    few = few && pass.count <= most_few_rows;
  }
  const auto run_all = [this] {
    for (const Pass& pass : running_) run(pass);
  };
  if (few)
    replays_.run(key_, run_all);
  else
    run_all();  // on a GPU the kernels of many rows take longer than launching them
  if (host_begin_ + index_.elements() > host_index_.elements()) synchronize();
}

void Decoder::run(const Pass& pass) {
  switch (pass.work) {
    case Work::forward: {
      const Shape paths{pass.count, pass.reach};
      const CachedRows rows{.stream = stream_,
                            .positions = numbers(pass, 1),
                            .cells = numbers(pass, 2),
                            .paths = pass.reach > 0
                                         ? index_.flat(pass.at + 4 * pass.count, paths.elements()).view(paths)
                                         : Tensor{},
                            .rope_cos = rope_.cos,
                            .rope_sin = rope_.sin};
      return pass.level == 0 ? run_trunk(rows, pass) : run_head(rows, pass);
    }
    case Work::logits:
      run_output(pass);
      return;
    case Work::choose: {
      const Shape each{pass.count, pass.candidates};
      return argmax(stream_, {.x = run_output(pass),
                              .count = pass.vocabulary,
                              .out = chosen_.flat(pass.number, each.elements()).view(each)});
    }
    case Work::settle:
      return run_moves(pass);
  }
}

void Decoder::run_trunk(const CachedRows& rows, const Pass& pass) {
  const Tensor x = x_.rows(0, pass.count);
  if (is_first()) embed(numbers(pass, 0), x);
  for (const CachedBlock& block : blocks_) {
    if (last_input_.defined() && &block == &blocks_.back())
      cache_store(stream_, {.x = {x}, .cells = rows.cells, .cache = last_input_});
    block.forward(rows, x, scratch_);
  }
  if (is_last()) keep(rows, 0, x);
}

void Decoder::run_head(const CachedRows& rows, const Pass& pass) {
  const Tensor x = x_.rows(0, pass.count);
  const Head& head = this->head(pass.level);
  if (is_chained())
    take_in(head, states(pass.input == Input::own_output ? pass.level : pass.level - 1), pass, x);
  else
    look_up(last_input_, rows.cells, x);
  head.block.forward(rows, x, scratch_);
  keep(rows, pass.level, x);
}

/// x = eh_proj · [ RMSNorm(Emb(token)) ; RMSNorm(state) ], as in model/heads/mtp_module.h
void Decoder::take_in(const Head& head, const Tensor& states, const Pass& pass, const Tensor& x) {
  const std::int64_t n = pass.count, c = options_.model.hidden_size;
  const Tensor embedded = embedded_.rows(0, n), joined = joined_.rows(0, n);
  const std::int64_t embedded_column = options_.mtp.concat == MtpConfig::Concat::embedding_first ? 0 : c;
  embed(numbers(pass, 0), embedded);
  norm(embedded, head.module->enorm, {joined, embedded_column});
  look_up(states, numbers(pass, 3), x);
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

Tensor Decoder::run_output(const Pass& pass) {
  const bool small = pass.level > 0 && small_heads_;
  Tensor hidden = (small ? small_input_.view(gathered_.shape) : gathered_).rows(0, pass.count);
  look_up(states(small ? 0 : pass.level), numbers(pass, 0), hidden);
  Tensor matrix = output_;
  if (small) {
    hidden = small_heads_->hidden(small_context_, 0, pass.level).view(gathered_.shape).rows(0, pass.count);
    matrix = small_heads_->output(pass.level).weight;
  } else if (!keeps_normed(pass.level)) {
    const Tensor normed = scratch_.normed.rows(0, pass.count);
    norm(hidden, norm_of(pass.level), {normed});
    hidden = normed;
  }
  const Tensor logits = logits_.rows(0, pass.count);
  linear_forward(stream_, {.x = hidden, .weight = matrix, .out = logits});
  return logits;
}

void Decoder::run_moves(const Pass& pass) {
  const auto move = [&](const Tensor& cache) {
    cache_move(stream_, {.from = numbers(pass, 0), .to = numbers(pass, 1), .cache = cache});
  };
  for (const CachedBlock& block : blocks_)
    if (block.cache().defined()) move(block.cache());
  if (is_last()) move(states(0));
  if (last_input_.defined()) move(last_input_);
}

void Decoder::embed(const Tensor& tokens, const Tensor& out) {
  const std::int64_t n = tokens.elements(), c = options_.model.hidden_size;
  embedding_forward(
      stream_,
      {.tokens = tokens.view({1, n}), .table = table_, .chosen = chosen_, .out = out.view({1, n, c})});
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

}  // namespace foretoken
