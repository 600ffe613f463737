#pragma once
// Comma-separated values (RFC 4180); lines end in one newline.

#include <string>
#include <vector>

namespace foretoken {

/// Example: "a,\"b, c\",1.5\n". A field with a comma, a quote or a line break is quoted. Spreadsheets execute
/// a field that starts with = + - or @; unless it is a number it gets a leading apostrophe, which makes it
/// text. Control characters except tabs and line feeds are escaped (io/files/printable.h).
std::string csv_line(const std::vector<std::string>& fields);

}  // namespace foretoken
