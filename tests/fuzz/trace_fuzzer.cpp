// Fuzzes read_trace() with the input as a trace.
#include "io/report/trace.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_an_answer([&] { read_trace(fuzz::scratch_file(text)); });
  return 0;
}
