#include "model/decoder/cached_model.h"

#include <algorithm>

#include "model/heads/head_kinds.h"
#include "model/layout.h"
#include "model/parameter_names.h"
#include "runtime/operators/vocabulary/argmax.h"

namespace foretoken {

CachedModel::CachedModel(Stream& stream, Arena& arena, const DecoderOptions& options) : stream_(stream) {
  const ModelConfig& model = options.model;
  const TrunkPipeline* pipeline = options.pipeline;
  const ModelLayout layout = pipeline ? pipeline->layout() : one_stage(model);
  const int stage = pipeline ? pipeline->stage() : 0;
  parameters_ =
      std::make_unique<Parameters>(arena, Parameters::Buffers{.weights = options.dtype, .gradients = false},
                                   units_of(model, options.mtp, layout, stage), 128);
  rope_ = make_rope_tables(stream_, arena, model, options.positions, options.dtype);
  if (tensors_of(model, options.mtp, layout, stage).embedding)
    tokens_.table = parameters_->weight(embedding_name);
  const std::int64_t rows = std::max(options.rows, options.logits_per_pass());
  scratch_.block = CachedBlock::plan_scratch(arena, model, options.dtype, rows);
  scratch_.x = arena.tensor(options.dtype, {rows, model.hidden_size});
  const CachePlan cache{.arena = arena, .dtype = options.dtype, .shape = options.cache()};
  std::optional<StateCache> states;
  if (options.is_last_stage()) states = plan_last_stage(arena, cache, options);
  trunk_.emplace(options, *parameters_, cache, std::move(states),
                 drafting_ ? drafting_->last_input() : nullptr);
}

StateCache CachedModel::plan_last_stage(Arena& arena, const CachePlan& cache, const DecoderOptions& options) {
  const ModelConfig& model = options.model;
  const std::int64_t outputs = options.logits_per_pass();
  output_matrix_ = parameters_->weight(output_matrix_name(model));
  scratch_.gathered = arena.tensor(options.dtype, {outputs, model.hidden_size});
  logits_ = arena.tensor(DType::f32, {outputs, model.vocab_size});
  // A round chooses drafts, and the tokens after each.
  tokens_.chosen = arena.tensor(DType::i32, {2 * options.logits});
  if (options.mtp.depths > 0)
    drafting_ = head_kind(options.mtp.kind)
                    .make_drafting({.stream = stream_,
                                    .model = model,
                                    .mtp = options.mtp,
                                    .parameters = *parameters_,
                                    .cache = cache,
                                    .rows = options.rows,
                                    .outputs = outputs,
                                    .tokens = tokens_,
                                    .output_matrix = output_matrix_,
                                    .scratch = scratch_});
  return {SlotCache(cache, model.hidden_size), parameters_->weight(final_norm_name), model.rms_norm_eps,
          drafting_ ? drafting_->trunk_states() : StateCache::Kept::normed};
}

void CachedModel::run(const Pass& pass, const Tensor& indices) {
  switch (pass.work) {
    case Pass::Work::rows:
      return run_rows(pass, row_indices(pass, indices));
    case Pass::Work::logits:
      run_output(pass.level, indices);
      return;
    case Pass::Work::choose: {
      const Shape each{pass.count, pass.candidates};
      return argmax(stream_, {.x = run_output(pass.level, indices),
                              .count = pass.vocabulary,
                              .out = chosen().flat(pass.first_choice, each.elements()).view(each)});
    }
    case Pass::Work::moves: {
      const auto [from, to] = move_indices(pass, indices);
      return trunk_->move(stream_, from, to);
    }
  }
}

void CachedModel::run_rows(const Pass& pass, const RowIndices& indices) {
  const CachedRows rows{.stream = stream_,
                        .positions = indices.positions,
                        .slots = indices.slots,
                        .paths = indices.paths,
                        .rope_cos = rope_.cos,
                        .rope_sin = rope_.sin};
  if (pass.level == 0) return trunk_->forward(rows, indices.tokens, tokens_, scratch_);
  drafting_->forward(
      pass.level,
      {.rows = rows, .tokens = indices.tokens, .input_slots = indices.input_slots, .input = pass.input},
      trunk_->states());
}

Tensor CachedModel::run_output(int level, const Tensor& slots) {
  const StateCache& states = trunk_->states();
  const auto [hidden, matrix] =
      level == 0 ? HeadDrafting::Output{states.load_normed(stream_, slots, scratch_), output_matrix_}
                 : drafting_->output(level, slots, states);
  const Tensor logits = logits_.rows(0, slots.elements());
  linear_forward(stream_, {.x = hidden, .weight = matrix, .out = logits});
  return logits;
}

}  // namespace foretoken
