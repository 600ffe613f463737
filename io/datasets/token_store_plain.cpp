#include <algorithm>
#include <limits>

#include "io/datasets/dataset_examination.h"
#include "io/datasets/token_store.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// Digest of the header and the document offsets: the tokens are not read.
std::string identity_of(const TokenDatasetHeader& header) {
  const std::string head = fmt::format(
      "{} 1\n{}\n{}\n{}\n{}\n{}\n{}\n", token_dataset_format, header.tokenizer.name, header.tokenizer.digest,
      header.tokenizer.vocab_size, header.tokenizer.end_of_document, name_of(header.dtype), header.tokens);
  DigestStream stream;
  stream.add(std::as_bytes(std::span(head)));
  stream.add(std::as_bytes(std::span(header.offsets)));
  return stream.digest();
}

/// Reads elements from `begin` on until `out` is full; all must be inside.
void read_array(const FileReader& file, const ExaminedArray& array, std::int64_t begin,
                std::span<std::byte> out) {
  const auto element = static_cast<std::int64_t>(size_of(array.dtype));
  auto part = std::upper_bound(array.extents.begin(), array.extents.end(), begin,
                               [](std::int64_t at, const StoredExtent& extent) { return at < extent.begin; });
  for (part = std::prev(part); !out.empty(); ++part) {
    const std::int64_t skipped = begin - part->begin;
    const std::int64_t bytes =
        std::min(static_cast<std::int64_t>(out.size()), (part->count - skipped) * element);
    file.read(part->address + skipped * element, out.first(static_cast<std::size_t>(bytes)));
    out = out.subspan(static_cast<std::size_t>(bytes));
    begin += bytes / element;
  }
}

class PlainTokens : public TokenStore {
 public:
  explicit PlainTokens(FileReader file) : file_(std::move(file)), opened_(file_.state()) {
    ExaminedDataset dataset = examine_dataset(file_.path());
    tokens_ = std::move(dataset.tokens);
    header_ = {.version = 1,
               .tokenizer = dataset.tokenizer,
               .dtype = tokens_.dtype,
               .tokens = tokens_.count,
               .offsets = std::vector<std::int64_t>(static_cast<std::size_t>(dataset.document_offsets.count)),
               .identity = {}};
    if (!header_.offsets.empty())
      read_array(file_, dataset.document_offsets, 0, std::as_writable_bytes(std::span(header_.offsets)));
    check_header(file_.path(), header_);
    header_.identity = identity_of(header_);
  }

  void read(std::int64_t begin, std::span<std::int32_t> out) const override {
    if (out.empty()) return;
    const std::span<std::byte> stored = std::as_writable_bytes(out).last(out.size() * size_of(header_.dtype));
    read_array(file_, tokens_, begin, stored);
    // Without digests, only the file's size and modification time show that another program wrote to it.
    if (file_.state() != opened_)
      throw DataError(
          "{}: /tokens: tokens {} to {}: the file has changed since it was opened ({} bytes then, "
          "{} now)",
          file_.path().string(), begin, begin + static_cast<std::int64_t>(out.size()) - 1, opened_.size,
          file_.size());
    widen_tokens(stored.data(), out, begin, header_, file_.path());
  }

  std::vector<std::string> verify() const override {
    std::vector<std::int32_t> tokens(1 << 16);
    for (std::int64_t begin = 0; begin < header_.tokens; begin += std::ssize(tokens)) try {
        read(begin, std::span(tokens).first(static_cast<std::size_t>(
                        std::min(header_.tokens - begin, static_cast<std::int64_t>(tokens.size())))));
      } catch (const DataError& error) {
        return {error.what()};
      }
    return {};
  }

 private:
  FileReader file_;
  FileReader::State opened_;
  ExaminedArray tokens_;
};

}  // namespace

std::unique_ptr<TokenStore> open_plain_tokens(FileReader file) {
  return std::make_unique<PlainTokens>(std::move(file));
}

}  // namespace foretoken
