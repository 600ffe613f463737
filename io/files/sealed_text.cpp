#include "io/files/sealed_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "io/files/digest.h"

namespace foretoken {

namespace {

constexpr std::string_view label = "# xxh3-128 of the lines below: ";

constexpr std::string_view check_begin = ",\"check\":\"", check_end = "\"}";
constexpr std::size_t check_digits = 16;
constexpr std::size_t check_bytes = check_begin.size() + check_digits + check_end.size();

std::string check_of(std::string_view text) {
  return digest_of(text).substr(0, check_digits);
}

/// Whether the end of a line is a "check" field. One flipped bit does not hide the field, because either its
/// name or its value is intact.
bool is_check(std::string_view field) {
  const std::string_view value = field.substr(check_begin.size(), check_digits);
  return field.substr(0, check_begin.size()) == check_begin ||
         (std::all_of(value.begin(), value.end(),
                      [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }) &&
          field.substr(check_begin.size() + check_digits) == check_end);
}

}  // namespace

std::string sealed(std::string_view text) {
  return fmt::format("{}{}\n{}", label, digest_of(text), text);
}

std::string seal_error(std::string_view text) {
  constexpr std::size_t seal_bytes = label.size() + 32 + 1;
  const std::string_view seal = text.substr(0, std::min(text.size(), seal_bytes));
  const std::string actual = sealed(text.substr(seal.size()));
  if (text == actual) return {};
  // Damage to the label itself leaves one of these parts intact.
  if (seal.find("xxh3-128") == seal.npos && seal.find("lines below") == seal.npos) return {};
  return fmt::format("digest differs (first line {}, content {}): the file was damaged or edited",
                     abbreviated(std::string(seal.substr(std::min(seal.size(), label.size())))),
                     abbreviated(actual.substr(label.size(), 32)));
}

std::string sealed_line(std::string_view object) {
  const std::string_view content = object.substr(0, object.size() - 1);
  return fmt::format("{}{}{}{}", content, check_begin, check_of(content), check_end);
}

std::string line_error(std::string_view line) {
  if (line.size() < check_bytes) return {};
  const std::string_view content = line.substr(0, line.size() - check_bytes);
  const std::string_view field = line.substr(content.size());
  if (!is_check(field)) return {};
  const std::string actual = check_of(content);
  if (field == fmt::format("{}{}{}", check_begin, actual, check_end)) return {};
  return fmt::format("digest differs (check {}, content {}): the line was damaged or edited",
                     field.substr(check_begin.size(), check_digits), actual);
}

}  // namespace foretoken
