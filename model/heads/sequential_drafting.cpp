#include "model/heads/sequential_drafting.h"

#include "model/parameter_names.h"
#include "runtime/operators/products/linear.h"

namespace foretoken {

SequentialDrafting::SequentialDrafting(const DraftingPlan& plan)
    : stream_(plan.stream),
      mtp_(plan.mtp),
      tokens_(plan.tokens),
      output_matrix_(plan.output_matrix),
      scratch_(plan.scratch) {
  const auto depths = static_cast<int>(mtp_.depths);
  for (int depth = 1; depth <= depths; ++depth) {
    const std::string prefix = mtp_prefix(plan.model, mtp_, depth);
    modules_.push_back(
        {.join = {plan.model, mtp_, plan.parameters, prefix},
         .eh_proj = plan.parameters.weight(prefix + ".eh_proj.weight"),
         .depth = make_cached_depth(plan, depth, prefix + ".shared_head.norm.weight", kept_by(depth))});
  }
  const std::int64_t c = plan.model.hidden_size;
  embedded_ = plan.cache.arena.tensor(plan.cache.dtype, {plan.rows, c});
  joined_ = plan.cache.arena.tensor(plan.cache.dtype, {plan.rows, 2 * c});
}

/// States are kept normed or raw, whichever the next depth reads.
StateCache::Kept SequentialDrafting::kept_by(int depth) const {
  return reads_normed(mtp_, depth + 1) ? StateCache::Kept::normed : StateCache::Kept::raw;
}

void SequentialDrafting::forward(int depth, const DepthRows& rows, const StateCache& trunk) const {
  const std::int64_t n = rows.rows.count();
  const Tensor embedded = embedded_.rows(0, n), joined = joined_.rows(0, n), x = scratch_.x.rows(0, n),
               rstd = scratch_.block.rstd.rows(0, n);
  const int from = rows.input == DepthRows::Input::own_output ? depth : depth - 1;
  const StateCache& input = from == 0 ? trunk : module(from).depth.states;
  const auto& [join, eh_proj, cached] = module(depth);
  tokens_.embed(stream_, rows.tokens, embedded);
  join.norm_embedded(stream_, {.x = embedded, .joined = joined, .rstd = rstd});
  input.states().load(stream_, rows.input_slots, x);
  join.norm_hidden(stream_, {.x = x, .joined = joined, .rstd = rstd});
  linear_forward(stream_, {.x = joined, .weight = eh_proj, .out = x});
  cached.forward(rows.rows, x, scratch_);
}

HeadDrafting::Output SequentialDrafting::output(int depth, const Tensor& slots, const StateCache&) const {
  return {module(depth).depth.states.load_normed(stream_, slots, scratch_), output_matrix_};
}

}  // namespace foretoken
