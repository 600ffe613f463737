#pragma once
// The data of a run by its identity (io/token_dataset.h): the same on every rank, and the same when a run is
// resumed.

#include <string>

#include "io/checkpoint_manifest.h"
#include "io/token_dataset.h"
#include "launch/console.h"
#include "parallel/communicator.h"

namespace foretoken {

/// A DataError unless every rank has opened a dataset of the same content: hosts may hold copies of their
/// own. Warns of a dataset without digests. Collective.
void require_same_on_all_ranks(const TokenDataset& dataset, Communicator& world, Console& console);

/// A DataError naming both paths and identities where the checkpoint was trained or validated on other data;
/// a warning instead where other data is allowed. The same content at another path is the same data. Where
/// the checkpoint keeps no identity a warning says so. `validation` may be null: then it is not compared.
void require_same_data(const CheckpointInfo& info, const TokenDataset& training,
                       const TokenDataset* validation, bool allow_other, Console& console);

}  // namespace foretoken
