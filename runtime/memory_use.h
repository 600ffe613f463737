#pragma once
// Bytes of a rank's tensors by purpose. A plain struct.

#include <array>
#include <cstddef>
#include <numeric>
#include <string_view>

#include "runtime/enum_names.h"

namespace foretoken {

enum class MemoryKind {
  weights,      // parameters, and their copies in the dtypes that products read
  gradients,    // of parameters
  optimizer,    // moments, norms, digests
  activations,  // saved by forward for backward, and their gradients
  logits,
  messages,  // buffers of pipeline messages that are not activations
  inputs,    // tokens on a GPU
  workspace  // tables, and scratch that operators share
};

constexpr std::string_view name_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::weights:
      return "weights";
    case MemoryKind::gradients:
      return "gradients";
    case MemoryKind::optimizer:
      return "optimizer";
    case MemoryKind::activations:
      return "activations";
    case MemoryKind::logits:
      return "logits";
    case MemoryKind::messages:
      return "messages";
    case MemoryKind::inputs:
      return "inputs";
    case MemoryKind::workspace:
      return "workspace";
  }
  return {};
}

struct MemoryUse {
  std::array<std::size_t, enumerator_count<MemoryKind>()> bytes{};

  std::size_t& operator[](MemoryKind kind) { return bytes[static_cast<std::size_t>(kind)]; }
  std::size_t operator[](MemoryKind kind) const { return bytes[static_cast<std::size_t>(kind)]; }
  std::size_t total() const { return std::accumulate(bytes.begin(), bytes.end(), std::size_t{0}); }
  MemoryUse& operator+=(const MemoryUse& other) {
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] += other.bytes[i];
    return *this;
  }
  friend bool operator==(const MemoryUse&, const MemoryUse&) = default;
};

}  // namespace foretoken
