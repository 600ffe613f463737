#include "io/checkpoint/checkpoint_shard.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <hdf5.h>

#include "io/files/digest.h"
#include "io/hdf5/hdf5.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// Checks that the name is a single link of an HDF5 path and has no character that virtual datasets
/// interpret.
void check_name(const std::string& name, const CheckpointPiece& piece) {
  if (name.empty() || name == "." || name.find_first_of("/%@") != std::string::npos)
    throw DefectError("checkpoint: '{}' of '{}': a name must not be empty or contain / % @", piece.kind,
                      piece.tensor);
}

bool whole(const PieceRecord& record) {
  return record.range.size() == record.shape.elements();
}

void write_global_shape(Hdf5Dataset& dataset, const Shape& shape) {
  const hsize_t rank = static_cast<hsize_t>(shape.rank());
  const Hdf5Id space(H5Screate_simple(1, &rank, nullptr), H5Sclose);
  const Hdf5Id attribute(
      H5Acreate2(dataset.id(), "global_shape", H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT),
      H5Aclose);
  if (attribute.get() < 0 || H5Awrite(attribute.get(), H5T_NATIVE_INT64, shape.dims().data()) < 0)
    throw_hdf5_error(dataset.file_path(), dataset.name(), "attribute global_shape cannot be written");
}

}  // namespace

std::string shard_name(int rank) {
  return fmt::format("shard_{:05}.h5", rank);
}

std::string vote_name(int rank) {
  return fmt::format("shard_{:05}.json", rank);
}

PieceRecord record_of(const CheckpointPiece& piece, const std::string& file) {
  check_name(piece.kind, piece);
  check_name(piece.tensor, piece);
  const std::string name = describe(piece.kind, piece.tensor);
  const std::int64_t elements = piece.shape.elements();
  if (piece.shape.rank() == 0 || elements == 0)
    throw DefectError("checkpoint: {}: a tensor of shape {} cannot be saved", name, to_string(piece.shape));
  const Range range = piece.range;
  if (range.begin < 0 || range.size() < 0 || range.end > elements)
    throw DefectError("checkpoint: {}: elements [{}, {}) are out of range for shape {}", name, range.begin,
                      range.end, to_string(piece.shape));
  if (!range.empty() && (!piece.data.defined() || piece.data.elements() != range.size()))
    throw DefectError("checkpoint: {}: elements [{}, {}) need {} elements, the data has shape {}", name,
                      range.begin, range.end, range.size(), to_string(piece.data.shape));
  PieceRecord record{piece.kind, piece.tensor, piece.shape, piece.data.dtype, range, file, {}, 0, {}};
  record.dataset = fmt::format("/{}/{}", piece.kind, piece.tensor);
  if (!whole(record)) record.dataset += fmt::format("@{}", range.begin);
  return record;
}

ShardFile write_shard(const std::filesystem::path& file, std::span<PieceRecord> records,
                      std::span<const Tensor> data, const std::function<void()>& halfway) {
  Hdf5File shard = Hdf5File::create(file);
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (i == records.size() / 2) halfway();
    PieceRecord& record = records[i];
    const Tensor values = data[i].view(whole(record) ? record.shape : Shape{record.range.size()});
    record.digest = digest_of({static_cast<const std::byte*>(values.data), values.bytes()});
    Hdf5Dataset dataset = shard.create_dataset(record.dataset, values.dtype, values.shape);
    if (!whole(record)) {
      write_global_shape(dataset, record.shape);
      dataset.write_attribute("offset", record.range.begin);
    }
    dataset.write(values);
    record.address = dataset.address();
  }
  shard.close();
  return {file.filename().string(), static_cast<std::int64_t>(std::filesystem::file_size(file)),
          digest_outside(file, records)};
}

}  // namespace foretoken
