#pragma once
// Models of a few thousand parameters on one rank, for tests.

#include <string>
#include <vector>

#include "model/stage/rank_model.h"
#include "tests/support/numeric.h"

namespace foretoken::testing {

/// A model with C 8, L 2, NH 4, NKV 2, HS 4, F 12, V 11.
ModelConfig tiny_model();

/// Options of the whole model on one rank, in one stage.
RankModelOptions serial_options(const ModelConfig& model, const MtpConfig& mtp, const MicrobatchShape& shape,
                                DType dtype, int slots, bool split_backward = false);

/// An example of every kind of prediction heads and of every variant of a kind, with the given depths.
struct NamedHeads {
  std::string name;
  MtpConfig mtp;
};
std::vector<NamedHeads> every_kind_of_heads(std::int64_t depths);

/// Rows of tokens in [0, vocab); some rows contain a document border.
class TinyBatch {
 public:
  TinyBatch(const MicrobatchShape& shape, std::int64_t depths, std::int64_t vocab_size, std::uint64_t seed,
            bool documents = true);
  MicrobatchInput input() const { return input_; }

 private:
  Arena arena_{DeviceKind::cpu};
  MicrobatchInput input_;
};

/// [D + 1] number of valid targets of each depth in the microbatches.
std::vector<std::int64_t> target_counts(const std::vector<MicrobatchInput>& microbatches, std::int64_t depths,
                                        std::int64_t length);

/// [D + 1] weightₖ / counts[k], where weightₖ is the coefficient of Lₖ in L = L_main + (λ/D)·Σₖ Lₖ.
std::vector<double> gradient_scales(const MtpConfig& mtp, const std::vector<std::int64_t>& counts);

}  // namespace foretoken::testing
