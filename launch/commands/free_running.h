#pragma once
// Free-running acceptance: the number of the prediction heads' drafts that the model accepts when it
// continues its own text, as in foretoken generate --speculate D --temperature 0.
//
// Prompts come from rows spaced evenly over the evaluated rows: the first half of a row, or its part in one
// document if a document begins inside that half: the document of the half's last token. After each prompt
// the model writes greedily as many tokens as the other half has, at most 128, or until the end of the text.
// All depths, including the last, draft in every round, so acceptance at depth k counts against all rounds.
// The first new token after a prompt is computed without drafts, so it belongs to no round.

#include <string>
#include <vector>

#include "io/datasets/token_dataset.h"
#include "io/report/metrics.h"
#include "launch/config/config.h"
#include "parallel/comm/mpi_communicator.h"

namespace foretoken {

struct PromptRows {
  std::int64_t length = 0;  // tokens of a row
  std::int64_t rows = 0;    // first rows of the dataset that prompts come from
  std::int64_t count = 0;   // prompts, at most
  std::int64_t tokens = 0;  // of a prompt, at most
};

/// The first `tokens` tokens of `count` rows spaced evenly over `rows`, or of all rows if there are fewer.
/// Nothing can continue after an end-of-document token, so a prompt that ends with one is cut before it.
/// Empty prompts are left out.
std::vector<std::vector<std::int32_t>> free_running_prompts(const TokenDataset& dataset,
                                                            const PromptRows& from);

/// Measures the model of the checkpoint at `path`. Each group of `parallel.pp` neighbouring ranks holds one
/// model and takes a part of the `prompts` prompts. The batches are always the same, so the counts do not
/// depend on the layout. Collective over the world; every rank receives the result. `config` is the
/// checkpoint's configuration, with at least one depth.
FreeRunningMetrics free_running(const std::string& path, const Config& config, const TokenDataset& dataset,
                                std::int64_t rows, std::int64_t prompts, MpiCommunicator& world);

}  // namespace foretoken
