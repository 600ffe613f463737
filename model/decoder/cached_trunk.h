#pragma once
// This rank's part of the trunk, which computes new rows, with the caches of its blocks and, on the last
// stage, the cache of the trunk's states.

#include <optional>
#include <vector>

#include "model/cache/state_cache.h"
#include "model/cache/token_table.h"
#include "model/decoder/decoder_options.h"

namespace foretoken {

class CachedTrunk {
 public:
  /// `states` is empty on stages before the last. `last_input`, if not null, receives the input of the last
  /// block; it must outlive the trunk.
  CachedTrunk(const DecoderOptions& options, const Parameters& parameters, const CachePlan& cache,
              std::optional<StateCache> states, const SlotCache* last_input);

  /// Computes new rows in scratch.x. The first stage embeds their tokens [N]; on later stages scratch.x holds
  /// the states from the previous stage.
  void forward(const CachedRows& rows, const Tensor& tokens, const TokenTable& table,
               const PassScratch& scratch) const;
  /// Moves the rows of all caches from slot to slot (SlotCache::move()).
  void move(Stream& stream, const Tensor& from, const Tensor& to) const;
  /// The trunk's states; last stage only.
  const StateCache& states() const { return *states_; }

 private:
  bool is_first_;
  std::vector<CachedBlock> blocks_;
  std::optional<StateCache> states_;
  const SlotCache* last_input_;
};

}  // namespace foretoken
