#include <nvtx3/nvToolsExt.h>

#include "runtime/timing/nvtx.h"

namespace foretoken {

void push_nvtx(const char* name) {
  nvtxRangePushA(name);
}

void pop_nvtx() {
  nvtxRangePop();
}

}  // namespace foretoken
