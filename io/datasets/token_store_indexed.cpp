#include <algorithm>
#include <cstring>
#include <mutex>

#include "io/datasets/token_store.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

std::vector<BinaryDigest> read_table(const FileReader& file, const StoredArray& table) {
  std::vector<BinaryDigest> digests(static_cast<std::size_t>(table.bytes()) / sizeof(BinaryDigest));
  file.read(table.address, std::as_writable_bytes(std::span(digests)));
  return digests;
}

class IndexedTokens : public TokenStore {
 public:
  IndexedTokens(FileReader file, const LocatedIndex& located)
      : file_(std::move(file)),
        index_(located.index),
        index_begin_(located.begin),
        digests_(read_table(file_, index_.token_digests)),
        chunk_(digest_chunk_bytes) {
    const std::vector<BinaryDigest> offset_digests = read_table(file_, index_.offset_digests);
    if (const std::string actual = identity_of(index_, digests_, offset_digests); actual != index_.identity)
      throw DataError("{}: digest tables: identity differs (index {}, tables {})", file_.path().string(),
                      abbreviated(index_.identity), abbreviated(actual));
    header_ = {.version = token_dataset_version,
               .tokenizer = index_.tokenizer,
               .dtype = index_.tokens.dtype,
               .tokens = index_.tokens.count,
               .offsets = std::vector<std::int64_t>(static_cast<std::size_t>(index_.document_offsets.count)),
               .identity = index_.identity};
    const std::span bytes = std::as_writable_bytes(std::span(header_.offsets));
    for (std::int64_t chunk = 0; chunk < index_.document_offsets.chunks(); ++chunk) {
      const Range range = index_.document_offsets.chunk(chunk);
      read_chunk("/document_offsets", index_.document_offsets, chunk, offset_digests,
                 bytes.subspan(static_cast<std::size_t>(range.begin - index_.document_offsets.address),
                               static_cast<std::size_t>(range.size())));
    }
    check_header(file_.path(), header_);
  }

  void read(std::int64_t begin, std::span<std::int32_t> out) const override {
    const std::int64_t tokens_a_chunk =
        digest_chunk_bytes / static_cast<std::int64_t>(size_of(header_.dtype));
    const std::lock_guard lock(mutex_);
    while (!out.empty()) {
      const std::int64_t chunk = begin / tokens_a_chunk, first = begin % tokens_a_chunk;
      const std::int64_t count = std::min(static_cast<std::int64_t>(out.size()), tokens_a_chunk - first);
      load(chunk);
      widen_tokens(chunk_.data() + static_cast<std::size_t>(first) * size_of(header_.dtype),
                   out.first(static_cast<std::size_t>(count)), begin, header_, file_.path());
      begin += count;
      out = out.subspan(static_cast<std::size_t>(count));
    }
  }

  std::vector<std::string> verify() const override {
    std::vector<std::string> failures;
    std::vector<std::byte> bytes(digest_chunk_bytes);
    for (std::int64_t chunk = 0; chunk < index_.tokens.chunks(); ++chunk) try {
        read_chunk("/tokens", index_.tokens, chunk, digests_,
                   std::span(bytes).first(static_cast<std::size_t>(index_.tokens.chunk(chunk).size())));
      } catch (const DataError& error) {
        failures.push_back(error.what());
      }
    if (const std::string actual = digest_outside(file_, index_.arrays(), index_begin_);
        actual != index_.structures)
      failures.push_back(fmt::format("{}: HDF5 structures: digest differs (index {}, file {})",
                                     file_.path().string(), abbreviated(index_.structures),
                                     abbreviated(actual)));
    return failures;
  }

 private:
  /// Reads the chunk into chunk_ and checks it, unless chunk_ already holds it: bytes that were checked once
  /// stay valid if the file is damaged later.
  void load(std::int64_t chunk) const {
    if (chunk == loaded_) return;
    loaded_ = -1;
    read_chunk("/tokens", index_.tokens, chunk, digests_,
               std::span(chunk_).first(static_cast<std::size_t>(index_.tokens.chunk(chunk).size())));
    loaded_ = chunk;
  }

  /// Example: "/tokens: chunk 3 (elements 98304 to 131071)".
  std::string place(const char* name, const StoredArray& array, std::int64_t chunk) const {
    const Range range = array.chunk(chunk);
    const auto element = [&](std::int64_t address) {
      return (address - array.address) / static_cast<std::int64_t>(size_of(array.dtype));
    };
    return fmt::format("{}: chunk {} ({} {} to {})", name, chunk,
                       array.dtype == DType::i64 ? "entries" : "tokens", element(range.begin),
                       element(range.end) - 1);
  }

  void read_chunk(const char* name, const StoredArray& array, std::int64_t chunk,
                  std::span<const BinaryDigest> digests, std::span<std::byte> out) const {
    const Range range = array.chunk(chunk);
    if (const std::int64_t size = file_.size(); size < range.end)
      throw DataError("{}: {}: truncated: expected bytes [{}, {}), but the file ends at {}",
                      file_.path().string(), place(name, array, chunk), range.begin, range.end, size);
    file_.read(range.begin, out);
    const BinaryDigest& stored = digests[static_cast<std::size_t>(chunk)];
    if (const BinaryDigest actual = binary_digest_of(out); actual != stored)
      throw DataError("{}: {}: digest differs (stored {}, file {})", file_.path().string(),
                      place(name, array, chunk), abbreviated(to_string(stored)),
                      abbreviated(to_string(actual)));
  }

  FileReader file_;
  TokenDatasetIndex index_;
  std::int64_t index_begin_;
  std::vector<BinaryDigest> digests_;

  mutable std::mutex mutex_;
  mutable std::vector<std::byte> chunk_;  // the last chunk that was read
  mutable std::int64_t loaded_ = -1;      // number of the chunk in chunk_; -1: none
};

}  // namespace

std::unique_ptr<TokenStore> open_indexed_tokens(FileReader file, const LocatedIndex& located) {
  return std::make_unique<IndexedTokens>(std::move(file), located);
}

}  // namespace foretoken
