#pragma once
// Checks the identity of a run's data (io/datasets/token_dataset.h): the data must be the same on every rank,
// and the same when a run is resumed.

#include <string>

#include "io/checkpoint/checkpoint_manifest.h"
#include "io/datasets/token_dataset.h"
#include "launch/console/console.h"
#include "parallel/comm/communicator.h"

namespace foretoken {

/// Throws a DataError unless every rank has opened a dataset with the same content: hosts may have their own
/// copies of the file. Warns about a dataset without digests. Collective.
void require_same_on_all_ranks(const TokenDataset& dataset, Communicator& world, Console& console);

/// Throws a DataError naming both paths and identities if the checkpoint was trained or validated on other
/// data; only warns if other data is allowed. Only the content is compared, not the path. Warns if the
/// checkpoint has no identity. A null `validation` is not compared.
void require_same_data(const CheckpointInfo& info, const TokenDataset& training,
                       const TokenDataset* validation, bool allow_other, Console& console);

}  // namespace foretoken
