#pragma once
// Names of the enumerators that settings choose among (runtime/enum_names.h); those of the model's
// configuration are in model/config_names.h.

#include <string_view>

#include "launch/config/config.h"
#include "runtime/enum_names.h"

namespace foretoken {

constexpr std::string_view name_of(DataConfig::Attention attention) {
  switch (attention) {
    case DataConfig::Attention::document:
      return "document";
    case DataConfig::Attention::row:
      return "row";
  }
  return {};
}

constexpr std::string_view name_of(TrainConfig::Freeze freeze) {
  switch (freeze) {
    case TrainConfig::Freeze::none:
      return "none";
    case TrainConfig::Freeze::trunk:
      return "trunk";
  }
  return {};
}

constexpr std::string_view name_of(TrainConfig::Precision precision) {
  switch (precision) {
    case TrainConfig::Precision::automatic:
      return "auto";
    case TrainConfig::Precision::f32:
      return "f32";
    case TrainConfig::Precision::bf16:
      return "bf16";
    case TrainConfig::Precision::fp8:
      return "fp8";
  }
  return {};
}

constexpr std::string_view name_of(OptimizerSettings::Schedule schedule) {
  switch (schedule) {
    case OptimizerSettings::Schedule::constant:
      return "constant";
    case OptimizerSettings::Schedule::cosine:
      return "cosine";
    case OptimizerSettings::Schedule::wsd:
      return "wsd";
  }
  return {};
}

constexpr std::string_view name_of(OptimizerSettings::Moments moments) {
  switch (moments) {
    case OptimizerSettings::Moments::f32:
      return "f32";
    case OptimizerSettings::Moments::bf16:
      return "bf16";
  }
  return {};
}

constexpr std::string_view name_of(RunConfig::Device device) {
  switch (device) {
    case RunConfig::Device::automatic:
      return "auto";
    case RunConfig::Device::cpu:
      return "cpu";
    case RunConfig::Device::cuda:
      return "cuda";
  }
  return {};
}

}  // namespace foretoken
