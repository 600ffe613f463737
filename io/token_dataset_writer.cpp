#include <algorithm>
#include <cstring>
#include <system_error>

#include "io/token_dataset.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::size_t flushed_tokens = 1 << 19;   // whole chunks of 1 MiB, of u16 and of u32
constexpr std::size_t flushed_offsets = 1 << 17;  // of i64

const std::filesystem::path& with_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(path), error);
  if (error) throw DataError("{}: its folder cannot be made: {}", path.string(), error.message());
  return path;
}

DType token_dtype(const TokenizerIdentity& tokenizer) {
  return tokenizer.vocab_size <= 65536 ? DType::u16 : DType::u32;
}

}  // namespace

TokenDatasetWriter::TokenDatasetWriter(const std::filesystem::path& path, const TokenizerIdentity& tokenizer)
    : path_(path),
      pending_(with_folder(path)),
      tokenizer_(tokenizer),
      file_(Hdf5File::create(pending_.path())),
      token_dataset_(file_.create_growing_dataset("/tokens", token_dtype(tokenizer))),
      offset_dataset_(file_.create_growing_dataset("/document_offsets", DType::i64)),
      pending_offsets_{0} {
  pending_tokens_.reserve(flushed_tokens);
  file_.write_attribute("format", std::string(token_dataset_format));
  file_.write_attribute("format_version", token_dataset_version);
  file_.write_attribute("tokenizer_name", tokenizer.name);
  file_.write_attribute("tokenizer_digest", tokenizer.digest);
  file_.write_attribute("vocab_size", tokenizer.vocab_size);
  file_.write_attribute("end_of_document", std::int64_t{tokenizer.end_of_document});
}

void TokenDatasetWriter::append(std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids)
    if (id < 0 || id >= tokenizer_.vocab_size)
      throw DefectError("{}: tokenizer {} made token {}, outside of its vocabulary of {}", path_.string(),
                        tokenizer_.name, id, tokenizer_.vocab_size);
  tokens_ += static_cast<std::int64_t>(ids.size());
  while (!ids.empty()) {
    const std::size_t count = std::min(ids.size(), flushed_tokens - pending_tokens_.size());
    pending_tokens_.insert(pending_tokens_.end(), ids.begin(),
                           ids.begin() + static_cast<std::ptrdiff_t>(count));
    ids = ids.subspan(count);
    if (pending_tokens_.size() == flushed_tokens) flush_tokens();
  }
}

void TokenDatasetWriter::end_document() {
  append({&tokenizer_.end_of_document, 1});
  document_begin_ = tokens_;
  ++documents_;
  pending_offsets_.push_back(tokens_);
  if (pending_offsets_.size() == flushed_offsets) flush_offsets();
}

void TokenDatasetWriter::flush_tokens() {
  const std::int64_t count = static_cast<std::int64_t>(pending_tokens_.size());
  if (token_dataset_.dtype() == DType::u16) {
    // Narrowed in place, front to back: a u16 never overwrites an id that is still to be read.
    std::byte* bytes = std::as_writable_bytes(std::span(pending_tokens_)).data();
    for (std::size_t i = 0; i < pending_tokens_.size(); ++i) {
      const std::uint16_t token = static_cast<std::uint16_t>(pending_tokens_[i]);
      std::memcpy(bytes + i * sizeof(token), &token, sizeof(token));
    }
  }
  token_dataset_.append(Tensor{pending_tokens_.data(), token_dataset_.dtype(), DeviceKind::cpu, {count}});
  pending_tokens_.clear();
}

void TokenDatasetWriter::flush_offsets() {
  offset_dataset_.append(
      tensor_over(std::span(pending_offsets_), {static_cast<std::int64_t>(pending_offsets_.size())}));
  pending_offsets_.clear();
}

void TokenDatasetWriter::finish() {
  if (document_begin_ != tokens_)
    throw DefectError("{}: the last document of {} tokens has not ended", path_.string(),
                      tokens_ - document_begin_);
  if (documents_ == 0) throw DataError("{}: there is no document to write", path_.string());
  flush_tokens();
  flush_offsets();
  file_.close();
}

void TokenDatasetWriter::publish() {
  pending_.publish();
}

}  // namespace foretoken
