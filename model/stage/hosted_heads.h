#pragma once
// The prediction heads of one stage and the links to its neighbours (model/heads/heads_link.h). If each depth
// has a stage of its own, the main head's stage hosts heads of no depth, which only join the gradients that
// arrive from the next stage with the trunk's.

#include <memory>
#include <optional>
#include <vector>

#include "model/heads/prediction_heads.h"

namespace foretoken {

class HostedHeads {
 public:
  /// Needs at least one depth in the model.
  explicit HostedHeads(const HeadsPlan& plan);

  /// Links of a microbatch in flight to the neighbouring stages.
  struct Links {
    std::optional<HeadsLink> previous;  // on stages after the main head's
    std::optional<HeadsLink> next;      // if deeper depths follow
  };
  /// Plans the buffers of one more microbatch in flight. The tensors that heads read come from the trunk or,
  /// on stages after the main head's, from the link, and the arguments are unused.
  void add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const Links& links);

  const PredictionHeads& heads() const { return *heads_; }
  const Links& links(int slot) const { return links_[static_cast<std::size_t>(slot)]; }

  void forward(const StagePass& pass) const;
  /// `probe`: the main head's stage's, null elsewhere; there each depth's gradient is sent upstream.
  void backward(const BackwardPass& op, const DepthLoss& loss, const TrunkProbe* probe) const;
  /// Sends what the next stage compares its drafts with; `tokens` are this stage's.
  void send_tokens(const StagePass& pass, const AcceptanceTokens& tokens) const;

 private:
  ActivationPlan plan_;
  std::unique_ptr<PredictionHeads> heads_;
  std::vector<Links> links_;  // by slot
};

}  // namespace foretoken
