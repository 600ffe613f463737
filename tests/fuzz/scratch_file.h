#pragma once
// Shared by all targets: the input as a file in memory, and the exceptions that are allowed.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace foretoken::fuzz {

/// Replaces the content of file number `number` in memory and returns its path.
std::filesystem::path scratch_file(std::string_view content, int number = 0);

/// Runs the call. Bad input may throw a UsageError or a DataError. Any other exception is a finding, and so
/// is a message that contains a control character after printable().
template <class Call>
void expect_an_answer(Call&& call);

/// Aborts if printable(message) contains a control character.
void require_printable(std::string_view message);

template <class Call>
void expect_an_answer(Call&& call) {
  try {
    call();
  } catch (const UsageError& error) {
    require_printable(error.what());
  } catch (const DataError& error) {
    require_printable(error.what());
  }
}

}  // namespace foretoken::fuzz
