#include "launch/commands/plan.h"

#include <algorithm>
#include <memory>
#include <sstream>

#include <nlohmann/json.hpp>

#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/plan/layout_bound.h"
#include "launch/plan/layout_space.h"
#include "launch/plan/planner.h"
#include "launch/plan/step_costs.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

/// Two layers and four rows per step.
Config small_config(const std::vector<std::string>& sets = {}) {
  Config config;
  config.model.num_hidden_layers = 2;
  config.data.path = "data.h5";
  config.train.global_batch = 4;
  config.train.microbatch = 4;
  config.run.device = RunConfig::Device::cpu;
  apply_sets(config, sets);
  return config;
}

std::size_t layouts_with(const std::vector<PlanLayout>& layouts, const std::string& schedule) {
  return static_cast<std::size_t>(std::count_if(
      layouts.begin(), layouts.end(), [&](const PlanLayout& layout) { return layout.schedule == schedule; }));
}

/// What planning finds out about one layout, without any shortcut.
struct MeasuredLayout {
  PlanLayout layout;
  std::vector<int> halves_per_stage;
  std::size_t memory = 0;
  double seconds = 0;
};

/// Times that are not proportional to rows: an MLP has a part that does not depend on them. The host takes a
/// while.
class UnevenTimes : public RatedTimes {
 public:
  using RatedTimes::RatedTimes;
  LayerCosts layers(const Config& config) const override {
    LayerCosts costs = RatedTimes::layers(config);
    for (std::size_t half = 1; half < costs.halves.size(); half += 2)
      costs.halves[half] += {4e-4, 2e-4, 5e-4};
    costs.last += {0, 1e-3, 0};
    return costs;
  }
  double host(const Config&) const override { return 1e-3; }
};

MeasuredLayout measured(const Config& config, const PlanLayout& layout, const PlanOptions& options) {
  const Config chosen = with_layout(config, layout);
  const Grid grid{layout.pp, layout.dp, layout.virtual_stages};
  const SessionPlan session = plan_session(chosen, grid, Purpose::train, {.kind = options.rates.kind});
  MeasuredLayout result{.layout = layout, .halves_per_stage = session.layout.halves_per_stage};
  for (int pp_rank = 0; pp_rank < layout.pp; ++pp_rank)
    result.memory = std::max(result.memory, plan_memory(session, pp_rank, 0).allocated);
  result.seconds = SchedulePrediction(layout.schedule, shape_of(chosen, grid))
                       .seconds(StepCostModel(*options.times).costs(session), links_of(options));
  return result;
}

nlohmann::json json_of(const Config& config, PlanArguments arguments) {
  arguments.json = true;
  std::ostringstream out;
  CHECK(plan(config, arguments, out) == 0);
  return nlohmann::json::parse(out.str());
}

}  // namespace

TEST_CASE("one rank has every schedule of one stage, recompute mode and microbatch that divides the batch") {
  const std::vector<PlanLayout> layouts = legal_layouts(small_config(), 1);
  // Microbatches of 1, 2 and 4 rows; zero_bubble_h1 excludes recompute "full".
  CHECK(layouts_with(layouts, "1f1b") == 9);
  CHECK(layouts_with(layouts, "gpipe") == 9);
  CHECK(layouts_with(layouts, "zero_bubble_h1") == 6);
  CHECK(layouts.size() == 24);
}

TEST_CASE("two pipeline ranks of two layers have one or two stages each") {
  const std::vector<PlanLayout> layouts =
      legal_layouts(small_config({"parallel.pp=2", "train.microbatch=1", "train.recompute=none"}), 2);
  // The head without layers is a stage of its own in the other placement. Four halves fill four stages.
  CHECK(layouts_with(layouts, "1f1b") == 2);
  CHECK(layouts_with(layouts, "zero_bubble_h1") == 2);
  CHECK(layouts_with(layouts, "interleaved_1f1b") == layouts_with(layouts, "gpipe") - 2);
  for (const PlanLayout& layout : layouts) {
    CHECK(layout.pp == 2);
    CHECK(layout.dp == 1);
    CHECK(layout.virtual_stages <= 2);
  }
}

