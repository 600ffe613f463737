#include "model/parameter_names.h"

#include <fmt/format.h>

namespace foretoken {

const char* output_matrix_name(const ModelConfig& model) {
  return model.tie_word_embeddings ? embedding_name : head_name;
}

std::string block_prefix(std::int64_t layer) {
  return fmt::format("model.layers.{}", layer);
}

std::string mtp_prefix(const ModelConfig& model, const MtpConfig& mtp, std::int64_t depth) {
  return block_prefix(model.num_hidden_layers + (mtp.repeat ? 1 : depth) - 1);
}

}  // namespace foretoken
