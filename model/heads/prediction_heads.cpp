#include "model/heads/prediction_heads.h"

#include <algorithm>
#include <type_traits>

#include "model/heads/heads_in_turn.h"
#include "model/heads/linear_heads.h"
#include "model/heads/parallel_heads.h"
#include "model/heads/residual_heads.h"
#include "model/heads/sequential_heads.h"
#include "model/layout.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

template <class Heads>
constexpr HeadKind kind_of() {
  return {.parameters = Heads::parameters,
          .cost = Heads::cost,
          .make = [](const HeadsPlan& plan) -> std::unique_ptr<PredictionHeads> {
            return std::make_unique<Heads>(plan);
          },
          .in_turn = std::is_base_of_v<HeadsInTurn, Heads>};
}

}  // namespace

const HeadKind& head_kind(MtpConfig::Kind kind) {
  static const HeadKind sequential = [] {
    HeadKind row = kind_of<SequentialHeads>();
    row.embeds = row.has_block = true;
    return row;
  }();
  static const HeadKind parallel = [] {
    HeadKind row = kind_of<ParallelHeads>();
    row.takes_last_input = row.ends_in_final_norm = row.has_block = true;
    return row;
  }();
  static const HeadKind residual = kind_of<ResidualHeads>();
  static const HeadKind linear = [] {
    HeadKind row = kind_of<LinearHeads>();
    row.owns_matrix = true;
    return row;
  }();
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
  throw DefectError("heads: kind {} is none", static_cast<int>(kind));
}

bool owns_matrix(const MtpConfig& mtp) {
  return head_kind(mtp.kind).owns_matrix || mtp.own_output;
}

ParameterSpec own_matrix(const ModelConfig& model, const std::string& prefix) {
  return {.name = prefix + ".head.weight",
          .shape = {model.vocab_size, model.hidden_size},
          .std = model.initializer_range,
          .gradient_overwritten = true};
}

PredictionHeads::PredictionHeads(const HeadsPlan& plan)
    : detached_(plan.mtp.detach_heads),
      depths_(static_cast<int>(plan.mtp.depths)),
      range_{plan.depths.first, std::min(plan.depths.last, depths_)} {
  if (range_.empty()) return;
  if (owns_matrix(plan.mtp)) {
    for (int depth = first(); depth <= last(); ++depth) {
      const std::string name = own_matrix(plan.model, mtp_prefix(plan.model, plan.mtp, depth)).name;
      own_.push_back({.weight = plan.parameters.weight(name),
                      .gradient = plan.parameters.gradient(name),
                      .begins = true});
    }
    return;
  }
  shared_.weight = plan.parameters.weight(output_matrix_name(plan.model));
  if (!detached_) shared_.gradient = plan.parameters.gradient(output_matrix_name(plan.model));
}

OutputMatrix PredictionHeads::output(int depth) const {
  return own_.empty() ? shared_ : own_[index(depth)];
}

}  // namespace foretoken