TEST_CASE("with two replicas the optimizer is sharded or not, and every replica has half of the rows") {
  const std::vector<PlanLayout> layouts =
      legal_layouts(small_config({"parallel.pp=1", "parallel.schedule=1f1b", "train.recompute=none"}), 2);
  CHECK(layouts.size() == 4);  // microbatches of 1 and 2 rows
  CHECK(std::count_if(layouts.begin(), layouts.end(),
                      [](const PlanLayout& layout) { return layout.sharded_optimizer; }) == 2);
}

TEST_CASE("the planned bytes of a layout are those that its fullest rank would allocate") {
  for (const std::vector<std::string>& sets :
       {std::vector<std::string>{"mtp.depths=1"}, {"mtp.depths=0"}, {"mtp.depths=2", "mtp.kind=linear"}}) {
    const Config config = small_config(sets);
    const RanksPlan planned = plan_ranks(config, 4, {.rates = rates_of("cpu"), .top = 12});
    REQUIRE(planned.best.size() == 12);
    for (const PlannedLayout& best : planned.best) {
      const Config chosen = with_layout(config, best.layout);
      const SessionPlan session =
          plan_session(chosen, resolve_grid(chosen, 4), Purpose::train, {.kind = DeviceKind::cpu});
      CHECK(session.layout.halves_per_stage == best.halves_per_stage);
      std::size_t most = 0;
      for (int pp_rank = 0; pp_rank < best.layout.pp; ++pp_rank)
        most = std::max(most, plan_memory(session, pp_rank, best.layout.dp - 1).allocated);
      CHECK(best.fullest.memory.allocated == most);
      CHECK(best.fullest.memory.use == plan_memory(session, best.fullest.pp_rank, 0).use);
    }
  }
}

TEST_CASE("layouts are ordered by step time, and the table and JSON have at most --top of them") {
  const nlohmann::json json =
      json_of(small_config({"mtp.depths=1"}), {.ranks = {2, 4}, .device = "cpu", .top = 5});
  REQUIRE(json["plans"].size() == 2);
  for (const nlohmann::json& of_ranks : json["plans"]) {
    const nlohmann::json& best = of_ranks["best"];
    REQUIRE(best.size() == 5);
    for (std::size_t i = 1; i < best.size(); ++i)
      // Equal steps differ in their last bits; the one with less memory is first.
      CHECK(best[i - 1]["step_seconds"].get<float>() <= best[i]["step_seconds"].get<float>());
    for (const nlohmann::json& layout : best) {
      CHECK(layout["pp"].get<int>() * layout["dp"].get<int>() == of_ranks["ranks"].get<int>());
      CHECK(layout["tensor_bytes"] == layout["memory_bytes"]);
      std::size_t sum = 0;
      for (const nlohmann::json& bytes : layout["bytes"]) sum += bytes.get<std::size_t>();
      CHECK(layout["memory_bytes"] == sum);
    }
  }
}

TEST_CASE("a step is longer on slower links, and never shorter than its compute") {
  const Config config = small_config({"parallel.pp=2", "parallel.schedule=1f1b"});
  PlanOptions options{.rates = rates_of("cpu")};
  const double near = plan_ranks(config, 2, options).best.front().step.total;
  options.per_node = 1;
  const StepTime far = plan_ranks(config, 2, options).best.front().step;
  CHECK(far.total > near);
  CHECK(far.step.exposed_messages > 0);
  CHECK(far.step.bubble > 0);
}

