#pragma once
// Comma-separated values (RFC 4180), lines ending in one newline.

#include <string>
#include <vector>

namespace foretoken {

/// "a,\"b, c\",1.5\n": a field with a comma, a quote or a line break is quoted. Spreadsheets execute a field
/// that begins with = + - or @; one that is not a number gets an apostrophe in front, which makes it text.
/// Control characters other than tabs and line feeds are escaped (io/printable.h).
std::string csv_line(const std::vector<std::string>& fields);

}  // namespace foretoken
