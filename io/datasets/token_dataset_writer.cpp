#include "io/datasets/token_dataset_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>

#include "io/files/file_reader.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::size_t flushed_tokens = 1 << 19;  // 1 MiB of u16, 2 MiB of u32: whole digest chunks
/// File offset at which HDF5 places the first array of 1 MiB or more: it aligns such arrays (io/hdf5/hdf5.h),
/// and the attributes before it need less than 1 MiB.
constexpr std::int64_t planned_address = 1 << 20;

const std::filesystem::path& with_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(path), error);
  if (error) throw DataError("{}: its folder cannot be created: {}", path.string(), error.message());
  return path;
}

DType token_dtype(const TokenizerIdentity& tokenizer) {
  return tokenizer.vocab_size <= 65536 ? DType::u16 : DType::u32;
}

int open_to_write(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) throw DataError("{}: cannot be written: {}", path.string(), std::strerror(errno));
  return descriptor;
}

void add_digests(std::span<const std::byte> bytes, std::vector<BinaryDigest>& digests) {
  for (std::size_t begin = 0; begin < bytes.size(); begin += digest_chunk_bytes)
    digests.push_back(binary_digest_of(
        bytes.subspan(begin, std::min<std::size_t>(digest_chunk_bytes, bytes.size() - begin))));
}

}  // namespace

TokenDatasetWriter::TokenDatasetWriter(const std::filesystem::path& path, const TokenizerIdentity& tokenizer)
    : path_(path),
      file_on_disk_(with_folder(path)),
      tokenizer_(tokenizer),
      dtype_(token_dtype(tokenizer)),
      file_(Hdf5File::create(file_on_disk_.path())),
      descriptor_(open_to_write(file_on_disk_.path())) {
  pending_.reserve(flushed_tokens);
  file_.write_attribute("format", std::string(token_dataset_format));
  file_.write_attribute("format_version", token_dataset_version);
  file_.write_attribute("tokenizer_name", tokenizer.name);
  file_.write_attribute("tokenizer_digest", tokenizer.digest);
  file_.write_attribute("vocab_size", tokenizer.vocab_size);
  file_.write_attribute("end_of_document", std::int64_t{tokenizer.end_of_document});
}

TokenDatasetWriter::~TokenDatasetWriter() {
  ::close(descriptor_);
}

void TokenDatasetWriter::append(std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids)
    if (id < 0 || id >= tokenizer_.vocab_size)
      throw DefectError("{}: tokenizer {} returned token {}, outside its vocabulary of {}", path_.string(),
                        tokenizer_.name, id, tokenizer_.vocab_size);
  tokens_ += static_cast<std::int64_t>(ids.size());
  while (!ids.empty()) {
    const std::size_t count = std::min(ids.size(), flushed_tokens - pending_.size());
    pending_.insert(pending_.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
    ids = ids.subspan(count);
    if (pending_.size() == flushed_tokens) flush_tokens(planned_address);
  }
}

void TokenDatasetWriter::end_document() {
  append({&tokenizer_.end_of_document, 1});
  offsets_.push_back(tokens_);
}

/// Converts the pending tokens to dtype_ in place and returns their bytes.
std::span<const std::byte> TokenDatasetWriter::narrow_pending() {
  const std::span bytes = std::as_writable_bytes(std::span(pending_));
  if (dtype_ == DType::u32) return bytes;
  // In ascending order, so that a u16 never overwrites an id that is still unread.
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    const std::uint16_t token = static_cast<std::uint16_t>(pending_[i]);
    std::memcpy(bytes.data() + i * sizeof(token), &token, sizeof(token));
  }
  return bytes.first(pending_.size() * sizeof(std::uint16_t));
}

void TokenDatasetWriter::flush_tokens(std::int64_t address) {
  const std::span<const std::byte> bytes = narrow_pending();
  add_digests(bytes, token_digests_);
  write_bytes(address + written_bytes_, bytes);
  written_bytes_ += static_cast<std::int64_t>(bytes.size());
  pending_.clear();
}

void TokenDatasetWriter::write_bytes(std::int64_t begin, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), begin);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
      throw DataError("{}: {} bytes cannot be written: {}{}", path_.string(), bytes.size(),
                      full ? "no space: " : "", std::strerror(errno));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    begin += written;
  }
}

StoredArray TokenDatasetWriter::write_table(const char* name, std::span<const BinaryDigest> digests) {
  const std::int64_t width = sizeof(BinaryDigest);
  const std::span bytes = std::as_bytes(digests);
  const Hdf5Dataset dataset =
      file_.reserve_dataset(name, DType::u8, {static_cast<std::int64_t>(digests.size()), width});
  write_bytes(dataset.address(), bytes);
  return {DType::u8, static_cast<std::int64_t>(bytes.size()), dataset.address()};
}

void TokenDatasetWriter::finish() {
  if (offsets_.back() != tokens_)
    throw DefectError("{}: the last document of {} tokens has not ended", path_.string(),
                      tokens_ - offsets_.back());
  if (documents() == 0) throw DataError("{}: there is no document to write", path_.string());
  TokenDatasetIndex index{
      .tokenizer = tokenizer_,
      .tokens = {dtype_, tokens_, file_.reserve_dataset("/tokens", dtype_, {tokens_}).address()},
      .document_offsets = {},
      .token_digests = {},
      .offset_digests = {},
      .structures = {},
      .identity = {}};
  if (written_bytes_ > 0 && index.tokens.address != planned_address)
    throw DefectError("{}: HDF5 placed /tokens at byte {}, expected {}", path_.string(), index.tokens.address,
                      planned_address);
  flush_tokens(index.tokens.address);

  const std::int64_t entries = static_cast<std::int64_t>(offsets_.size());
  const Hdf5Dataset offsets = file_.reserve_dataset("/document_offsets", DType::i64, {entries});
  index.document_offsets = {DType::i64, entries, offsets.address()};
  const std::span offset_bytes = std::as_bytes(std::span(offsets_));
  write_bytes(offsets.address(), offset_bytes);
  std::vector<BinaryDigest> offset_digests;
  add_digests(offset_bytes, offset_digests);
  index.token_digests = write_table("/token_digests", token_digests_);
  index.offset_digests = write_table("/offset_digests", offset_digests);
  file_.close();

  index.identity = identity_ = identity_of(index, token_digests_, offset_digests);
  const FileReader written(file_on_disk_.path());
  index.structures = digest_outside(written, index.arrays(), written.size());
  const std::string ending = index_bytes(index);
  write_bytes(written.size(), std::as_bytes(std::span(ending)));
}

void TokenDatasetWriter::publish() {
  file_on_disk_.publish();
}

}  // namespace foretoken
