#pragma once
// Compares a model that runs here with values that PyTorch computed with transformers' Llama layers in fp32
// (tests/golden/make_model_golden.py).

#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "runtime/arena.h"
#include "runtime/stream.h"

namespace foretoken::testing {

struct GoldenCase {
  std::string name;
  MtpConfig mtp;
  std::size_t head_tensors = 0;  // number of parameters (tensors) of the depths k > 0
  bool tied = false;
  bool within_documents = false;
};
const std::vector<GoldenCase>& golden_cases();

struct GoldenComparison {
  std::string object;  // name of the compared values: "logits/1", "losses", "gradients/model.norm.weight"
  Tensor actual, expected;    // on the CPU, f32, losses f64
  double rounding_noise = 0;  // largest relative error of PyTorch's value under random roundings to bf16
  std::shared_ptr<Arena> arena;
};
/// Runs one step with the golden weights and tokens; returns the comparisons of every
/// depth's logits, of the mean losses and of every gradient.
std::vector<GoldenComparison> run_golden(Stream& stream, const GoldenCase& golden, DType activations);

}  // namespace foretoken::testing
