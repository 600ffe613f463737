#pragma once
// Memory of the current GPU and page-locked memory of the host.

#include <cstddef>

namespace foretoken::cuda {

/// A UsageError naming what was asked for and what is free where there is too little.
void* allocate_device(std::size_t bytes);
void free_device(void* memory);
/// Waits until it is done: whichever stream uses the memory next finds zeros.
void zero_device(void* memory, std::size_t bytes);

void* allocate_page_locked(std::size_t bytes);
void free_page_locked(void* memory);

}  // namespace foretoken::cuda
