#include <limits>

#include "io/hdf5.h"
#include "io/token_store.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

TokenizerIdentity read_tokenizer(const Hdf5File& file) {
  const std::string path = file.file_path().string();
  if (!file.has_attribute("format") || file.string_attribute("format") != token_dataset_format)
    throw DataError("{}: is not a token dataset (attribute format is not \"{}\")", path,
                    token_dataset_format);
  const std::int64_t version = file.i64_attribute("format_version");
  if (version == token_dataset_version)
    throw DataError("{}: the index at its end is missing: the file is cut, or was changed", path);
  if (version != 1)
    throw DataError("{}: format_version is {}, this program reads 1 and {}", path, version,
                    token_dataset_version);
  TokenizerIdentity tokenizer;
  tokenizer.name = file.string_attribute("tokenizer_name");
  tokenizer.digest = file.string_attribute("tokenizer_digest");
  tokenizer.vocab_size = file.i64_attribute("vocab_size");
  const std::int64_t end = file.i64_attribute("end_of_document");
  if (end < 0 || end > std::numeric_limits<std::int32_t>::max())
    throw DataError("{}: end_of_document is {}, outside of every vocabulary", path, end);
  tokenizer.end_of_document = static_cast<std::int32_t>(end);
  return tokenizer;
}

Hdf5Dataset open_tokens(const Hdf5File& file) {
  Hdf5Dataset tokens = file.dataset("/tokens");
  if (tokens.shape().rank() != 1 || (tokens.dtype() != DType::u16 && tokens.dtype() != DType::u32))
    throw DataError("{}: /tokens: is {} of {}, expected one dim of u16 or u32", file.file_path().string(),
                    to_string(tokens.shape()), name_of(tokens.dtype()));
  return tokens;
}

std::vector<std::int64_t> read_offsets(const Hdf5File& file) {
  const Hdf5Dataset dataset = file.dataset("/document_offsets");
  if (dataset.shape().rank() != 1 || dataset.dtype() != DType::i64 || dataset.shape()[0] < 2)
    throw DataError("{}: /document_offsets: is {} of {}, expected at least two of i64",
                    file.file_path().string(), to_string(dataset.shape()), name_of(dataset.dtype()));
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(dataset.shape()[0]));
  dataset.read(tensor_over(std::span(offsets), dataset.shape()));
  return offsets;
}

/// Of what is known without reading the tokens.
std::string identity_of(const TokenDatasetHeader& header) {
  const std::string head = fmt::format(
      "{} 1\n{}\n{}\n{}\n{}\n{}\n{}\n", token_dataset_format, header.tokenizer.name, header.tokenizer.digest,
      header.tokenizer.vocab_size, header.tokenizer.end_of_document, name_of(header.dtype), header.tokens);
  DigestStream stream;
  stream.add(std::as_bytes(std::span(head)));
  stream.add(std::as_bytes(std::span(header.offsets)));
  return stream.digest();
}

class PlainTokens : public TokenStore {
 public:
  explicit PlainTokens(FileReader file)
      : watched_(std::move(file)),
        opened_(watched_.state()),
        file_(Hdf5File::open(watched_.path())),
        tokenizer_(read_tokenizer(file_)),
        tokens_(open_tokens(file_)) {
    header_ = {.version = 1,
               .tokenizer = tokenizer_,
               .dtype = tokens_.dtype(),
               .tokens = tokens_.shape()[0],
               .offsets = read_offsets(file_),
               .identity = {}};
    check_header(file_.file_path(), header_);
    header_.identity = identity_of(header_);
  }

  void read(std::int64_t begin, std::span<std::int32_t> out) const override {
    std::byte* stored =
        std::as_writable_bytes(out).data() + out.size_bytes() - out.size() * size_of(header_.dtype);
    tokens_.read(begin,
                 Tensor{stored, header_.dtype, DeviceKind::cpu, {static_cast<std::int64_t>(out.size())}});
    // HDF5 fills what a cut file lacks with zeros, and without digests nothing else tells.
    if (watched_.state() != opened_)
      throw DataError(
          "{}: /tokens: tokens {} to {}: the file was changed since it was opened ({} bytes then, "
          "{} now)",
          file_.file_path().string(), begin, begin + static_cast<std::int64_t>(out.size()) - 1, opened_.size,
          watched_.size());
    widen_tokens(stored, out, begin, header_, file_.file_path());
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
  FileReader watched_;
  FileReader::State opened_;
  Hdf5File file_;
  TokenizerIdentity tokenizer_;
  Hdf5Dataset tokens_;
};

}  // namespace

std::unique_ptr<TokenStore> open_plain_tokens(FileReader file) {
  return std::make_unique<PlainTokens>(std::move(file));
}

}  // namespace foretoken
