#pragma once
// Names of the enumerators in the model's configuration, as settings write them (runtime/enum_names.h). The
// kinds of prediction heads have theirs in model/heads/head_facts.h.

#include <string_view>

#include "model/config.h"
#include "runtime/enum_names.h"

namespace foretoken {

constexpr std::string_view name_of(MtpConfig::Concat concat) {
  switch (concat) {
    case MtpConfig::Concat::embedding_first:
      return "embedding_first";
    case MtpConfig::Concat::hidden_first:
      return "hidden_first";
  }
  return {};
}

constexpr std::string_view name_of(MtpConfig::Hidden hidden) {
  switch (hidden) {
    case MtpConfig::Hidden::normed:
      return "normed";
    case MtpConfig::Hidden::raw:
      return "raw";
  }
  return {};
}

constexpr std::string_view name_of(MtpConfig::ResidualForm form) {
  switch (form) {
    case MtpConfig::ResidualForm::mlp:
      return "mlp";
    case MtpConfig::ResidualForm::medusa:
      return "medusa";
  }
  return {};
}

constexpr std::string_view name_of(MtpConfig::Placement placement) {
  switch (placement) {
    case MtpConfig::Placement::last:
      return "last";
    case MtpConfig::Placement::own_stage:
      return "own_stage";
    case MtpConfig::Placement::stage_per_depth:
      return "stage_per_depth";
  }
  return {};
}

constexpr std::string_view name_of(MtpConfig::Weighting weighting) {
  switch (weighting) {
    case MtpConfig::Weighting::mean:
      return "mean";
    case MtpConfig::Weighting::per_depth:
      return "per_depth";
    case MtpConfig::Weighting::inverse_distance:
      return "inverse_distance";
  }
  return {};
}

constexpr std::string_view name_of(MtpConfig::ScheduleForm form) {
  switch (form) {
    case MtpConfig::ScheduleForm::constant:
      return "constant";
    case MtpConfig::ScheduleForm::linear:
      return "linear";
  }
  return {};
}

constexpr std::string_view name_of(MtpConfig::Balance balance) {
  switch (balance) {
    case MtpConfig::Balance::none:
      return "none";
    case MtpConfig::Balance::dynamic:
      return "dynamic";
    case MtpConfig::Balance::sampling:
      return "sampling";
  }
  return {};
}

constexpr std::string_view name_of(Recompute recompute) {
  switch (recompute) {
    case Recompute::none:
      return "none";
    case Recompute::selective:
      return "selective";
    case Recompute::full:
      return "full";
  }
  return {};
}

constexpr std::string_view name_of(Fp8Recipe recipe) {
  switch (recipe) {
    case Fp8Recipe::tensor:
      return "tensor";
    case Fp8Recipe::block:
      return "block";
  }
  return {};
}

}  // namespace foretoken
