// Fuzzes read_vote() with the input as shard_00000.json, a rank's vote on a save.
#include "io/checkpoint/checkpoint_manifest.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::expect_an_answer([&] {
    const ShardVote vote = read_vote(fuzz::scratch_file({reinterpret_cast<const char*>(data), size}));
    tiling_error(vote.pieces);
    vote_text(vote);
  });
  return 0;
}
