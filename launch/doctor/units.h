#pragma once
// Quantities as text.

#include <string>

namespace foretoken {

/// "48.2 GFLOP/s" of 48.2e9 and "FLOP/s": a value with three digits and a decimal prefix.
std::string scaled(double value, const char* unit);
/// "2.1 µs", "3.4 ms", "1.20 s"
std::string duration_text(double seconds);

}  // namespace foretoken
