#include "launch/session/data_identity.h"

#include <fmt/format.h>

#include "launch/session/agreement.h"
#include "runtime/error.h"
#include "tests/support/multi_rank.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_files.h"

using namespace foretoken;

namespace {

/// The message of the DataError that is thrown on this rank; empty if none is.
std::string refusal(const TokenDataset& dataset, MpiCommunicator& world) {
  Console silent(false);
  try {
    require_same_on_all_ranks(dataset, world, silent);
  } catch (const DataError& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("ranks whose copies of a dataset differ all get an error that names them", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TemporaryFolder folder;  // this rank's own folder
  write_counting_dataset(folder / "same.h5", std::vector<std::int64_t>{50, 7}, 257);
  CHECK(refusal(TokenDataset(folder / "same.h5"), world).empty());
  write_counting_dataset(folder / "other.h5", std::vector<std::int64_t>{50, 7 + world.rank()}, 257);
  const TokenDataset other(folder / "other.h5");
  const std::string message = refusal(other, world);
  CHECK_THAT(message, testing::contains(" on rank 1, ") &&
                          testing::contains("the dataset differs between ranks: identity ") &&
                          testing::contains(broadcast_text(world, other.identity())));
}
