// Fuzzes flight records, one or more with a zero byte between them: parses them and builds the message about
// stuck ranks.
#include "io/files/printable.h"
#include "parallel/flight/flight_sentence.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_an_answer([&] {
    std::vector<FlightFile> files;
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find('\0', begin), text.size());
      files.push_back(parse_flight_file(std::string(text.substr(begin, end - begin)), "rank.txt"));
      files.back().record.rank = static_cast<int>(files.size()) - 1;  // each rank has one record
      begin = end + 1;
    }
    const int ranks = static_cast<int>(files.size()) + 1;  // the last rank has no record
    fuzz::require_printable(printable(sentence(first_divergence(files, ranks), files, ranks)));
    to_text(files.front());
  });
  return 0;
}
