// Fuzzes read_manifest() with the input as manifest.json, and again with a digest that matches the input.
#include "io/checkpoint/checkpoint_manifest.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/signed_manifest.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const std::string& form : {std::string(text), fuzz::signed_manifest(text)})
    fuzz::expect_an_answer([&] {
      const CheckpointManifest manifest = read_manifest(fuzz::scratch_file(form));
      to_string(manifest.info.grid);
      fuzz::require_printable(manifest_text(manifest));
    });
  return 0;
}
