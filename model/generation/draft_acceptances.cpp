#include "model/generation/draft_acceptances.h"

#include <algorithm>

namespace foretoken {

namespace {

constexpr double decay = 0.985;           // factor of a count for each new draft
constexpr double largest_old_weight = 3;  // reduce_weight() scales a count of more drafts to this

}  // namespace

void DraftAcceptances::record(std::size_t depth, std::size_t accepted) {
  for (std::size_t j = 1; j <= std::min(depth, accepted + 1); ++j) {
    Count& count = counts_[j];
    count.drafted = decay * count.drafted + 1;
    count.accepted = decay * count.accepted + (accepted >= j ? 1 : 0);
  }
}

void DraftAcceptances::reduce_weight(int first, int last) {
  for (int j = first; j <= last; ++j) {
    Count& count = counts_[static_cast<std::size_t>(j)];
    const double kept = std::min(1.0, largest_old_weight / std::max(count.drafted, 1.0));
    count.accepted *= kept;
    count.drafted *= kept;
  }
}

double DraftAcceptances::tokens(int depth) const {
  double tokens = 1, all_accepted = 1, share = 0.5;
  for (int j = 1; j <= depth; ++j) {
    const auto [accepted, drafted] = counts_[static_cast<std::size_t>(j)];
    share = (accepted + share) / (drafted + 1);
    all_accepted *= share;
    tokens += all_accepted;
  }
  return tokens;
}

}  // namespace foretoken
