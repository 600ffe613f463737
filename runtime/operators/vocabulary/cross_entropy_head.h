#pragma once
// The output head fused with its cross-entropy. Rows are processed in chunks, so the logits of all rows are
// never in memory at once; a chunk's gradient is computed while its logits are in the scratch buffer.
//
//   logits = x · Wᵀ                      row n = (b, t) has the target tokens[b, t + ahead]
//   loss_sum = Σ over valid rows of ( log Σᵥ exp(logitsᵥ) − logits_target )
//   dlogits = gradient_scale · ( softmax(logits) − onehot(target) ), 0 in rows without a valid target
//   dx = dlogits · W   (overwritten)     dW += dlogitsᵀ · x   (accumulated, or overwritten)
//
// A target is valid if its token is in the same document as the row's token: document_start[b, t + ahead] =
// document_start[b, t] ≥ 0. A tensor marked "=" is overwritten, one marked "+=" is added to; the others are
// read.

#include "runtime/stream.h"

namespace foretoken {

struct Targets {
  Tensor tokens;           // [B, S] i32
  Tensor document_start;   // [B, S] i32
  std::int64_t ahead = 1;  // k + 1 at MTP depth k
};

/// Counts the valid targets of the first T positions of all rows. The tensors must be on the host.
std::int64_t count_targets(const Targets& targets, std::int64_t t);

struct CrossEntropyHead {
  Tensor x;       // [B, T, C]
  Tensor weight;  // [V, C]
  Targets targets;
  double gradient_scale = 0;  // weight of this loss / number of valid targets in the whole global batch
  Tensor logits;              // [chunk, V] scratch; its first dim is the chunk's size
  Tensor loss_sum;            // [1] f64 +=, optional
  Tensor argmax;              // [B, T] i32 =, optional: the most likely token of each row, ties to the lowest
  Tensor dx;                  // [B, T, C] =, optional
  Tensor dweight;             // [V, C] += if accumulate, else =; optional
  bool accumulate = true;

  /// False if only the loss is computed.
  bool takes_gradient() const { return dx.defined() || dweight.defined(); }
};
void cross_entropy_head(Stream& stream, const CrossEntropyHead& op);

/// One chunk: rows [first, first + rows) of the B·T rows, whose logits are computed. Adds to the loss, writes
/// argmax, and replaces the logits by their gradient if a gradient is requested. The matrix products before
/// and after it are the same on all devices.
struct CrossEntropyRows {
  const CrossEntropyHead& head;
  std::int64_t first = 0;
  Tensor logits;  // [rows, V], replaced by the gradient; unspecified afterwards without a gradient
};

namespace cpu {
void cross_entropy_rows(Stream& stream, const CrossEntropyRows& op);
}  // namespace cpu
namespace cuda {
void cross_entropy_rows(Stream& stream, const CrossEntropyRows& op);
}  // namespace cuda

}  // namespace foretoken
