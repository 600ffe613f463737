#pragma once
// Token datasets for tests.

#include <filesystem>
#include <span>
#include <vector>

#include "io/datasets/token_dataset_writer.h"

namespace foretoken {

/// Writes a dataset of documents of the given lengths (in tokens, including the end-of-document token). The
/// tokens are 0, 1, 2, … over the whole dataset, modulo vocab_size - 1.
inline void write_counting_dataset(const std::filesystem::path& path, std::span<const std::int64_t> lengths,
                                   std::int64_t vocab_size) {
  TokenDatasetWriter writer(path, {"counting", "0", vocab_size, static_cast<std::int32_t>(vocab_size - 1)});
  for (const std::int64_t length : lengths) {
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i + 1 < length; ++i)
      ids.push_back(static_cast<std::int32_t>((writer.tokens() + i) % (vocab_size - 1)));
    writer.append(ids);
    writer.end_document();
  }
  writer.finish();
  writer.publish();
}

}  // namespace foretoken
