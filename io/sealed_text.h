#pragma once
// A text file whose first line is a digest of all that follows, as a comment of TOML:
//
//   # xxh3-128 of the lines below: 0123456789abcdef0123456789abcdef
//
// It tells a file that was damaged or edited from the file that was written.

#include <string>
#include <string_view>

namespace foretoken {

/// The line with the digest of `text`, and `text`.
std::string sealed(std::string_view text);

/// What is wrong where the first line is not the digest of what follows it. Empty where it is, and where
/// there is no such line: a file that a person wrote, or an earlier version.
std::string seal_fault(std::string_view text);

}  // namespace foretoken
