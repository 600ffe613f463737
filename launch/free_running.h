#pragma once
// Free-running acceptance: how many drafts of the prediction heads the model keeps where drafts go on from
// drafts, over text that it writes itself, as foretoken generate --speculate D --temperature 0 does it.
//
// Prompts are cut from rows spaced evenly over those that are evaluated: the first half of a row, and of that
// what lies in the document of its last token. After each the model writes greedily as many tokens as the
// other half has, at most 128, or to the end of the text. All depths draft in every round, the last one
// included, so that what is kept at depth k counts against all rounds; a prompt's first new token comes
// without drafts and is of no round.

#include <string>
#include <vector>

#include "io/metrics.h"
#include "io/token_dataset.h"
#include "launch/config.h"
#include "parallel/mpi_communicator.h"

namespace foretoken {

/// Prompts of up to `tokens` tokens from the beginnings of `count` rows spaced evenly over the first `rows`
/// of `length` tokens, of all rows where there are fewer. An end-of-document token, after which a text has
/// nothing to go on from, is none to end with: the prompt is cut before it. Empty ones are left out.
std::vector<std::vector<std::int32_t>> free_running_prompts(const TokenDataset& dataset, std::int64_t length,
                                                            std::int64_t rows, std::int64_t count,
                                                            std::int64_t tokens);

/// With the model of the checkpoint at `path`: every `parallel.pp` neighbouring ranks spread it over
/// themselves and take a share of `prompts` prompts, always in the same batches, so that what is counted does
/// not depend on the layout. Collective over the world; every rank gets the result. The config is the
/// checkpoint's, with at least one depth.
FreeRunningMetrics free_running(const std::string& path, const Config& config, const TokenDataset& dataset,
                                std::int64_t rows, std::int64_t prompts, MpiCommunicator& world);

}  // namespace foretoken
