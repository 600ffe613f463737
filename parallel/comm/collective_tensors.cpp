#include "parallel/comm/collective_tensors.h"

#include "runtime/error.h"

namespace foretoken {

void require_device(const char* who, const char* operation, const Tensor& tensor, DeviceKind device) {
  if (tensor.device != device)
    throw DefectError("{}: {} of a tensor that is not on the {}", who, operation,
                      device == DeviceKind::cpu ? "CPU" : "GPU");
}

bool require_own_part(const char* who, const char* operation, const Tensor& part, const Tensor& full,
                      const Communicator& group, DeviceKind device) {
  require_device(who, operation, part, device);
  require_device(who, operation, full, device);
  if (part.dtype != full.dtype || part.elements() * group.size() != full.elements())
    throw DefectError("{}: {}: {} parts of {} {} do not match the whole of {} {}", who, operation,
                      group.size(), part.elements(), name_of(part.dtype), full.elements(),
                      name_of(full.dtype));
  return part.data ==
         static_cast<std::byte*>(full.data) + part.bytes() * static_cast<std::size_t>(group.rank());
}

}  // namespace foretoken
