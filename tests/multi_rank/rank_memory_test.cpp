// The memory that a plan counts equals the memory that the run allocates.

#include "launch/session/rank_memory.h"

#include "launch/config/config_validator.h"
#include "launch/training/training_parts.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::vector<Sets> layouts_of(int ranks) {
  const Sets interleaved{"parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"};
  if (ranks == 1) return {{}, interleaved};
  if (ranks == 2)
    return {{"parallel.pp=2"},
            {"parallel.pp=2", "parallel.schedule=zero_bubble_h1"},
            {"parallel.pp=2", "mtp.placement=own_stage"},
            {"parallel.dp=2", "parallel.sharded_optimizer=true"}};
  return {{"parallel.pp=4", "mtp.placement=stage_per_depth"},
          {"parallel.pp=4", "parallel.schedule=gpipe"},
          interleaved + Sets{"parallel.pp=2", "parallel.dp=2", "parallel.sharded_optimizer=true"}};
}

std::vector<Sets> models() {
  return {{"mtp.depths=0"},
          {"mtp.kind=sequential", "train.recompute=selective"},
          {"mtp.kind=parallel", "optimizer.moments=bf16"},
          {"mtp.kind=residual", "model.tie_word_embeddings=false", "mtp.detach_heads=true"},
          {"mtp.kind=linear", "train.microbatch=2", "optimizer.heads_clip=1"},
          {"mtp.balance=dynamic", "mtp.diagnose_every=10", "model.tie_word_embeddings=true"},
          {"train.freeze=trunk", "train.init_from=run", "mtp.kind=residual"}};
}

}  // namespace

TEST_CASE("the arenas of a run allocate what its plan counts, byte for byte", "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  Console console(false);
  int compared = 0;
  for (const Sets& layout : layouts_of(world.size()))
    for (const Sets& model : models()) {
      INFO(name_of(layout + model));
      const bool places_heads = !layout.empty() && layout.back().starts_with("mtp.placement");
      if (places_heads && model.front() == "mtp.depths=0") continue;
      const Config config = lab.config(layout + model);
      const SessionPlan plan =
          plan_session(world, config, resolve_grid(config, world.size()), Purpose::train);
      TrainingParts parts(world, plan, std::make_unique<TrainingData>(config, world, console), console);
      const Arena& of_model = parts.session.model().memory();
      MemoryUse use = of_model.use();
      use += parts.arena.use();

      const Groups& groups = parts.session.groups();
      const RankMemory planned = plan_memory(plan, groups.pp_rank, groups.dp_rank);
      for (const MemoryKind kind : enumerators<MemoryKind>()) {
        INFO(name_of(kind));
        CHECK(planned.use[kind] == use[kind]);
      }
      CHECK(planned.allocated == of_model.allocated() + parts.arena.allocated());
      CHECK(planned.use[MemoryKind::weights] > 0);
      ++compared;
    }
  CHECK(compared >= 14);
}
