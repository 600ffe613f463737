#pragma once
// What code needs to know about the kinds of prediction heads without their classes, one row per kind.
// Settings with their help and checks, stored conventions, the start-up table, costs, partition and placement
// read it. heads/head_kinds.h has the functions of the classes.

#include <string_view>
#include <vector>

#include "model/config.h"

namespace foretoken {

/// Name in `mtp.kind` and in checkpoints (runtime/enum_names.h).
constexpr std::string_view name_of(MtpConfig::Kind kind) {
  switch (kind) {
    case MtpConfig::Kind::sequential:
      return "sequential";
    case MtpConfig::Kind::parallel:
      return "parallel";
    case MtpConfig::Kind::residual:
      return "residual";
    case MtpConfig::Kind::linear:
      return "linear";
  }
  return {};
}

struct HeadFacts {
  /// What the heads of the kind are, as part of a sentence: "a chain of MTP modules".
  const char* description = "";
  /// What one depth is called: "MTP module".
  std::string_view (*noun)(const MtpConfig& mtp) = nullptr;
  /// Keys of [mtp] that no other kind has. Checkpoints state the choices among them, and the flags that are
  /// set, as conventions.
  std::vector<const char*> settings = {};
  /// Forward FLOPs per token of one depth without its output matrix, if a block costs `block`.
  double (*cost)(const ModelConfig& model, const MtpConfig& mtp, double block) = nullptr;
  bool reads_embedding = false;       // reads the embedding table
  bool reads_previous_depth = false;  // depth k reads the hidden state of depth k − 1
  bool reads_last_input = false;      // reads the last block's input; the main head's stage must hold it
  bool ends_in_final_norm = false;    // a depth applies the main model's final norm
  bool owns_matrix = false;           // a depth always has its own output matrix
  bool has_block = false;             // a depth has a decoder block
  bool in_turn = false;  // forward, loss and backward of a depth run in the microbatch's backward
};
const HeadFacts& head_facts(MtpConfig::Kind kind);

/// Whether every depth has its own output matrix.
bool owns_matrix(const MtpConfig& mtp);

}  // namespace foretoken
