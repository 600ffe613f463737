#pragma once
// Comma-separated values (RFC 4180), lines ending in one newline.

#include <string>
#include <vector>

namespace foretoken {

/// "a,\"b, c\",1.5\n": a field with a comma, a quote or a line break is quoted.
std::string csv_line(const std::vector<std::string>& fields);

}  // namespace foretoken
