#include "launch/commands/document_split.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/error.h"
#include "runtime/plural.h"
#include "runtime/random.h"

namespace foretoken {

std::vector<bool> held_out_documents(std::span<const std::int64_t> tokens_of_document, double fraction) {
  const std::size_t documents = tokens_of_document.size();
  const CounterRng random(0, "validation documents");
  std::vector<double> draws(documents);
  for (std::size_t i = 0; i < documents; ++i) draws[i] = random.uniform(i);
  std::vector<std::size_t> order(documents);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return draws[a] < draws[b]; });

  const auto all = std::accumulate(tokens_of_document.begin(), tokens_of_document.end(), std::int64_t{0});
  double missing = fraction * static_cast<double>(all);
  std::vector<bool> held_out(documents);
  const auto tokens = [&](std::size_t document) { return static_cast<double>(tokens_of_document[document]); };
  const auto hold_out = [&](std::size_t document) {
    held_out[document] = true;
    missing -= tokens(document);
  };
  for (const std::size_t document : order)
    if (tokens(document) <= missing) hold_out(document);
  // Every document that is left has more tokens than are missing; the shortest exceeds the target least.
  std::erase_if(order, [&](std::size_t document) { return held_out[document]; });
  const auto shortest = std::min_element(order.begin(), order.end(),
                                         [&](std::size_t a, std::size_t b) { return tokens(a) < tokens(b); });
  if (shortest != order.end() && std::abs(missing - tokens(*shortest)) < missing) hold_out(*shortest);
  return held_out;
}

DocumentSplit::DocumentSplit(std::vector<DocumentRecord> documents, double fraction)
    : documents_(std::move(documents)) {
  std::vector<std::int64_t> tokens;
  tokens.reserve(documents_.size());
  for (const DocumentRecord& document : documents_) tokens.push_back(document.tokens);
  held_out_ = held_out_documents(tokens, fraction);
}

void DocumentSplit::require_same(std::size_t document, const DocumentRecord& read,
                                 const std::filesystem::path& path) const {
  if (document >= documents_.size())
    throw DataError(
        "tokenize: {}: document {} is new: the text had {} when it was read before; run tokenize again",
        path.string(), document + 1, counted(documents_.size(), "document"));
  const DocumentRecord& before = documents_[document];
  if (read == before) return;
  throw DataError(
      "tokenize: {}: the text changed while it was read: {} (digest {}), before {} ({}); run "
      "tokenize again",
      path.string(), counted(read.tokens, "token"), abbreviated(to_string(read.text)), before.tokens,
      abbreviated(to_string(before.text)));
}

void DocumentSplit::require_count(std::size_t documents) const {
  if (documents != documents_.size())
    throw DataError("tokenize: the text changed while it was read: {}, before {}; run tokenize again",
                    counted(documents, "document"), documents_.size());
}

}  // namespace foretoken