TEST_CASE("the planned layouts are the fastest of all that fit, and the counts cover every legal layout") {
  for (const std::vector<std::string>& sets :
       {std::vector<std::string>{"mtp.depths=2"}, {"mtp.depths=0", "train.global_batch=16"}, {}}) {
    Config config = small_config(sets);
    PlanOptions options{.rates = rates_of("cpu"), .per_node = 2, .top = 12};
    if (sets.empty()) {
      config.train.global_batch = 16;
      config.device_times = options.times = std::make_shared<UnevenTimes>(options.rates);
    }
    std::vector<MeasuredLayout> all;
    for (const PlanLayout& layout : legal_layouts(config, 4))
      all.push_back(measured(config, layout, options));
    std::vector<std::size_t> memory;
    for (const MeasuredLayout& layout : all) memory.push_back(layout.memory);
    std::sort(memory.begin(), memory.end());
    for (const std::size_t limit : {memory.back(), memory[memory.size() / 2], memory[memory.size() / 8]}) {
      options.memory = limit;
      std::vector<double> fastest;  // of distinct layouts
      std::vector<MeasuredLayout> distinct;
      for (const MeasuredLayout& layout : all) {
        const auto is_same = [&](MeasuredLayout other) {
          const auto each = MtpConfig::Placement::stage_per_depth;
          if ((other.layout.placement == each) != (layout.layout.placement == each)) return false;
          other.layout.placement = layout.layout.placement;
          return other.layout == layout.layout && other.halves_per_stage == layout.halves_per_stage;
        };
        if (layout.memory > limit || std::any_of(distinct.begin(), distinct.end(), is_same)) continue;
        distinct.push_back(layout);
        fastest.push_back(layout.seconds);
      }
      std::sort(fastest.begin(), fastest.end());
      const RanksPlan plan = plan_ranks(config, 4, options);
      INFO("limit " << limit << ", " << distinct.size() << " of " << all.size() << " layouts");
      CHECK(plan.legal == all.size());
      REQUIRE(plan.best.size() == std::min<std::size_t>(12, fastest.size()));
      for (std::size_t i = 0; i < plan.best.size(); ++i) {
        CHECK(plan.best[i].step.total == Approx(fastest[i]).epsilon(1e-6));
        CHECK(plan.best[i].memory <= limit);
      }
      CHECK(plan.best.size() + plan.too_large + plan.not_faster <= plan.legal);
      CHECK(plan.too_large <= static_cast<std::size_t>(std::count_if(
                                  memory.begin(), memory.end(), [&](std::size_t m) { return m > limit; })));
    }
  }
}

TEST_CASE("the bound of a layout is not above its predicted step") {
  for (const std::string placement : {"last", "stage_per_depth"}) {
    const Config config =
        small_config({"mtp.depths=2", "mtp.placement=" + placement, "train.global_batch=8"});
    for (const int per_node : {2, 8}) {
      const PlanOptions options{.rates = rates_of("cpu"), .per_node = per_node};
      LayoutBound bound(config, *options.times, options.rates.kind, links_of(options));
      for (const PlanLayout& layout : legal_layouts(config, 4)) {
        const double seconds = measured(config, layout, options).seconds;
        INFO("pp " << layout.pp << " v " << layout.virtual_stages << " " << layout.schedule << " microbatch "
                   << layout.microbatch << " sharded " << layout.sharded_optimizer);
        CHECK(bound.seconds(layout) <= seconds);
        CHECK(bound.seconds(layout) > 0.4 * seconds);
      }
    }
  }
}

TEST_CASE("layouts that do not fit are counted, and the smallest states its largest parts") {
  const nlohmann::json json = json_of(small_config(), {.ranks = {2}, .device = "cpu", .memory = "1MiB"});
  const nlohmann::json& of_ranks = json["plans"][0];
  CHECK(of_ranks["best"].empty());
  CHECK(of_ranks["too_large"] == of_ranks["legal_layouts"]);
  CHECK_THAT(of_ranks["nearest"]["reason"].get<std::string>(),
             foretoken::testing::contains("of 0.001 GiB: "));
}

