#pragma once
// What this build can compute on. CUDA calls stand behind `if constexpr (with_cuda)`, so that a build without
// the toolkit compiles the same files and links nothing of it.

namespace foretoken {

inline constexpr bool with_cuda = FORETOKEN_WITH_CUDA != 0;

}  // namespace foretoken
