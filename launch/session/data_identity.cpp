#include "launch/session/data_identity.h"

#include "launch/session/agreement.h"
#include "runtime/error.h"

namespace foretoken {

void require_same_on_all_ranks(const TokenDataset& dataset, Communicator& world, Console& console) {
  const std::string path = dataset.path().string();
  const std::string first = broadcast_text(world, dataset.identity());
  const std::string message =
      first == dataset.identity()
          ? ""
          : fmt::format("data: {}: the dataset differs between ranks: identity {} on rank {}, {} on rank 0",
                        path, dataset.identity(), world.rank(), first);
  if (const std::string any = first_error(world, message); !any.empty()) throw DataError("{}", any);
  if (!dataset.has_digests())
    console.warn(
        fmt::format("data: {}: format version 1 has no digests, so damage to its tokens is not found; "
                    "foretoken tokenize writes version 2",
                    path));
}

void require_same_data(const CheckpointInfo& info, const TokenDataset& training,
                       const TokenDataset* validation, bool allow_other, Console& console) {
  if (!info.training_data)
    return console.warn(
        "data: the checkpoint, written by an earlier version, has no identity of its data, which is not "
        "compared with this run's data");
  const auto compare = [&](const char* what, const DatasetRecord& before, const TokenDataset& now) {
    if (before.identity == now.identity()) return;
    const std::string difference =
        fmt::format("data: the checkpoint's {} data is {} (identity {}), this run's is {} (identity {})",
                    what, before.path, before.identity, now.path().string(), now.identity());
    if (!allow_other) throw DataError("{}; use --allow-other-data to continue with it", difference);
    console.warn(difference);
  };
  compare("training", *info.training_data, training);
  if (info.validation_data && validation) compare("validation", *info.validation_data, *validation);
}

}  // namespace foretoken
