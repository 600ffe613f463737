#include "model/heads/head_facts.h"

#include "runtime/error.h"

namespace foretoken {

const HeadFacts& head_facts(MtpConfig::Kind kind) {
  static const HeadFacts sequential{.description = "a chain of MTP modules",
                                    .noun = [](const MtpConfig&) -> std::string_view { return "MTP module"; },
                                    .settings = {"repeat", "concat", "trunk_hidden", "recycled_hidden"},
                                    .cost =
                                        [](const ModelConfig& model, const MtpConfig&, double block) {
                                          const auto c = static_cast<double>(model.hidden_size);
                                          return block + 4 * c * c;
                                        },
                                    .reads_embedding = true,
                                    .reads_previous_depth = true,
                                    .has_block = true};
  static const HeadFacts parallel{
      .description = "blocks parallel to the last one",
      .noun = [](const MtpConfig&) -> std::string_view { return "parallel head"; },
      .cost = [](const ModelConfig&, const MtpConfig&, double block) { return block; },
      .reads_last_input = true,
      .ends_in_final_norm = true,
      .has_block = true,
      .in_turn = true};
  static const HeadFacts residual{
      .description = "small residual networks",
      .noun = [](const MtpConfig& mtp) -> std::string_view {
        return mtp.residual_form == MtpConfig::ResidualForm::mlp ? "residual head" : "Medusa head";
      },
      .settings = {"residual_form", "own_output"},
      .cost =
          [](const ModelConfig& model, const MtpConfig& mtp, double) {
            const auto c = static_cast<double>(model.hidden_size);
            const auto f = static_cast<double>(model.intermediate_size);
            return mtp.residual_form == MtpConfig::ResidualForm::mlp ? 4 * c * f : 2 * c * c;
          },
      .in_turn = true};
  static const HeadFacts linear{.description = "output matrices alone",
                                .noun = [](const MtpConfig&) -> std::string_view { return "linear head"; },
                                .cost = [](const ModelConfig&, const MtpConfig&, double) { return 0.0; },
                                .owns_matrix = true,
                                .in_turn = true};
  switch (kind) {
    case MtpConfig::Kind::sequential:
      return sequential;
    case MtpConfig::Kind::parallel:
      return parallel;
    case MtpConfig::Kind::residual:
      return residual;
    case MtpConfig::Kind::linear:
      return linear;
  }
  throw DefectError("heads: unknown kind {}", static_cast<int>(kind));
}

bool owns_matrix(const MtpConfig& mtp) {
  return head_facts(mtp.kind).owns_matrix || mtp.own_output;
}

}  // namespace foretoken
