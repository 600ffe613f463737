#include "tests/fuzz/scratch_file.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "io/files/printable.h"

namespace foretoken::fuzz {

std::filesystem::path scratch_file(std::string_view content, int number) {
  static std::vector<int> descriptors;
  while (static_cast<int>(descriptors.size()) <= number) {
    descriptors.push_back(memfd_create("fuzz", 0));
    if (descriptors.back() < 0) std::abort();
  }
  const int descriptor = descriptors[static_cast<std::size_t>(number)];
  if (ftruncate(descriptor, 0) != 0 ||
      pwrite(descriptor, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size()))
    std::abort();
  return "/proc/self/fd/" + std::to_string(descriptor);
}

void require_printable(std::string_view message) {
  for (const char c : printable(message))
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) std::abort();
}

}  // namespace foretoken::fuzz
