#include "runtime/stream.h"

#if FORETOKEN_WITH_CUDA
#include "runtime/cuda/context.h"
#endif

namespace foretoken {

void Stream::synchronize() {
#if FORETOKEN_WITH_CUDA
  if (cuda_) cuda_->synchronize();
#endif
}

}  // namespace foretoken
