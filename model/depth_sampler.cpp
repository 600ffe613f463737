#include "model/depth_sampler.h"

#include "model/heads/head_facts.h"

namespace foretoken {

DepthSampler::DepthSampler(const MtpConfig& mtp, std::uint64_t seed)
    : chain_(head_facts(mtp.kind).reads_previous_depth),
      probabilities_(mtp.sample_probabilities),
      rng_(seed, "mtp depths") {}

DepthSet DepthSampler::draw(std::int64_t sample) const {
  DepthSet depths;
  for (std::size_t k = 0; k < probabilities_.size(); ++k) {
    const std::uint64_t number = static_cast<std::uint64_t>(sample) * 64 + (chain_ ? 0 : k);
    if (rng_.uniform(number) < probabilities_[k]) depths.insert(static_cast<int>(k) + 1);
  }
  return depths;
}

void DepthSampler::weigh(std::span<double> scales) const {
  for (std::size_t k = 0; k < probabilities_.size(); ++k) scales[k + 1] /= probabilities_[k];
}

}  // namespace foretoken
