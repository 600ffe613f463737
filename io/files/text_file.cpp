#include "io/files/text_file.h"

#include <span>

#include "io/files/file_reader.h"
#include "runtime/error.h"

namespace foretoken {

std::string read_text_file(const std::filesystem::path& path, std::int64_t most_bytes) {
  const FileReader file(path);
  const std::int64_t bytes = file.size();
  if (bytes > most_bytes)
    throw DataError("{}: has {} bytes, expected at most {}", path.string(), bytes, most_bytes);
  std::string text(static_cast<std::size_t>(bytes), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace foretoken
