// Fuzzes read_branch() with the input as branch.json, and again with a digest that matches the input.
#include <nlohmann/json.hpp>

#include "io/checkpoint/checkpoint_manifest.h"
#include "io/files/bounded_json.h"
#include "io/files/digest.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

namespace {

std::string with_digest(std::string_view text) {
  try {
    nlohmann::json json = parse_json_bounded(text);
    json.erase("digest");
    json["digest"] = digest_of(json.dump());
    return json.dump();
  } catch (const std::exception&) {
    return std::string(text);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const std::string& form : {std::string(text), with_digest(text)})
    fuzz::expect_an_answer([&] {
      const BranchRecord record = read_branch(fuzz::scratch_file(form));
      branch_text(record);
    });
  return 0;
}
