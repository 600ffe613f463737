#pragma once
// The prediction heads of one stage and the links to its neighbours (model/heads/heads_link.h). If each depth
// has a stage of its own, the heads on the main head's stage have no depths; they only add the gradients from
// the next stage to the trunk's.

#include <memory>
#include <optional>
#include <vector>

#include "model/heads/prediction_heads.h"

namespace foretoken {

class HostedHeads {
 public:
  /// Needs at least one depth in the model.
  explicit HostedHeads(const HeadsPlan& plan);

  /// The links to the neighbouring stages, for one microbatch in flight.
  struct Links {
    std::optional<HeadsLink> previous;  // on stages after the main head's
    std::optional<HeadsLink> next;      // if later stages have depths
  };
  /// Plans the buffers of one more microbatch in flight. On stages after the main head's, `trunk` and
  /// `dtrunk` are undefined: the heads read the link's tensors.
  void add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const Links& links);

  const PredictionHeads& heads() const { return *heads_; }
  const Links& links(int slot) const { return links_[static_cast<std::size_t>(slot)]; }

  void forward(const StagePass& pass) const;
  /// `probe` measures gradients on the main head's stage. It is null on later stages, which send each depth's
  /// gradient upstream instead.
  void backward(const BackwardPass& op, const DepthLoss& loss, const TrunkProbe* probe) const;
  /// Copies this stage's `tokens` to the message for the next stage, which compares its drafts with them.
  void send_tokens(const StagePass& pass, const AcceptanceTokens& tokens) const;

 private:
  ActivationPlan plan_;
  std::unique_ptr<PredictionHeads> heads_;
  std::vector<Links> links_;  // by slot
};

}  // namespace foretoken
