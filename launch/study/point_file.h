#pragma once
// The small JSON files of a study's points: one line each, whose last field is a digest of the bytes before
// it (io/files/sealed_text.h).

#include <string>

#include <nlohmann/json.hpp>

namespace foretoken {

/// Replaces or creates the file. `object` has at least one field. Throws a DataError on failure.
void write_point_file(const std::string& path, const nlohmann::json& object);

/// The object of a file. Throws a DataError naming the file if the file cannot be read, is not JSON, or
/// differs from its digest. A file without a digest, of an earlier version, is read as it is.
nlohmann::json read_point_file(const std::string& path);

}  // namespace foretoken
