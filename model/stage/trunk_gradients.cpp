#include "model/stage/trunk_gradients.h"

#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

TrunkGradients::TrunkGradients(const HeadsPlan& plan, TrunkTensor reads) {
  const ActivationPlan& activations = plan.activations;
  const auto gradient = [&] {
    return plan.arena.tensor(activations.dtype, {activations.shape.tokens(), plan.model.hidden_size});
  };
  if (reads != TrunkTensor::last_input)
    main_gradient_ = gradient();
  else
    for (int depth = 1; depth <= plan.mtp.depths; ++depth) depth_gradients_.push_back(gradient());
}

void TrunkGradients::add_main(const StagePass& pass) const {
  sum_of_squares(pass.stream(), {*main_gradient_, pass.sums.squares.flat(0, 1)});
}

void TrunkGradients::add(const StagePass& pass, int depth, const Tensor& gradient) const {
  sum_of_squares(pass.stream(), {gradient, pass.sums.squares.flat(depth, 1)});
  if (main_gradient_) {
    inner_product(pass.stream(), {gradient, *main_gradient_, pass.sums.products.flat(depth - 1, 1)});
  } else {
    const Tensor& kept = depth_gradients_[static_cast<std::size_t>(depth) - 1];
    copy(pass.stream(), gradient.view(kept.shape), kept);
  }
}

void TrunkGradients::add_main_last(const StagePass& pass, const Tensor& gradient) const {
  sum_of_squares(pass.stream(), {gradient, pass.sums.squares.flat(0, 1)});
  for (std::size_t k = 0; k < depth_gradients_.size(); ++k)
    inner_product(pass.stream(),
                  {depth_gradients_[k], gradient, pass.sums.products.flat(static_cast<std::int64_t>(k), 1)});
}

}  // namespace foretoken
