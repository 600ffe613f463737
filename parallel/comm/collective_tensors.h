#pragma once
// Checks that all communicators make on their tensors.

#include "parallel/comm/communicator.h"

namespace foretoken {

/// Throws DefectError "WHO: OPERATION of a tensor that is not on the GPU" if the tensor is on another device.
void require_device(const char* who, const char* operation, const Tensor& tensor, DeviceKind device);

/// Returns whether `part` is this rank's part of `full`, in place. Throws DefectError if a tensor is on
/// another device, the dtypes differ or `full` does not have size() times the elements of `part`.
bool require_own_part(const char* who, const char* operation, const Tensor& part, const Tensor& full,
                      const Communicator& group, DeviceKind device);

}  // namespace foretoken
