#include "model/heads/heads_link.h"

namespace foretoken {

HeadsLink plan_link(Arena& arena, const ActivationPlan& plan, std::int64_t hidden_size, int measured_depths) {
  const Shape hidden{plan.shape.rows, plan.shape.length, hidden_size};
  const Shape tokens{plan.shape.rows, plan.shape.length};
  const std::int64_t n = hidden.elements();
  const auto element = static_cast<std::int64_t>(size_of(plan.dtype));
  const std::int64_t part = (n * element + 255) / 256 * 256;  // bytes, rounded up for alignment
  const std::int64_t bytes_of_tokens = 4 * tokens.elements();
  HeadsLink link;
  link.downstream = arena.tensor(plan.dtype, {(part + 2 * bytes_of_tokens) / element}, MemoryKind::messages);
  link.hidden = link.downstream.flat(0, n).view(hidden);
  const auto tokens_at = [&](std::int64_t bytes) {
    return Tensor{static_cast<std::byte*>(link.downstream.data) + bytes, DType::i32, link.downstream.device,
                  tokens};
  };
  link.tokens.main_argmax = tokens_at(part);
  link.tokens.agrees = tokens_at(part + bytes_of_tokens);
  link.upstream = arena.tensor(plan.dtype, {(1 + measured_depths) * part / element}, MemoryKind::messages);
  link.gradients.sum = link.upstream.flat(0, n).view(hidden);
  for (int i = 1; i <= measured_depths; ++i)
    link.gradients.by_depth.push_back(link.upstream.flat(i * part / element, n).view(hidden));
  return link;
}

}  // namespace foretoken
