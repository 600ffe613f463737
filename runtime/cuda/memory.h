#pragma once
// Memory of the current GPU and page-locked memory of the host.

#include <cstddef>

namespace foretoken::cuda {

/// Throws a UsageError with the requested and the free bytes if memory is insufficient.
void* allocate_device(std::size_t bytes);
void free_device(void* memory);
/// Returns when the memory is zero, so that every stream that uses it afterwards reads zeros.
void zero_device(void* memory, std::size_t bytes);

void* allocate_page_locked(std::size_t bytes);
void free_page_locked(void* memory);

}  // namespace foretoken::cuda
