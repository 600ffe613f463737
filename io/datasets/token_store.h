#pragma once
// Sources of a dataset's tokens: one class per version of the format. Internal to
// io/datasets/token_dataset.h.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/datasets/token_dataset_index.h"

namespace foretoken {

struct TokenDatasetHeader {
  std::int64_t version = 0;
  TokenizerIdentity tokenizer;
  DType dtype = DType::u16;
  std::int64_t tokens = 0;
  std::vector<std::int64_t> offsets;
  std::string identity;
};

class TokenStore {
 public:
  virtual ~TokenStore() = default;
  const TokenDatasetHeader& header() const { return header_; }

  /// Reads the stored tokens [begin, begin + out.size()), which must be inside. Throws a DataError for tokens
  /// that are damaged, changed or outside the vocabulary.
  virtual void read(std::int64_t begin, std::span<std::int32_t> out) const = 0;
  /// Reads everything and returns one line for each damaged part.
  virtual std::vector<std::string> verify() const = 0;

 protected:
  TokenDatasetHeader header_;
};

/// Version 2, for a `file` that ends with an index: does not use HDF5; every chunk is checked when it is
/// read.
std::unique_ptr<TokenStore> open_indexed_tokens(FileReader file, const LocatedIndex& located);
/// Version 1: plain HDF5 without digests.
std::unique_ptr<TokenStore> open_plain_tokens(FileReader file);

/// Throws a DataError that names `path` and the header's value that is out of range or not ascending.
void check_header(const std::filesystem::path& path, const TokenDatasetHeader& header);

/// out[i] = the i-th value of `stored`, u16 or u32, at any alignment. `stored` may be the last bytes of `out`
/// itself. Throws a DataError naming the first token outside the vocabulary; `begin` is the number of the
/// first token.
void widen_tokens(const std::byte* stored, std::span<std::int32_t> out, std::int64_t begin,
                  const TokenDatasetHeader& header, const std::filesystem::path& path);

}  // namespace foretoken
