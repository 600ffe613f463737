// Tests which draft depths are chosen over many rounds with simulated times and acceptance.

#include "model/generation/draft_length.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "runtime/error.h"
#include "runtime/random.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

/// The times and the acceptance of a simulated model and drafter.
struct World {
  double acceptance = 0.8;
  double plain = 1;        // seconds of a round without drafts
  double fixed = 0.2;      // time that drafting adds to a round
  double each = 0.1;       // time per draft
  double noise = 0;        // maximum relative random delay
  double load = 1;         // load of the machine, a factor of all times
  double preparation = 0;  // extra time of the first round of a depth

  double seconds(int depth) const { return load * (plain + (depth > 0 ? fixed : 0) + each * depth); }
  double tokens(int depth) const {
    double sum = 1;
    for (int j = 1; j <= depth; ++j) sum += std::pow(acceptance, j);
    return sum;
  }
  double rate(int depth) const { return tokens(depth) / seconds(depth); }
  int best(int longest) const {
    int best = 0;
    for (int depth = 1; depth <= longest; ++depth)
      if (rate(depth) > rate(best)) best = depth;
    return best;
  }
};

class Simulation {
 public:
  explicit Simulation(int longest, std::size_t texts = 1, int trained = 1)
      : texts_(texts), longest_(longest), length_(longest, trained, [this] { return now_; }) {}

  World world;
  struct Result {
    std::map<int, int> rounds;  // number of rounds by depth
    double tokens = 0, seconds = 0;
    int usual() const {
      return std::max_element(rounds.begin(), rounds.end(),
                              [](const auto& a, const auto& b) { return a.second < b.second; })
          ->first;
    }
  };
  Result run(int rounds) {
    Result result;
    for (int i = 0; i < rounds; ++i) {
      const double before = now_;
      const int depth = length_.begin_round(texts_);
      CHECK((depth >= 0 && depth <= longest_));
      now_ += world.seconds(depth) * (1 + world.noise * uniform());
      if (run_.insert(depth).second) now_ += world.preparation;
      for (std::size_t text = 0; text < texts_; ++text) {
        std::size_t accepted = 0;
        while (static_cast<int>(accepted) < depth && uniform() < world.acceptance) ++accepted;
        if (depth > 0) length_.record_acceptance(static_cast<std::size_t>(depth), accepted);
        result.tokens += static_cast<double>(accepted + 1) / static_cast<double>(texts_);
      }
      length_.end_round();
      ++result.rounds[depth];
      result.seconds += now_ - before;
    }
    return result;
  }
  void set_texts(std::size_t texts) { texts_ = texts; }

 private:
  double uniform() { return rng_.uniform(next_++); }

  std::size_t texts_;
  int longest_;
  double now_ = 0;
  std::set<int> run_;  // depths that have run
  CounterRng rng_{1, "simulation"};
  std::uint64_t next_ = 0;
  DraftLength length_;
};

}  // namespace

TEST_CASE("if no draft is accepted, generation stops drafting and takes less than 2 % more time") {
  Simulation simulation(8, GENERATE(1, 8), GENERATE(1, 3));
  simulation.world.acceptance = 0;
  simulation.world.noise = GENERATE(0.0, 0.5);
  const Simulation::Result first = simulation.run(200), later = simulation.run(2000);
  CHECK(first.seconds < 1.1 * 200 * (1 + simulation.world.noise / 2));
  CHECK(later.usual() == 0);
  CHECK(later.rounds.at(0) > 1950);
  CHECK(later.seconds < 1.02 * 2000 * (1 + simulation.world.noise / 2));
}

TEST_CASE("the chosen depth converges to the one with the most tokens per second") {
  struct Case {
    double acceptance, fixed, each;
  };
  const auto [acceptance, fixed, each] =
      GENERATE(Case{0.3, 0.1, 0.1}, Case{0.6, 0.1, 0.2}, Case{0.8, 0.2, 0.1}, Case{0.9, 0.1, 0.05},
               Case{0.95, 0.7, 0.02}, Case{0.99, 0, 0.05}, Case{0.6, 0.6, 0.1}, Case{0.5, 0, 0.7});
  Simulation simulation(8, GENERATE(1, 4), GENERATE(1, 3));
  simulation.world.acceptance = acceptance;
  simulation.world.fixed = fixed;
  simulation.world.each = each;
  simulation.world.noise = GENERATE(0.0, 0.3);
  simulation.run(300);
  const Simulation::Result result = simulation.run(3000);
  const World& world = simulation.world;
  CAPTURE(acceptance, fixed, each, world.noise, result.usual(), world.best(8), result.rounds);
  // Depths with similar rates may alternate.
  CHECK(world.rate(result.usual()) > 0.97 * world.rate(world.best(8)));
  CHECK(result.tokens / result.seconds * (1 + world.noise / 2) > 0.94 * world.rate(world.best(8)));
}

TEST_CASE("a short text starts at the trained depth and loses less than 5 % while others are tried") {
  Simulation simulation(8, 1, 3);
  SECTION("the trained depth is the best") {
    simulation.world = {.acceptance = 0.7, .fixed = 0, .each = 0.15};
    REQUIRE(simulation.world.best(8) == 3);
    CHECK(simulation.run(3).rounds.at(3) == 3);
  }
  SECTION("drafts cost more than they gain") {
    simulation.world = {.acceptance = 0.3, .fixed = 0.4, .each = 0.3};
    REQUIRE(simulation.world.best(8) == 0);
  }
  const Simulation::Result result = simulation.run(150);
  CHECK(result.tokens / result.seconds > 0.95 * simulation.world.rate(simulation.world.best(8)));
}

