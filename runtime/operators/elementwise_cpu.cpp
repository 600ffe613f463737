#include <cstring>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/elementwise.h"
#include "runtime/profile.h"

namespace foretoken {

namespace {

constexpr std::int64_t grain = 1 << 15;

void require_equal(const char* who, const Tensor& x, const Tensor& out) {
  if (x.dtype != out.dtype || x.elements() != out.elements())
    throw DefectError("{}: x is {} {}, out is {} {}", who, name_of(x.dtype), to_string(x.shape),
                      name_of(out.dtype), to_string(out.shape));
}

}  // namespace

void set_zero(Stream& stream, const Tensor& out) {
  const ProfileScope scope(stream, "set_zero");
  std::memset(out.data, 0, out.bytes());
}

void copy(Stream& stream, const Tensor& x, const Tensor& out) {
  const ProfileScope scope(stream, "copy");
  require_equal("copy", x, out);
  std::memcpy(out.data, x.data, x.bytes());
}

void add(Stream& stream, const Tensor& x, const Tensor& out) {
  const ProfileScope scope(stream, "add");
  require_equal("add", x, out);
  with_floating("add", x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    T* sum = out.as<T>();
    stream.threads().parallel_for(x.elements(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) sum[i] += in[i];
    });
  });
}

}  // namespace foretoken
