#pragma once
// What all communicators ask of the tensors that they are given.

#include "parallel/communicator.h"

namespace foretoken {

/// A DefectError "WHO: OPERATION of a tensor that is not on the GPU" where it lies elsewhere.
void require_device(const char* who, const char* operation, const Tensor& tensor, DeviceKind device);

/// True where `part` is this rank's own among the equal parts of `full`, in place. A DefectError where full
/// does not consist of as many such parts as the group has ranks.
bool require_own_part(const char* who, const char* operation, const Tensor& part, const Tensor& full,
                      const Communicator& group, DeviceKind device);

}  // namespace foretoken
