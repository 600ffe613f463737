#include "model/decoder/cached_trunk.h"

#include "model/layout.h"
#include "model/parameter_names.h"

namespace foretoken {

CachedTrunk::CachedTrunk(const DecoderOptions& options, const Parameters& parameters, const CachePlan& cache,
                         std::optional<StateCache> states, const SlotCache* last_input)
    : is_first_(options.is_first_stage()), states_(std::move(states)), last_input_(last_input) {
  const TrunkPipeline* pipeline = options.pipeline;
  const ModelLayout layout = pipeline ? pipeline->layout() : one_stage(options.model);
  for (const auto& [layer, part] : layout.blocks_of(pipeline ? pipeline->stage() : 0))
    blocks_.emplace_back(options.model, parameters, block_prefix(layer), cache, part);
}

void CachedTrunk::forward(const CachedRows& rows, const Tensor& tokens, const TokenTable& table,
                          const PassScratch& scratch) const {
  const Tensor x = scratch.x.rows(0, rows.count());
  if (is_first_) table.embed(rows.stream, tokens, x);
  for (const CachedBlock& block : blocks_) {
    if (last_input_ && &block == &blocks_.back()) last_input_->store(rows.stream, x, rows.slots);
    block.forward(rows, x, scratch.block);
  }
  if (states_) states_->store(rows, x, scratch);
}

void CachedTrunk::move(Stream& stream, const Tensor& from, const Tensor& to) const {
  for (const CachedBlock& block : blocks_)
    if (block.cache()) block.cache()->move(stream, from, to);
  if (states_) states_->states().move(stream, from, to);
  if (last_input_) last_input_->move(stream, from, to);
}

}  // namespace foretoken
