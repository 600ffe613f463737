#include "io/checkpoint/checkpoint_reader.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <set>

#include "io/checkpoint/checkpoint_shard.h"
#include "io/files/digest.h"
#include "io/files/file_reader.h"
#include "runtime/error.h"

namespace foretoken {

namespace fs = std::filesystem;

namespace {

/// Says how the file's size on disk differs from its size in the manifest; empty if it does not.
std::string size_error(const fs::path& path, const ShardFile& file) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return "is missing";
  const std::uintmax_t bytes = fs::file_size(path, error);
  if (error) return error.message();
  if (bytes == static_cast<std::uintmax_t>(file.bytes)) return {};
  return fmt::format("{} ({} bytes in the manifest, {} on disk)",
                     bytes < static_cast<std::uintmax_t>(file.bytes) ? "truncated" : "longer than written",
                     file.bytes, bytes);
}

bool readable_as(DType wanted, DType stored) {
  const auto either = [](DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; };
  return stored == wanted || (either(stored) && either(wanted));
}

/// Converts the elements at `from`, of dtype `stored`, into `out`.
void take(const std::byte* from, DType stored, const Tensor& out) {
  const auto converted = [&]<class From, class To>(const From* in, std::span<To> to) {
    std::transform(in, in + to.size(), to.begin(), [](From x) { return static_cast<To>(x); });
  };
  if (stored == out.dtype)
    std::memcpy(out.data, from, out.bytes());
  else if (stored == DType::f32)
    converted(reinterpret_cast<const float*>(from), out.span<BFloat16>());
  else
    converted(reinterpret_cast<const BFloat16*>(from), out.span<float>());
}

}  // namespace

Checkpoint::Checkpoint(fs::path directory, CheckpointManifest manifest)
    : directory_(std::move(directory)), manifest_(std::move(manifest)) {
  for (const PieceRecord& piece : manifest_.pieces) tensors_[{piece.kind, piece.tensor}].push_back(piece);
  for (auto& [key, pieces] : tensors_)
    std::sort(pieces.begin(), pieces.end(),
              [](const PieceRecord& a, const PieceRecord& b) { return a.range.begin < b.range.begin; });
}

Checkpoint Checkpoint::open(const fs::path& directory) {
  fs::path clean = directory.lexically_normal();
  if (!clean.has_filename()) clean = clean.parent_path();
  std::error_code error;
  if (!fs::is_directory(clean, error))
    throw DataError("checkpoint {}: {}", directory.string(),
                    fs::exists(clean, error) ? "is not a directory" : "there is no such directory");
  if (clean.extension() == ".tmp")
    throw DataError("checkpoint {}: was never completed (its name ends in .tmp)", directory.string());
  if (!fs::is_regular_file(clean / manifest_name, error))
    throw DataError("checkpoint {}: has no {}", directory.string(), manifest_name);
  Checkpoint checkpoint(clean, read_manifest(clean / manifest_name));
  std::set<std::string> needed;
  for (const PieceRecord& piece : checkpoint.manifest_.pieces) needed.insert(piece.file);
  for (const ShardFile& file : checkpoint.manifest_.files)
    if (needed.contains(file.name))
      if (const std::string message = size_error(clean / file.name, file); !message.empty())
        throw DataError("{}: {}", checkpoint.label(file.name), message);
  return checkpoint;
}

bool Checkpoint::has(const std::string& kind, const std::string& tensor) const {
  return tensors_.contains({kind, tensor});
}

const std::vector<PieceRecord>& Checkpoint::pieces(const std::string& kind, const std::string& tensor) const {
  const auto found = tensors_.find({kind, tensor});
  if (found == tensors_.end())
    throw DataError("checkpoint {}: has no {}", directory_.string(), describe(kind, tensor));
  return found->second;
}

