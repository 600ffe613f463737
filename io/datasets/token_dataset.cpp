#include "io/datasets/token_dataset.h"

#include <algorithm>

#include "io/datasets/token_store.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

std::unique_ptr<TokenStore> open_store(const std::filesystem::path& path) {
  FileReader file(path);
  if (const std::optional<LocatedIndex> located = read_index(file))
    return open_indexed_tokens(std::move(file), *located);
  return open_plain_tokens(std::move(file));
}

}  // namespace

TokenDataset::TokenDataset(const std::filesystem::path& path) : path_(path), store_(open_store(path)) {}

TokenDataset::~TokenDataset() = default;

const TokenizerIdentity& TokenDataset::tokenizer() const {
  return store_->header().tokenizer;
}

std::int64_t TokenDataset::version() const {
  return store_->header().version;
}

const std::string& TokenDataset::identity() const {
  return store_->header().identity;
}

std::int64_t TokenDataset::tokens() const {
  return store_->header().tokens;
}

std::span<const std::int64_t> TokenDataset::document_offsets() const {
  return store_->header().offsets;
}

void TokenDataset::require_tokenizer(const TokenizerIdentity& expected) const {
  if (tokenizer() != expected)
    throw DataError("{}: was made with tokenizer {}, expected {}", path().string(), to_string(tokenizer()),
                    to_string(expected));
}

std::int64_t TokenDataset::document_of(std::int64_t position) const {
  if (position < 0 || position >= tokens())
    throw DefectError("{}: position {} is out of range for {} tokens", path().string(), position, tokens());
  const std::span<const std::int64_t> offsets = document_offsets();
  return std::upper_bound(offsets.begin(), offsets.end(), position) - offsets.begin() - 1;
}

std::int64_t TokenDataset::document_start(std::int64_t position) const {
  return document_offsets()[static_cast<std::size_t>(document_of(position))];
}

void TokenDataset::read(std::int64_t begin, std::span<std::int32_t> out) const {
  const std::int64_t count = static_cast<std::int64_t>(out.size());
  if (begin < 0 || begin > tokens() || count > tokens() - begin)
    throw DefectError("{}: tokens {} + {} are out of range for {}", path().string(), begin, count, tokens());
  store_->read(begin, out);
}

std::vector<std::string> TokenDataset::verify() const {
  return store_->verify();
}

}  // namespace foretoken
