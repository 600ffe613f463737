// Separate from writing shards, because checking them needs no HDF5.
#include "io/checkpoint/checkpoint_shard.h"
#include "io/files/file_reader.h"

namespace foretoken {

std::string digest_outside(const std::filesystem::path& file, std::span<const PieceRecord> pieces) {
  std::vector<Range> inside;
  for (const PieceRecord& piece : pieces)
    if (piece.file == file.filename()) inside.push_back({piece.address, piece.address + piece.bytes()});
  const FileReader reader(file);
  return digest_outside(reader, std::move(inside), reader.size());
}

}  // namespace foretoken
