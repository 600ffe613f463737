// Compares the text that a pipeline of ranks generates with the text of one rank, token for token.

#include "tests/multi_rank/spread_generation.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("a pipeline of ranks generates the text of one rank", "[ranks2][ranks4]") {
  const int ranks = multi_rank::world().size();
  TestStream stream;
  for (const NamedHeads& heads : every_kind_of_heads(2))
    for (const bool tied : {false, true})
      for (const SamplingOptions& sampling : {SamplingOptions{.temperature = 0}, SamplingOptions{}})
        for (const TreeShape& drafts : {TreeShape{}, TreeShape{1, 1, 1}, TreeShape{2, 2}}) {
          INFO(heads.name << (tied ? ", tied, " : ", ") << sampling.temperature << ", " << drafts.size());
          const Spread spread{
              .mtp = heads.mtp, .tied = tied, .sampling = sampling, .drafts = drafts, .stages = ranks};
          check_spread(multi_rank::world(), stream, spread);
          if (ranks != 4) continue;
          Spread two = spread;
          two.stages = 2;
          check_spread(multi_rank::world(), stream, two);
        }
}
