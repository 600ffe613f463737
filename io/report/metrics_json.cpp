#include "io/report/metrics_json.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include "runtime/host/utc_time.h"

namespace foretoken {
namespace {

using Json = nlohmann::ordered_json;

void put(Json& object, const std::string& name, double value) {
  if (std::isfinite(value)) {
    object[name] = value;
    return;
  }
  object[name] = nullptr;
  object[name + "_text"] = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

void put_losses(Json& object, double loss, const std::vector<double>& depth_losses) {
  put(object, "loss", loss);
  for (std::size_t depth = 0; depth < depth_losses.size(); ++depth)
    put(object, depth_name(depth) + "_loss", depth_losses[depth]);
}

void put_heads(Json& object, const std::optional<HeadsMetrics>& heads) {
  if (!heads) return;
  const auto put_all = [&](const std::vector<double>& values, std::size_t first_depth, const char* what) {
    for (std::size_t i = 0; i < values.size(); ++i)
      put(object, fmt::format("{}_{}", depth_name(first_depth + i), what), values[i]);
  };
  put_all(heads->acceptance, 1, "acceptance");
  put(object, "accepted_length", heads->accepted_length);
  put_all(heads->trunk_norms, 0, "trunk_norm");
  put_all(heads->trunk_cosines, 1, "trunk_cosine");
}

void put_free_running(Json& object, const std::optional<FreeRunningMetrics>& free) {
  if (!free) return;
  object["free_prompts"] = free->prompts;
  object["free_tokens"] = free->tokens;
  object["free_rounds"] = free->rounds;
  for (std::size_t k = 1; k <= free->acceptance.size(); ++k)
    put(object, fmt::format("free_{}_acceptance", depth_name(k)), free->acceptance[k - 1]);
  put(object, "free_acceptance_rate", free->acceptance_rate);
  put(object, "free_accepted_length", free->accepted_length);
}

void put_times(Json& object, const std::optional<StepTimes>& times) {
  if (!times) return;
  put(object, "compute_share", times->compute);
  put(object, "bubble", times->bubble);
  put(object, "exposed_communication", times->exposed_communication);
  put(object, "optimizer_share", times->optimizer);
  put(object, "data_share", times->data);
  object["slowest_rank"] = times->slowest_rank;
  put(object, "slowest_rank_excess", times->slowest_excess);
  object["memory_bytes"] = *std::max_element(times->memory_bytes.begin(), times->memory_bytes.end());
}

}  // namespace

Json json_of(const StepMetrics& metrics) {
  Json object;
  object["kind"] = "step";
  object["step"] = metrics.step;
  object["steps"] = metrics.steps;
  put_losses(object, metrics.loss, metrics.depth_losses);
  for (std::size_t depth = 1; depth < metrics.weights.size(); ++depth)
    put(object, depth_name(depth) + "_weight", metrics.weights[depth]);
  put_heads(object, metrics.heads);
  put(object, "grad_norm", metrics.grad_norm);
  if (metrics.heads_grad_norm) put(object, "heads_grad_norm", *metrics.heads_grad_norm);
  if (metrics.loss_z) put(object, "loss_z", *metrics.loss_z);
  if (metrics.grad_norm_z) put(object, "grad_norm_z", *metrics.grad_norm_z);
  if (metrics.skipped) object["skipped"] = true;
  if (metrics.skipped_steps > 0) object["skipped_steps"] = metrics.skipped_steps;
  put(object, "lr", metrics.lr);
  put(object, "milliseconds", metrics.milliseconds);
  if (metrics.checkpoint_seconds > 0) put(object, "checkpoint_seconds", metrics.checkpoint_seconds);
  put(object, "tokens_per_second", metrics.tokens_per_second);
  put(object, "tflops_per_rank", metrics.tflops_per_rank);
  put_times(object, metrics.times);
  put(object, "seconds_left", metrics.seconds_left);
  object["tokens_seen"] = metrics.tokens_seen;
  object["samples_seen"] = metrics.samples_seen;
  return object;
}

Json json_of(const EvaluationMetrics& metrics) {
  Json object;
  object["kind"] = "evaluation";
  object["step"] = metrics.step;
  put_losses(object, metrics.loss, metrics.depth_losses);
  for (std::size_t depth = 0; depth < metrics.depth_losses.size(); ++depth)
    put(object, depth_name(depth) + "_perplexity", std::exp(metrics.depth_losses[depth]));
  put_heads(object, metrics.heads);
  put_free_running(object, metrics.free_running);
  object["rows"] = metrics.rows;
  object["tokens"] = metrics.tokens;
  if (const std::optional<double> bits = metrics.bits_per_byte()) {
    object["bytes"] = metrics.bytes;
    put(object, "bits_per_byte", *bits);
  }
  put(object, "milliseconds", metrics.milliseconds);
  return object;
}

Json json_of(const EndMetrics& metrics) {
  Json object;
  object["kind"] = "end";
  object["step"] = metrics.step;
  put(object, "seconds", metrics.seconds);
  object["peak_memory_bytes"] = metrics.peak_memory_bytes;
  put(object, "checkpoint_seconds", metrics.checkpoint_seconds);
  return object;
}

std::string line_of(Json object, std::int64_t branch) {
  if (branch > 1) object["branch"] = branch;
  object["time"] = utc_time();
  return object.dump();
}

}  // namespace foretoken
