#include "launch/plan/measure_profile.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>
#include <tuple>
#include <unistd.h>

#include "launch/config/config_validator.h"
#include "launch/doctor/commit.h"
#include "launch/plan/layout_space.h"
#include "launch/plan/short_model.h"
#include "launch/session/profile_on_ranks.h"
#include "launch/session/rank_memory.h"
#include "model/config_names.h"
#include "parallel/comm/groups.h"
#include "parallel/optimizer/optimizer.h"
#include "runtime/error.h"
#include "runtime/host/nvml.h"
#include "runtime/host/utc_time.h"
#include "runtime/median.h"
#include "runtime/timing/timeline.h"

namespace foretoken {

namespace {

using Clock = std::chrono::steady_clock;

// Seconds of lasting work. A GPU lowers its clocks after about a second of load, when it reaches its power
// limit.
constexpr double first_warm_up = 1.5;
constexpr double warm_up = 0.15;
constexpr double whole_measurement = 24;  // shared by all combinations
constexpr double longest = 1.0;           // of one combination
constexpr double shortest = 0.2;
constexpr int fewest_steps = 2;
constexpr int optimizer_steps = 15;

/// A combination of settings that is measured.
struct Combination {
  Recompute recompute = Recompute::none;
  std::int64_t microbatch = 1;
  friend auto operator<=>(const Combination&, const Combination&) = default;
};

/// The configured combination first, then the others with fewer rows first.
std::vector<Combination> combinations_of(const Config& config) {
  Config one_rank = config;
  one_rank.parallel = {};
  one_rank.mtp.placement = MtpConfig::Placement::last;
  for (const char* name : {"parallel.pp", "parallel.dp", "parallel.virtual_stages", "parallel.schedule",
                           "parallel.sharded_optimizer", "mtp.placement"})
    one_rank.origins.erase(name);
  std::set<Combination> legal;
  for (const PlanLayout& layout : legal_layouts(one_rank, 1))
    legal.insert({layout.recompute, layout.microbatch});
  std::vector<Combination> found(legal.begin(), legal.end());
  const Combination configured{config.train.recompute, config.train.microbatch};
  std::stable_sort(found.begin(), found.end(), [&](const Combination& a, const Combination& b) {
    return std::tuple(!(a == configured), a.microbatch) < std::tuple(!(b == configured), b.microbatch);
  });
  return found;
}

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

class Measurement {
 public:
  Measurement(MpiCommunicator& world, const Config& config,
              const std::function<void(const std::string&)>& progress)
      : world_(world),
        config_(config),
        progress_(progress),
        options_(resolve_device(config, world)),
        device_(options_) {}

  DeviceProfile run() {
    const Nvml nvml;
    const bool gpu = options_.kind == DeviceKind::cuda;
    profile_ = {.device = device_identity(device_),
                .compute_capability = device_.compute_capability(),
                .driver = gpu ? nvml.driver_version() : "",
                .commit = commit(),
                .date = utc_time(),
                .threads = options_.threads,
                .ranks = world_.size(),
                .settings = measured_settings(config_, options_.kind)};
    const bool kept = config_.train.precision == TrainConfig::Precision::fp8 &&
                      config_.fp8.first_layers_bf16 + config_.fp8.last_layers_bf16 > 0;
    const std::vector<Combination> all = combinations_of(config_);
    const std::size_t models = all.size() * (1 + (config_.mtp.depths > 0 ? 1 : 0) + (kept ? 1 : 0));
    budget_ = std::clamp(whole_measurement / static_cast<double>(models), shortest, longest);
    std::set<Recompute> full;  // modes whose last number of rows did not fit
    for (const Combination& one : all) {
      if (full.contains(one.recompute)) continue;
      Config config = config_;
      config.train.recompute = one.recompute;
      config.train.microbatch = one.microbatch;
      bool fits = measure(config, false, "");
      if (fits && config.mtp.depths > 0) fits = measure(config, true, "");
      if (fits && kept) {
        config.train.precision = TrainConfig::Precision::bf16;
        fits = measure(config, false, "_bf16");
      }
      if (!fits) full.insert(one.recompute);
    }
    if (profile_.parts.empty())
      throw UsageError(
          "plan: --measure: no mode of train.recompute fits into the device's memory, not even "
          "with one row: {}",
          reason_);
    return profile_;
  }

 private:
  /// Measures the parts of one model and appends them. Returns false if some rank has too little memory.
  bool measure(const Config& config, bool depths_apart, const std::string& suffix) {
    std::unique_ptr<ShortModel> model;
    try {
      model = std::make_unique<ShortModel>(device_, config, depths_apart);
    } catch (const UsageError& error) {
      reason_ = error.what();
    }
    std::int32_t fits = model ? 1 : 0;
    world_.all_reduce(tensor_over(std::span(&fits, 1), {1}), ReduceOp::min);
    if (fits == 0) {
      progress_(fmt::format("recompute {}, {} rows: does not fit", name_of(config.train.recompute),
                            config.train.microbatch));
      return false;
    }
    const bool first = profile_.parts.empty();
    repeat(first ? first_warm_up : warm_up, 1, [&] { model->warm_up(); });
    repeat(budget_, fewest_steps, [&] { model->run(); });
    append(*model, config, depths_apart, suffix);
    if (first) measure_optimizer(*model);
    return true;
  }

