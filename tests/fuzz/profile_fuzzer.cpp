// Fuzzes the readers of device profiles and of a machine's links with the input as the file.
#include "launch/profile/device_profile.h"
#include "launch/profile/machine_links.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_an_answer([&] { profile_from(to_json_text(profile_from(text, "profile.json")), "again"); });
  fuzz::expect_an_answer([&] { machine_links_from(text, "links.json"); });
  return 0;
}
