#include "io/sealed_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "io/digest.h"

namespace foretoken {

namespace {

constexpr std::string_view label = "# xxh3-128 of the lines below: ";

}  // namespace

std::string sealed(std::string_view text) {
  return fmt::format("{}{}\n{}", label, digest_of(text), text);
}

std::string seal_fault(std::string_view text) {
  constexpr std::size_t seal_bytes = label.size() + 32 + 1;
  const std::string_view seal = text.substr(0, std::min(text.size(), seal_bytes));
  const std::string actual = sealed(text.substr(seal.size()));
  if (text == actual) return {};
  // Damage to the label itself leaves one of these.
  if (seal.find("xxh3-128") == seal.npos && seal.find("lines below") == seal.npos) return {};
  return fmt::format("digest differs (first line {}, content {}): the file was damaged or edited",
                     abbreviated(std::string(seal.substr(std::min(seal.size(), label.size())))),
                     abbreviated(actual.substr(label.size(), 32)));
}

}  // namespace foretoken
