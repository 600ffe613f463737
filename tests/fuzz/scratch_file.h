#pragma once
// What every target shares: input as a file in memory, and which exceptions are an answer.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace foretoken::fuzz {

/// Replaces the content of a file in memory and returns its path. `number`: which of several.
std::filesystem::path scratch_file(std::string_view content, int number = 0);

/// Runs the call. Bad input may end in a UsageError or a DataError; a defect or any other exception is a
/// finding, and so is a message that a terminal would obey once it is printable.
template <class Call>
void expect_an_answer(Call&& call);

/// Aborts where the text holds a control character.
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
