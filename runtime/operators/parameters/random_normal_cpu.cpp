#include "runtime/operators/dispatch.h"
#include "runtime/operators/parameters/random_normal.h"

namespace foretoken::cpu {

void random_normal(Stream& stream, const RandomNormal& op) {
  with_floating("random_normal", op.out.dtype, [&]<class T>() {
    stream.threads().parallel_for(op.out.elements(), 1 << 12, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        op.out.as<T>()[i] =
            static_cast<T>(static_cast<float>(op.std * op.rng.normal(static_cast<std::uint64_t>(i))));
    });
  });
}

}  // namespace foretoken::cpu
