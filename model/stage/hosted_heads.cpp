#include "model/stage/hosted_heads.h"

#include "model/heads/head_kinds.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

namespace {

/// Copies each depth's gradient to the message for the previous stage, which also holds their sum.
class UpstreamProbe : public TrunkProbe {
 public:
  /// `first`: the stage's first depth.
  UpstreamProbe(const HeadsLink& link, int first) : link_(link), first_(first) {}
  void add(const StagePass& pass, int depth, const Tensor& gradient) const override {
    const Tensor& out = link_.gradients.by_depth[static_cast<std::size_t>(depth - first_)];
    copy(pass.stream(), gradient.view(out.shape), out);
  }

 private:
  const HeadsLink& link_;
  int first_;
};

}  // namespace

HostedHeads::HostedHeads(const HeadsPlan& plan)
    : plan_(plan.activations), heads_(head_kind(plan.mtp.kind).make(plan)) {}

void HostedHeads::add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const Links& links) {
  if (links.previous) {
    const TrunkTensor reads = heads_->reads();
    const Tensor &hidden = links.previous->hidden, &gradient = links.previous->gradients.sum;
    const Shape shape =
        reads == TrunkTensor::normed ? hidden.shape : Shape{plan_.shape.tokens(), hidden.shape[2]};
    trunk[reads] = hidden.view(shape);
    dtrunk[reads] = gradient.view(shape);
  }
  links_.push_back(links);
  heads_->add_slot(trunk, dtrunk);
}

void HostedHeads::forward(const StagePass& pass) const {
  heads_->forward(pass);
  if (const auto& next = links(pass.slot).next)
    copy(pass.stream(), heads_->next_depth_input(pass.slot).view(next->hidden.shape), next->hidden);
}

void HostedHeads::backward(const BackwardPass& op, const DepthLoss& loss, const TrunkProbe* probe) const {
  const StagePass& pass = op.pass;
  const auto& [previous, next] = links(pass.slot);
  const bool sends = op.halves.input && previous;
  std::optional<UpstreamProbe> upstream;
  if (previous && pass.request.trunk_gradients) upstream.emplace(*previous, heads_->first());
  // Heads add to this gradient, so it starts at zero.
  if (sends) set_zero(pass.stream(), previous->gradients.sum);
  heads_->backward({.pass = pass,
                    .halves = op.halves,
                    .loss = loss,
                    .probe = upstream ? &*upstream : probe,
                    .deeper = next ? &next->gradients : nullptr});
  if (!sends || pass.input.depths.deepest(heads_->depths()) < heads_->first()) return;
  if (const std::optional<Tensor> gradient = heads_->last_input_gradient())
    copy(pass.stream(), gradient->view(previous->gradients.sum.shape), previous->gradients.sum);
}

void HostedHeads::send_tokens(const StagePass& pass, const AcceptanceTokens& tokens) const {
  const auto& [previous, next] = links(pass.slot);
  if (!next) return;
  copy(pass.stream(), tokens.main_argmax, next->tokens.main_argmax);
  if (previous) copy(pass.stream(), tokens.agrees, next->tokens.agrees);  // depth 1 initializes it
}

}  // namespace foretoken
