#include "launch/study/point_file.h"

#include "io/files/bounded_json.h"
#include "io/files/durable_file.h"
#include "io/files/sealed_text.h"
#include "io/files/text_file.h"
#include "runtime/error.h"

namespace foretoken {

void write_point_file(const std::string& path, const nlohmann::json& object) {
  write_durably(path, sealed_line(object.dump()) + "\n");
}

nlohmann::json read_point_file(const std::string& path) {
  std::string text = read_text_file(path, most_config_bytes);
  if (text.ends_with('\n')) text.pop_back();
  if (const std::string message = line_error(text); !message.empty())
    throw DataError("study: {}: {}", path, message);
  try {
    return parse_json_bounded(text);
  } catch (const nlohmann::json::exception& error) {
    throw DataError("study: {}: {}", path, error.what());
  }
}

}  // namespace foretoken
