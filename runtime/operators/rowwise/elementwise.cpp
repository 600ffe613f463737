#include "runtime/operators/rowwise/elementwise.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

void check(const char* who, const Tensor& x, const Tensor& out, bool same_dtype = true) {
  if (x.elements() != out.elements() || (same_dtype && x.dtype != out.dtype))
    throw DefectError("{}: x is {} {}, out is {} {}", who, name_of(x.dtype), to_string(x.shape),
                      name_of(out.dtype), to_string(out.shape));
}

}  // namespace

void set_zero(Stream& stream, const Tensor& out) {
  const ProfileScope scope(stream, "set_zero");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::set_zero(stream, out);
  cpu::set_zero(stream, out);
}

void fill(Stream& stream, const Tensor& out, double value) {
  const ProfileScope scope(stream, "fill");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::fill(stream, out, value);
  cpu::fill(stream, out, value);
}

void copy(Stream& stream, const Tensor& x, const Tensor& out) {
  const ProfileScope scope(stream, "copy");
  check("copy", x, out);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::copy(stream, x, out);
  cpu::copy(stream, x, out);
}

void convert(Stream& stream, const Tensor& x, const Tensor& out) {
  const ProfileScope scope(stream, "convert");
  check("convert", x, out, false);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::convert(stream, x, out);
  cpu::convert(stream, x, out);
}

void add(Stream& stream, const Tensor& x, const Tensor& out) {
  const ProfileScope scope(stream, "add");
  check("add", x, out);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::add(stream, x, out);
  cpu::add(stream, x, out);
}

}  // namespace foretoken
