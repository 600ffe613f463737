#pragma once
// Texts that carry their own digest, so that damage and edits are detected.
//
// The first line of a file is the digest of all following bytes, as a TOML comment:
//
//   # xxh3-128 of the lines below: 0123456789abcdef0123456789abcdef
//
// The last field of a JSON line is the first half of the digest of the bytes before that field:
//
//   {"kind":"step","step":1,"loss":7.2,"check":"0123456789abcdef"}

#include <string>
#include <string_view>

namespace foretoken {

/// A line with the digest of `text`, followed by `text`.
std::string sealed(std::string_view text);

/// An error message if the first line holds a digest that differs from the digest of the following bytes.
/// Empty if both agree, or if there is no digest line, as in files written by a person or an earlier version.
std::string seal_error(std::string_view text);

/// A JSON object with at least one field, extended by the field "check".
std::string sealed_line(std::string_view object);

/// An error message if the "check" field differs from the digest of the bytes before it. Empty if both agree,
/// or if the line has no such field.
std::string line_error(std::string_view line);

}  // namespace foretoken