void Checkpoint::read(const std::string& kind, const std::string& tensor, const Range& range,
                      const Tensor& out) const {
  const std::vector<PieceRecord>& parts = pieces(kind, tensor);
  const PieceRecord& any = parts.front();
  const std::string name = describe(kind, tensor);
  if (range.begin < 0 || range.size() < 0 || range.end > any.shape.elements())
    throw DataError("checkpoint {}: {}: elements [{}, {}) are out of range for shape {}", directory_.string(),
                    name, range.begin, range.end, to_string(any.shape));
  if (!readable_as(out.dtype, any.dtype))
    throw DataError("checkpoint {}: {}: has dtype {}, expected {}", directory_.string(), name,
                    name_of(any.dtype), name_of(out.dtype));
  if (out.elements() != range.size() || out.device != DeviceKind::cpu)
    throw DefectError("checkpoint: {}: cannot read {} elements into a tensor of shape {}", name, range.size(),
                      to_string(out.shape));

  for (const PieceRecord& piece : parts) {
    const Range wanted = intersection(piece.range, range);
    if (wanted.empty()) continue;
    read_piece(piece, [&](const Range& block, const std::byte* bytes) {
      const Range part = intersection(wanted, block);
      if (part.empty()) return;
      take(bytes + static_cast<std::size_t>(part.begin - block.begin) * size_of(any.dtype), any.dtype,
           out.flat(part.begin - range.begin, part.size()));
    });
  }
}

/// Reads in blocks, so that a piece of many GB needs little memory.
template <class Take>
void Checkpoint::read_piece(const PieceRecord& piece, const Take& take_block) const {
  const auto element = static_cast<std::int64_t>(size_of(piece.dtype));
  const std::int64_t elements_a_block = (std::int64_t{4} << 20) / element;
  const FileReader file(directory_ / piece.file);
  std::vector<std::byte> buffer(
      static_cast<std::size_t>(std::min(piece.range.size(), elements_a_block) * element));
  DigestStream digest;
  for (std::int64_t begin = piece.range.begin; begin < piece.range.end; begin += elements_a_block) {
    const Range block{begin, std::min(piece.range.end, begin + elements_a_block)};
    const std::span bytes = std::span(buffer).first(static_cast<std::size_t>(block.size() * element));
    file.read(piece.address + (begin - piece.range.begin) * element, bytes);
    digest.add(bytes);
    take_block(block, bytes.data());
  }
  if (const std::string actual = digest.digest(); actual != piece.digest)
    throw DataError("{}: {}: digest differs (manifest {}, file {})", label(piece.file),
                    describe(piece.kind, piece.tensor), abbreviated(piece.digest), abbreviated(actual));
}

std::vector<std::string> Checkpoint::verify(int part, int parts) const {
  std::vector<std::string> failures;
  for (std::size_t i = static_cast<std::size_t>(part); i < manifest_.files.size();
       i += static_cast<std::size_t>(parts)) {
    const ShardFile& file = manifest_.files[i];
    if (const std::string message = size_error(directory_ / file.name, file); !message.empty()) {
      failures.push_back(fmt::format("{}: {}", label(file.name), message));
      continue;
    }
    for (const PieceRecord& piece : manifest_.pieces) {
      if (piece.file != file.name) continue;
      try {
        read_piece(piece, [](const Range&, const std::byte*) {});
      } catch (const DataError& error) {
        failures.push_back(error.what());
      }
    }
    try {
      if (const std::string actual = digest_outside(directory_ / file.name, manifest_.pieces);
          actual != file.digest)
        failures.push_back(fmt::format("{}: HDF5 structures: digest differs (manifest {}, file {})",
                                       label(file.name), abbreviated(file.digest), abbreviated(actual)));
    } catch (const std::exception& error) {
      failures.push_back(error.what());
    }
  }
  return failures;
}

/// Example: "step_00000400/shard_00002.h5".
std::string Checkpoint::label(const std::string& file) const {
  return (directory_.filename() / file).string();
}

}  // namespace foretoken