  /// For at least that time and that number of calls.
  static void repeat(double seconds, int fewest, const std::function<void()>& work) {
    const auto begin = Clock::now();
    for (int i = 0; i < fewest || std::chrono::duration<double>(Clock::now() - begin).count() < seconds; ++i)
      work();
  }

  /// Of the model with depths apart only the heads; of the one in bf16 only the layers.
  void append(const ShortModel& model, const Config& config, bool depths_apart, const std::string& suffix) {
    for (auto& [name, times] : model.parts()) {
      const bool layer = name == "attention" || name == "mlp";
      const bool head = name == "main_head" || name.starts_with("depth_");
      if ((depths_apart && !head) || (!suffix.empty() && !layer)) continue;
      StageDurations seconds = times.seconds;
      seconds.forward = mean(seconds.forward);
      seconds.backward_input = mean(seconds.backward_input);
      seconds.backward_weight = mean(seconds.backward_weight);
      profile_.parts.push_back({.name = name + suffix,
                                .recompute = config.train.recompute,
                                .microbatch = config.train.microbatch,
                                .seconds = seconds,
                                .spread = mean(times.spread),
                                .repetitions = times.repetitions});
    }
    if (depths_apart || !suffix.empty()) return;
    double layer = 0, worst = 0;
    for (const DeviceProfile::Part& part : profile_.parts)
      if (part.recompute == config.train.recompute && part.microbatch == config.train.microbatch) {
        if (part.name == "attention" || part.name == "mlp") layer += part.seconds.total();
        worst = std::max(worst, part.spread);
      }
    progress_(fmt::format("recompute {}, {} rows: {:.3f} ms for a layer, spread at most {:.1f} %",
                          name_of(config.train.recompute), config.train.microbatch, 1e3 * layer,
                          100 * worst));
  }

  /// AdamW and norm over the model's parameters, and what this process occupies beside its tensors.
  void measure_optimizer(ShortModel& short_model) {
    Stream& stream = device_.stream();
    Parameters& parameters = short_model.model().parameters();
    const auto self = world_.split(world_.rank(), 0, "one rank");
    Groups groups = make_groups(*self, {}, stream);
    SessionPlan plan = short_model.plan();
    plan.layout.grid = {.pp = 1, .dp = 1, .virtual_stages = plan.layout.stages()};
    const ShardPlan shards = plan_shards(plan, parameters, 0);
    Arena arena(stream.device());
    Optimizer optimizer(arena, parameters, shards, optimizer_config(config_.optimizer), *groups.dp,
                        *groups.device_world);
    arena.seal();
    std::vector<double> norms, updates;
    for (int i = 0; i < optimizer_steps; ++i) {
      Timeline timeline(stream);
      const std::size_t norm = timeline.begin("norm");
      optimizer.measure(stream, short_model.model().sums().losses);
      timeline.end(norm);
      const std::size_t update = timeline.begin("update");
      optimizer.update(stream, 1e-6, i + 1);
      timeline.end(update);
      groups.transport->synchronize();
      const std::vector<TimelineSpan> spans = timeline.spans();
      norms.push_back(spans.at(0).end - spans.at(0).begin);
      updates.push_back(spans.at(1).end - spans.at(1).begin);
    }
    std::int64_t trained = 0;
    for (const ParameterUnit& unit : parameters.units())
      if (!unit.frozen)
        for (const ParameterSpec& spec : unit.specs) trained += spec.shape.elements();
    const auto count = static_cast<double>(trained);
    profile_.gradient_norm = mean(median(norms)) / count;
    profile_.update = mean(median(updates)) / count;
    profile_.start = mean(short_model.start()) / count;
    profile_.host = mean(short_model.host());
    profile_.process_bytes = process_bytes(short_model.model().memory().allocated() + arena.allocated());
  }

  std::size_t process_bytes(std::size_t allocated) {
    if (options_.kind == DeviceKind::cpu) {
      const std::size_t resident = resident_bytes();
      return resident > allocated ? resident - allocated : 0;
    }
    const auto sharing = static_cast<std::size_t>((world_.world().local_ranks() + Device::gpus() - 1) /
                                                  Device::gpus());  // ranks on this GPU
    const std::size_t in_use = device_.memory_in_use() / sharing;
    return in_use > allocated ? in_use - allocated : 0;
  }

  /// The mean over the ranks. Collective.
  double mean(double value) {
    world_.all_reduce(tensor_over(std::span(&value, 1), {1}));
    return value / world_.size();
  }

  MpiCommunicator& world_;
  const Config& config_;
  const std::function<void(const std::string&)>& progress_;
  Device::Options options_;
  Device device_;
  double budget_ = 0;  // s of a model
  DeviceProfile profile_;
  std::string reason_;
};

}  // namespace

DeviceProfile measure_profile(MpiCommunicator& world, const Config& config,
                              const std::function<void(const std::string&)>& progress) {
  validate(config);
  return Measurement(world, config, progress).run();
}

}  // namespace foretoken
