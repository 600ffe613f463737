#include <algorithm>
#include <cstring>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/vocabulary/embedding.h"

namespace foretoken::cpu {

namespace {

struct Dims {
  std::int64_t b, t, c, s;

  Dims(const Tensor& tokens, const Tensor& out)
      : b(out.shape[0]), t(out.shape[1]), c(out.shape[2]), s(tokens.shape[1]) {}
};

}  // namespace

void embedding_forward(Stream& stream, const EmbeddingForward& op) {
  const auto [b, t, c, s] = Dims(op.tokens, op.out);
  with_floating("embedding_forward", op.out.dtype, [&, b = b, t = t, c = c, s = s]<class T>() {
    stream.threads().parallel_for(b * t, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) {
        std::int64_t token = op.tokens.as<std::int32_t>()[n / t * s + op.first + n % t];
        if (token < 0) token = std::max(op.chosen.as<std::int32_t>()[-1 - token], 0);
        std::memcpy(op.out.as<T>() + n * c, op.table.as<T>() + token * c,
                    static_cast<std::size_t>(c) * sizeof(T));
      }
    });
  });
}

void embedding_backward_weight(Stream& stream, const EmbeddingBackwardWeight& op) {
  const auto [b, t, c, s] = Dims(op.tokens, op.dout);
  with_floating("embedding_backward_weight", op.dout.dtype, [&, b = b, t = t, c = c, s = s]<class T>() {
    // A thread owns columns, so two positions with the same token do not race, and each sum runs in position
    // order.
    stream.threads().parallel_for(c, 32, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = 0; n < b * t; ++n) {
        const std::int64_t token = op.tokens.as<std::int32_t>()[n / t * s + op.first + n % t];
        const T* dout = op.dout.as<T>() + n * c;
        T* dtable = op.dtable.as<T>() + token * c;
        for (std::int64_t i = begin; i < end; ++i) dtable[i] += dout[i];
      }
    });
  });
}

}  // namespace foretoken::cpu
