// Fuzzes a checkpoint's folder. The input is the manifest's text, a zero byte and the bytes of
// shard_00000.h5. The manifest gets a digest that matches it.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "io/checkpoint/checkpoint_reader.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/signed_manifest.h"

using namespace foretoken;

namespace {

struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = "/dev/shm/foretoken-fuzz-XXXXXX";
    if (!mkdtemp(name.data())) std::abort();
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

void write(const std::filesystem::path& file, std::string_view text) {
  std::ofstream(file, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(input.find('\0'), input.size());
  write(folder.path / "manifest.json", fuzz::signed_manifest(input.substr(0, end)));
  write(folder.path / "shard_00000.h5", input.substr(std::min(end + 1, input.size())));
  fuzz::expect_an_answer([&] {
    const Checkpoint checkpoint = Checkpoint::open(folder.path);
    checkpoint.verify();
    for (const PieceRecord& piece : checkpoint.manifest().pieces) {
      std::vector<std::byte> out(static_cast<std::size_t>(piece.bytes()));
      checkpoint.read(piece.kind, piece.tensor, piece.range,
                      Tensor{out.data(), piece.dtype, DeviceKind::cpu, {piece.range.size()}});
    }
  });
  return 0;
}
