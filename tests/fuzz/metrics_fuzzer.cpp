// Fuzzes read_metrics() with the input as metrics.jsonl, and csv_line() with the input as a field.
#include "io/report/csv.h"
#include "io/report/metrics_history.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_an_answer([&] {
    const MetricsHistory history = read_metrics(fuzz::scratch_file(text));
    history.tokens_at(3);
    history.seconds_at(3);
  });
  csv_line({text, "1"});
  return 0;
}