TEST_CASE("a depth whose first round is expensive runs only if its gain exceeds that cost") {
  Simulation simulation(8, GENERATE(1, 4), 3);
  simulation.world = {.fixed = 0.1, .each = 0.05, .noise = 0.1, .preparation = 30};
  SECTION("the gain of other depths is small") {
    simulation.world.acceptance = 0.6;
    const Simulation::Result result = simulation.run(150);
    CHECK(result.rounds.size() == 2);  // the trained depth and depth 0
    CHECK(result.rounds.at(3) > 140);
  }
  SECTION("the gain of other depths is large") {
    simulation.world.acceptance = 0.97;
    const Simulation::Result short_text = simulation.run(80);
    CHECK(short_text.rounds.size() == 2);
    simulation.run(1500);
    const World& world = simulation.world;
    CHECK(world.rate(simulation.run(500).usual()) > 0.97 * world.rate(world.best(8)));
  }
}

TEST_CASE("the depth adapts to a text whose acceptance changes") {
  Simulation simulation(8);
  simulation.world.acceptance = 0;
  simulation.run(3000);  // probes are rare by now
  simulation.world.acceptance = 0.9;
  simulation.run(1200);
  Simulation::Result result = simulation.run(500);
  CHECK(simulation.world.rate(result.usual()) > 0.95 * simulation.world.rate(simulation.world.best(8)));
  simulation.world.acceptance = 0.1;
  simulation.run(100);
  result = simulation.run(500);
  CHECK(result.usual() == simulation.world.best(8));
}

TEST_CASE("the depth adapts to the number of texts and to the machine's load, which change all times") {
  Simulation simulation(8, 8);
  simulation.world.acceptance = 0.85;
  simulation.run(400);
  const double best = simulation.world.rate(simulation.world.best(8));
  simulation.set_texts(3);
  simulation.world.load = 0.5;
  CHECK(simulation.world.rate(simulation.run(300).usual()) > 0.97 * 2 * best);
  simulation.world.load = 3;  // with the same number of texts
  simulation.run(300);
  CHECK(simulation.world.rate(simulation.run(500).usual()) > 0.97 * best / 3);
}

TEST_CASE("a drafter of one depth is used if that is faster, and a drafter of none never drafts") {
  Simulation one(1);
  one.world.acceptance = 0.9;
  one.run(100);
  CHECK(one.run(300).usual() == 1);
  Simulation none(0);
  CHECK(none.run(100).rounds.at(0) == 100);
}

TEST_CASE("a round cannot end before one has started") {
  DraftLength length(4, 1);
  CHECK_THROWS_AS(length.end_round(), DefectError);
  length.begin_round(1);
  CHECK_NOTHROW(length.end_round());
}

TEST_CASE("the draft policy measures the trained depth, then depth 0, and then uses the best depth") {
  DraftCosts costs(4);
  DraftAcceptances acceptances(4);
  const DraftPolicy policy(costs, acceptances, 2);
  DraftHistory history;
  std::vector<DraftPhase> phases;
  std::vector<int> depths;
  for (int round = 0; round < 9; ++round) {
    const DraftDecision decision = policy.decide(history);
    CHECK(policy.decide(history).depth == decision.depth);  // deciding changes nothing
    history = DraftPolicy::advance(history, decision);
    phases.push_back(decision.phase);
    depths.push_back(decision.depth);
    acceptances.record(static_cast<std::size_t>(decision.depth), static_cast<std::size_t>(decision.depth));
    costs.record_round(decision.depth, 1 + 0.1 * decision.depth, history.repeats > 0);
    ++history.rounds;
  }
  using enum DraftPhase;
  CHECK(phases == std::vector<DraftPhase>{measure_trained, measure_trained, measure_trained, measure_depth_0,
                                          measure_depth_0, measure_depth_0, use_best, repeat_depth,
                                          repeat_depth});
  CHECK(depths == std::vector<int>{2, 2, 2, 0, 0, 0, 3, 3, 3});
}

TEST_CASE("a probe lasts three rounds, or eight if drafts beyond the best depth are accepted") {
  DraftCosts costs(4);
  DraftAcceptances acceptances(4);
  for (const int depth : {0, 1, 2})
    for (int round = 0; round < 3; ++round) costs.record_round(depth, 1 + depth, true);
  const DraftPolicy policy(costs, acceptances, 1);
  const bool promises = GENERATE(false, true);
  DraftHistory history{.phase = DraftPhase::start_probe, .depth = 2, .probe_is_promising = promises};
  int rounds = 1;
  for (; policy.decide(history).phase == DraftPhase::continue_probe; ++rounds)
    history = DraftPolicy::advance(history, policy.decide(history));
  CHECK(rounds == (promises ? 8 : 3));
}

TEST_CASE("the time of an unmeasured depth is interpolated linearly between its measured neighbours") {
  DraftCosts costs(6);
  for (const auto& [depth, seconds] : {std::pair{0, 1.0}, {2, 2.0}, {4, 6.0}})
    for (int round = 0; round < 3; ++round) costs.record_round(depth, seconds, true);
  CHECK(costs.seconds(1) == 1.5);
  CHECK(costs.seconds(3) == 4);
  CHECK(costs.seconds(6) == 10);
}
