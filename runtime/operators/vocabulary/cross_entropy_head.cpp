#include "runtime/operators/vocabulary/cross_entropy_head.h"

#include <algorithm>

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/products/linear.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

void cross_entropy_rows(Stream& stream, const CrossEntropyRows& op) {
  const ProfileScope scope(stream, "cross_entropy_rows");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::cross_entropy_rows(stream, op);
  cpu::cross_entropy_rows(stream, op);
}

}  // namespace

std::int64_t count_targets(const Targets& targets, std::int64_t t) {
  const std::int64_t width = targets.tokens.shape[1];
  std::int64_t count = 0;
  for (std::int64_t b = 0; b < targets.tokens.shape[0]; ++b) {
    const std::int32_t* start = targets.document_start.as<std::int32_t>() + b * width;
    for (std::int64_t i = 0; i < t; ++i) count += start[i] >= 0 && start[i + targets.ahead] == start[i];
  }
  return count;
}

void cross_entropy_head(Stream& stream, const CrossEntropyHead& op) {
  const std::int64_t b = op.x.shape[0], t = op.x.shape[1], c = op.x.shape[2], v = op.weight.shape[0];
  if (op.weight.shape != Shape{v, c} || op.targets.tokens.shape[0] != b ||
      op.targets.tokens.shape[1] < t + op.targets.ahead ||
      op.targets.document_start.shape != op.targets.tokens.shape || op.logits.shape[1] != v ||
      (op.loss_sum.defined() && op.loss_sum.elements() != 1) ||
      (op.argmax.defined() && op.argmax.elements() != b * t) ||
      (op.dx.defined() && op.dx.shape != op.x.shape) ||
      (op.dweight.defined() && op.dweight.shape != op.weight.shape))
    throw DefectError(
        "cross_entropy_head: x {}, weight {}, tokens {} at {} ahead, document_start {}, logits {}",
        to_string(op.x.shape), to_string(op.weight.shape), to_string(op.targets.tokens.shape),
        op.targets.ahead, to_string(op.targets.document_start.shape), to_string(op.logits.shape));
  const Tensor x = op.x.view({b * t, c});
  for (std::int64_t first = 0; first < b * t; first += op.logits.shape[0]) {
    const std::int64_t rows = std::min(op.logits.shape[0], b * t - first);
    const Tensor chunk = x.rows(first, rows);
    const Tensor logits = op.logits.rows(0, rows);
    linear_forward(stream, {.x = chunk, .weight = op.weight, .out = logits});
    cross_entropy_rows(stream, {.head = op, .first = first, .logits = logits});
    if (op.dx.defined())
      linear_backward_input(
          stream, {.dout = logits, .weight = op.weight, .dx = op.dx.view({b * t, c}).rows(first, rows)});
    if (op.dweight.defined())
      linear_backward_weight(
          stream,
          {.dout = logits, .x = chunk, .dweight = op.dweight, .accumulate = op.accumulate || first > 0});
  }
}

}  // namespace foretoken