TEST_CASE("the smallest layout that does not fit is the smallest of all, with its whole memory") {
  const Config config = small_config({"mtp.depths=1", "train.global_batch=16"});
  PlanOptions options{.rates = rates_of("cpu"), .memory = 1};
  std::size_t smallest = ~std::size_t{0};
  for (const PlanLayout& layout : legal_layouts(config, 4)) {
    const Config chosen = with_layout(config, layout);
    const Grid grid{layout.pp, layout.dp, layout.virtual_stages};
    SessionPlan session = plan_session(chosen, grid, Purpose::train, {.kind = DeviceKind::cpu});
    session.layout = even_layout(chosen, grid, Purpose::train);
    std::size_t memory = 0;
    for (int pp_rank = 0; pp_rank < layout.pp; ++pp_rank)
      memory = std::max(memory, plan_memory(session, pp_rank, 0).allocated);
    smallest = std::min(smallest, memory);
  }
  const RanksPlan plan = plan_ranks(config, 4, options);
  CHECK(plan.too_large == plan.legal);
  REQUIRE(plan.nearest);
  CHECK(plan.nearest->memory == smallest);
}

TEST_CASE("communicators take GPU memory: more with a pipeline, none on one rank, and none on CPUs") {
  const auto communicators = [](const std::vector<std::string>& sets, int ranks, const std::string& device) {
    const nlohmann::json json = json_of(small_config(sets), {.ranks = {ranks}, .device = device, .top = 1});
    return json["plans"][0]["best"][0]["bytes"]["communicators"].get<std::size_t>();
  };
  const std::vector<std::string> replicas{"parallel.pp=1"},
      pipeline{"parallel.pp=2", "parallel.schedule=1f1b", "mtp.depths=1", "mtp.placement=last"};
  CHECK(communicators(replicas, 1, "h100") == 0);
  CHECK(communicators(pipeline, 2, "cpu") == 0);
  // In MiB. A ring has 24 channels with 12 for both ends, and structures of 6 for each of 32 channels. A link
  // has 16 channels; the two directions to a neighbour have the buffers of one. Each communicator takes 34
  // more, and NCCL itself 350. Two H200 had 1378 for replicas and 1640 for a pipeline.
  constexpr std::size_t mib = std::size_t{1} << 20, ring = 24 * 12 + 32 * 6 + 34, link = 16 * 6 + 34;
  CHECK(communicators(replicas, 2, "h100") == (350 + 2 * ring) * mib);
  CHECK(communicators(pipeline, 2, "h100") == (350 + ring + 3 * link + 2 * 16 * 12) * mib);
}

TEST_CASE("7 devices that no layout uses are refused with the batch and the layers") {
  std::ostringstream out;
  CHECK_THROWS_WITH(plan(small_config(), {.ranks = {7}, .device = "cpu"}, out),
                    foretoken::testing::contains("no layout of 7 ranks is legal: global_batch 4"));
  CHECK_THROWS_AS(plan(small_config(), {.ranks = {7}, .device = "cpu"}, out), UsageError);
}

TEST_CASE("an illegal configuration is refused with the validator's message") {
  std::ostringstream out;
  CHECK_THROWS_WITH(plan(small_config({"model.head_dim=33"}), {.ranks = {1}, .device = "cpu"}, out),
                    foretoken::testing::contains("head_dim 33 is odd"));
  CHECK_THROWS_WITH(plan(small_config({"train.precision=bf16"}), {.ranks = {1}, .device = "cpu"}, out),
                    foretoken::testing::contains("needs GPUs"));
}

TEST_CASE("sizes and numbers of devices are read strictly") {
  CHECK(memory_size("80GiB") == std::size_t{80} << 30);
  CHECK(memory_size("0.5MiB") == std::size_t{1} << 19);
  for (const char* text : {"80", "80GB", "GiB", "-1GiB", "0GiB", "1e300GiB"})
    CHECK_THROWS_AS(memory_size(text), UsageError);
  CHECK(rank_counts("8,64,2048") == std::vector<int>{8, 64, 2048});
  for (const char* text : {"", "8,", "0", "x", "8 64"}) CHECK_THROWS_AS(rank_counts(text), UsageError);
  CHECK_THROWS_AS(rates_of("a100"), UsageError);
}
