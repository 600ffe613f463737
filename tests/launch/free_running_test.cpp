// Prompts for free-running acceptance, taken from a dataset's rows.

#include "launch/commands/free_running.h"

#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_files.h"

using namespace foretoken;

TEST_CASE("prompts begin at evenly spaced rows, and each is inside one document") {
  const TemporaryFolder folder;
  // Documents of 20, 8, 1, 1 and 30 tokens start at 0, 20, 28, 29, 30.
  const std::vector<std::int64_t> lengths{20, 8, 1, 1, 30};
  write_counting_dataset(folder / "data.h5", lengths, 100);
  const TokenDataset dataset(folder / "data.h5");
  using Prompts = std::vector<std::vector<std::int32_t>>;
  CHECK(free_running_prompts(dataset, {.length = 6, .rows = 9, .count = 3, .tokens = 2}) ==
        Prompts{{0, 1}, {18}, {36, 37}});
  // Rows 0 to 4 start at 0, 6, …: a document starts at 20, inside row 3; the documents at 28 and 29 have no
  // text.
  CHECK(free_running_prompts(dataset, {.length = 6, .rows = 5, .count = 9, .tokens = 4}) ==
        Prompts{{0, 1, 2, 3}, {6, 7, 8, 9}, {12, 13, 14, 15}, {20, 21}, {24, 25, 26}});
  CHECK(free_running_prompts(dataset, {.length = 28, .rows = 2, .count = 2, .tokens = 2}) == Prompts{{0, 1}});
}
