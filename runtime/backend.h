#pragma once
// The devices that this build supports. CUDA calls are inside `if constexpr (with_cuda)`, so that a build
// without the toolkit compiles the same files and does not link CUDA.

namespace foretoken {

inline constexpr bool with_cuda = FORETOKEN_WITH_CUDA != 0;

}  // namespace foretoken
