#pragma once
// Texts that carry a digest of themselves, which tells what was damaged or edited from what was written.
//
// A file: its first line is the digest of all that follows, as a comment of TOML:
//
//   # xxh3-128 of the lines below: 0123456789abcdef0123456789abcdef
//
// A line of JSON: its last field is the first half of the digest of the bytes before that field:
//
//   {"kind":"step","step":1,"loss":7.2,"check":"0123456789abcdef"}

#include <string>
#include <string_view>

namespace foretoken {

/// The line with the digest of `text`, and `text`.
std::string sealed(std::string_view text);

/// What is wrong where the first line is not the digest of what follows it. Empty where it is, and where
/// there is no such line: a file that a person wrote, or an earlier version.
std::string seal_fault(std::string_view text);

/// A JSON object with at least one field, with the field "check" added.
std::string sealed_line(std::string_view object);

/// What is wrong where "check" is not the digest of the line before it. Empty where it is, and where the line
/// has no such field.
std::string line_fault(std::string_view line);

}  // namespace foretoken
