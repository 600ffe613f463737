// Conflicts between settings: the errors name places and values.
#include "launch/config/config_validator.h"

#include "launch/config/config_loader.h"
#include "launch/session/session.h"
#include "runtime/backend.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

Config config_of(const std::string& toml, const std::vector<std::string>& sets = {}) {
  Config config;
  config.data.path = "data.h5";
  apply_toml(config, toml, "t.toml");
  apply_sets(config, sets);
  return config;
}

template <class Check>
std::string refusal(const Check& check) {
  try {
    check();
  } catch (const UsageError& error) {
    return error.what();
  }
  FAIL("accepted");
  return "";
}

}  // namespace

TEST_CASE("a valid configuration passes the cross-checks") {
  const Config config = config_of("[model]\nnum_attention_heads = 8\nnum_key_value_heads = 2\n");
  CHECK_NOTHROW(validate(config));
  CHECK(resolve_grid(config, 4) == Grid{1, 4, 1});
  CHECK(resolve_grid(config_of("[parallel]\npp = 2\n"), 4) == Grid{2, 2, 1});
  CHECK(resolve_grid(config_of("[parallel]\npp = 5\n"), 5) == Grid{5, 1, 1});
}

TEST_CASE("options that contradict each other are refused with their lines and figures") {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"[model]\nnum_attention_heads = 6\nnum_key_value_heads = 4",
       "model: num_attention_heads 6 is not a multiple of num_key_value_heads 4 (t.toml:2, t.toml:3)"},
      {"[model]\nnum_attention_heads = 6",
       "model: hidden_size 128 is not a multiple of num_attention_heads 6: set model.head_dim (t.toml:2)"},
      {"[model]\nhead_dim = 33",
       "model: head_dim 33 is odd, but rotary embedding rotates pairs of elements (t.toml:2)"},
      {"[data]\nsequence_length = 4096",
       "data: sequence_length 4096 is longer than model.max_position_embeddings 2048 (t.toml:2)"},
      {"[train]\nglobal_batch = 10", "train: global_batch 10 is not a multiple of microbatch 4 (t.toml:2)"},
      {"[train]\nevaluate_every = 5",
       "train: evaluate_every 5 needs data.validation_path, which is not set (t.toml:2)"},
      {"[optimizer]\nwarmup_steps = 500",
       "optimizer: warmup_steps 500 and decay_steps 0 do not fit into train.steps 400 (t.toml:2)"},
      {"[optimizer]\ndecay_steps = 9223372036854775807",
       "optimizer: warmup_steps 20 and decay_steps 9223372036854775807 do not fit into train.steps 400 "
       "(t.toml:2)"},
      {"[optimizer]\nschedule = \"wsd\"",
       "optimizer: schedule \"wsd\" needs decay_steps, found 0 (t.toml:2)"},
      {"[parallel]\nschedule = \"interleaved_1f1b\"",
       "schedule interleaved_1f1b: needs at least 2 stages per rank, but v is 1; use 1f1b for one "
       "(t.toml:2)"},
      {"[parallel]\nvirtual_stages = 2",
       "schedule 1f1b: needs one stage per rank (v 1), but v is 2; gpipe and interleaved_1f1b accept more "
       "(t.toml:2)"},
      {"[parallel]\npp = 2\nblocks_per_stage = [4]",
       "partition: [4]: 1 entries, expected pp 2 × v 1 = 2 stages (t.toml:3, t.toml:2)"},
      {"[parallel]\npp = 2\nblocks_per_stage = [2, 3]",
       "partition: [2, 3]: 5 layers, but the model has 4 (t.toml:3, t.toml:2)"},
      {"[run]\nname = \"../other\"",
       "run: name \"../other\" cannot name a folder: expected no '/', no '.' at the beginning, and not empty "
       "(t.toml:2)"},
      {"[train]\nrecompute = \"full\"\n[parallel]\nschedule = \"zero_bubble_h1\"",
       "parallel: schedule \"zero_bubble_h1\" delays weight gradients, which is not possible with recompute "
       "\"full\" "
       "(t.toml:4)"},
  };
  for (const auto& [toml, message] : mistakes) {
    const Config config = config_of(toml);
    CHECK(refusal([&] { validate(config); }) == message);
  }
  CHECK(refusal([] { validate(Config{}); }) ==
        "data: path is not set: name a token dataset, --set data.path=data.h5");
}

TEST_CASE("a grid that does not match the world size is refused with its product") {
  CHECK(refusal([] { resolve_grid(config_of("[parallel]\npp = 2\ndp = 3\n"), 4); }) ==
        "parallel: pp 2 × dp 3 = 6, but the world has 4 ranks (t.toml:2, t.toml:3)");
  CHECK(refusal([] { resolve_grid(config_of("", {"parallel.pp=3"}), 4); }) ==
        "parallel: pp 3 does not divide the world of 4 ranks (--set parallel.pp=3)");
  CHECK(refusal([] { resolve_grid(config_of("[parallel]\npp = 2\n"), 1); }) ==
        "parallel: pp 2 does not divide the world of 1 rank (t.toml:2)");
}

TEST_CASE("a batch that the layout cannot split is refused with its product") {
  CHECK(refusal([] { resolve_grid(config_of("[train]\nglobal_batch = 12\n"), 2); }) ==
        "train: global_batch 12 is not a multiple of dp 2 × microbatch 4 = 8 (t.toml:2)");
}

TEST_CASE("more stages than layers are refused with figures") {
  CHECK(refusal([] { validate(config_of("[parallel]\npp = 10\n")); }) ==
        "partition: pp 10 × v 1 = 10 stages need at least 4.5 layers, the model has 4 (t.toml:2)");
  CHECK_NOTHROW(validate(config_of("[parallel]\npp = 9\n")));
}

TEST_CASE("sizes too large for the partition search or for a step's program are refused with figures") {
  CHECK_THAT(
      refusal([] { validate(config_of("[model]\nnum_hidden_layers = 8192\n[parallel]\npp = 1024\n")); }),
      contains("partition: 8192 layers × 1024 stages = 8388608, expected at most 4194304 for the search"));
  CHECK_THAT(refusal([] {
               validate(
                   config_of("[parallel]\npp = 65536\nvirtual_stages = 1024\nschedule = "
                             "\"interleaved_1f1b\"\n"));
             }),
             contains("65536 × v 1024 = 67108864 stages"));
  CHECK_THAT(refusal([] {
               const Config config = config_of(
                   "[model]\nnum_hidden_layers = 8\n[train]\nglobal_batch = 16777216\nmicrobatch = 1\n"
                   "[parallel]\npp = 2\n");
               validate(config);
               resolve_grid(config, 2);
             }),
             contains("16777216 microbatches × 2 stages, expected at most 8388608 in a step"));
}

TEST_CASE("a placement of heads without enough stages is refused") {
  const std::string heads = "[mtp]\ndepths = 2\nplacement = ";
  CHECK_NOTHROW(validate(config_of(heads + "\"stage_per_depth\"\n[parallel]\npp = 3\n")));
  CHECK(refusal([&] { validate(config_of(heads + "\"stage_per_depth\"\n[parallel]\npp = 2\n")); }) ==
        "mtp: placement \"stage_per_depth\" puts 2 depths on stages of their own: at least 3 stages are "
        "needed, but pp 2 × v 1 = 2 (t.toml:3, t.toml:2, t.toml:5)");
  CHECK(refusal([&] { validate(config_of(heads + "\"own_stage\"\n")); }) ==
        "mtp: placement \"own_stage\" puts no layer beside the heads: at least 2 stages are needed, but pp 1 "
        "× v 1 = 1 (t.toml:3, t.toml:2)");
}

TEST_CASE("layers are assigned to stages by time, and a layer is divided if that is faster") {
  const std::string reference =
      "[model]\nhidden_size = 2048\nnum_hidden_layers = 24\nnum_attention_heads = 16\n"
      "num_key_value_heads = 16\nhead_dim = 128\nintermediate_size = 5632\nvocab_size = 32768\n"
      "[data]\nsequence_length = 2048\n[mtp]\ndepths = 1\n";
  const auto assignment = [&](const std::string& more, const Grid& grid) {
    return resolve_layout(config_of(reference + more), grid, Purpose::train).halves_per_stage;
  };
  const std::string sixteen = "[train]\nglobal_batch = 64\nmicrobatch = 4\n[parallel]\npp = 2\n";
  CHECK(assignment(sixteen, {.pp = 2}) == std::vector<int>{28, 20});
  CHECK(assignment(sixteen + "virtual_stages = 2\nschedule = \"interleaved_1f1b\"\n",
                   {.pp = 2, .virtual_stages = 2}) == std::vector<int>{10, 17, 17, 4});
  // With many microbatches the step time depends only on the bottleneck stage, as in an evaluation.
  const std::string many = "[train]\nglobal_batch = 1024\nmicrobatch = 4\n[parallel]\npp = 2\n";
  CHECK(assignment(many, {.pp = 2}) == std::vector<int>{27, 21});
  CHECK(resolve_layout(config_of(reference + sixteen), {.pp = 2}, Purpose::evaluate).halves_per_stage ==
        std::vector<int>{27, 21});
  // Measured on two H200: 14 layers took 72 ms; 10 layers with a module and two heads took 67 ms.
  const std::vector<StageDurations> whole =
      stage_costs(layer_costs(config_of(reference), Purpose::train), {28, 20});
  CHECK(whole[0].total() / whole[1].total() == Approx(72.0 / 67).epsilon(0.02));
}

TEST_CASE("a vocabulary smaller than the dataset's is refused") {
  const Config config = config_of("[model]\nvocab_size = 200\n");
  CHECK(refusal([&] { validate_vocabulary(config, 257, "data.h5"); }) ==
        "model: vocab_size 200 is smaller than the vocabulary of data.h5, which has 257 tokens (t.toml:2)");
  CHECK_NOTHROW(validate_vocabulary(config, 200, "data.h5"));
}

TEST_CASE("a setting of another kind of heads is refused, not ignored") {
  CHECK(refusal([] { validate(config_of("[mtp]\nkind = \"parallel\"\nrepeat = true\n")); }) ==
        "mtp: repeat = true belongs to kind \"sequential\", but kind is \"parallel\" (t.toml:3, t.toml:2)");
  CHECK(
      refusal([] { validate(config_of("[mtp]\nresidual_form = \"medusa\"\n")); }) ==
      "mtp: residual_form = \"medusa\" belongs to kind \"residual\", but kind is \"sequential\" (t.toml:2)");
  CHECK_NOTHROW(validate(config_of("[mtp]\nkind = \"residual\"\nresidual_form = \"medusa\"\n")));
}

TEST_CASE("settings of the objective that contradict each other are refused with their lines") {
  const std::string heads = "[mtp]\ndepths = 2\n";
  CHECK(refusal([&] { validate(config_of(heads + "depth_weights = [0.3, 0.1]\n")); }) ==
        "mtp: depth_weights = [0.3, 0.1] belongs to weighting \"per_depth\", but weighting is \"mean\" "
        "(t.toml:3)");
  CHECK(refusal(
            [&] { validate(config_of(heads + "loss_weight = 0.1\nweighting = \"inverse_distance\"\n")); }) ==
        "mtp: loss_weight = 0.1 belongs to weighting \"mean\", but weighting is \"inverse_distance\" "
        "(t.toml:3, t.toml:4)");
  CHECK(refusal([&] { validate(config_of(heads + "balance_ratio = 0.5\n")); }) ==
        "mtp: balance_ratio = 0.5 belongs to balance \"dynamic\", but balance is \"none\" (t.toml:3)");
  CHECK(refusal([&] { validate(config_of(heads + "weighting = \"per_depth\"\ndepth_weights = [1]\n")); }) ==
        "mtp: depth_weights has 1 entry, but weighting \"per_depth\" needs one for each of depths 2 "
        "(t.toml:3, t.toml:4, t.toml:2)");
  CHECK(refusal([&] { validate(config_of(heads + "balance = \"dynamic\"\n")); }) ==
        "mtp: balance \"dynamic\" needs diagnose_every: it uses the gradient norms of diagnosed steps "
        "(t.toml:3, t.toml:2)");
  const std::string dynamic = heads + "balance = \"dynamic\"\ndiagnose_every = 5\n";
  CHECK_NOTHROW(validate(config_of(dynamic)));
  CHECK_THAT(refusal([&] {
               validate(config_of(dynamic + "[train]\nfreeze = \"trunk\"\ninit_from = \"runs/a\"\n"));
             }),
             foretoken::testing::contains("which detached heads do not give"));
  CHECK_NOTHROW(validate(config_of(
      heads + "balance = \"sampling\"\nsample_probabilities = [1, 0.5]\nschedule = [[0, 1], [9, 0.5]]")));
}

TEST_CASE("a frozen trunk needs heads and initial weights, and heads_clip needs heads") {
  CHECK(refusal([] { validate(config_of("[train]\nfreeze = \"trunk\"\ninit_from = \"runs/a\"\n")); }) ==
        "train: freeze \"trunk\" leaves nothing to train: mtp.depths is 0 (t.toml:2)");
  CHECK(refusal([] { validate(config_of("[train]\nfreeze = \"trunk\"\n[mtp]\ndepths = 1\n")); }) ==
        "train: freeze \"trunk\" needs train.init_from, a run or checkpoint with a trained trunk (t.toml:2)");
  CHECK(refusal([] { validate(config_of("[optimizer]\nheads_clip = 0.5\n")); }) ==
        "optimizer: heads_clip 0.5 has nothing to clip: mtp.depths is 0 (t.toml:2)");
}

TEST_CASE("parallel heads need a layer on the last stage") {
  const std::string heads = "[mtp]\nkind = \"parallel\"\ndepths = 2\n";
  CHECK_NOTHROW(validate(config_of("[parallel]\npp = 8\n")));
  CHECK(refusal([&] { validate(config_of(heads + "[parallel]\npp = 8\n")); }) ==
        "partition: pp 8 × v 1 = 8 stages need at least 4.5 layers, the model has 4 (t.toml:3, t.toml:5)");
  CHECK(
      refusal([&] { validate(config_of(heads + "[parallel]\npp = 2\nblocks_per_stage = [3.5, 0.5]\n")); }) ==
      "partition: [3.5, 0.5]: stage 1 has 0.5 layers, expected at least 1 (t.toml:6, t.toml:3, t.toml:5)");
}

TEST_CASE("a resumed run keeps its model and its conventions but may change its layout") {
  const Config before = config_of("[mtp]\ndepths = 2\n");
  Config config = before;
  apply_sets(config, {"parallel.pp=4", "optimizer.lr=1e-5", "mtp.loss_weight=0.1", "train.steps=800",
                      "mtp.balance=dynamic", "mtp.diagnose_every=10"});
  CHECK_NOTHROW(validate_resumed(before, config));
  apply_sets(config, {"mtp.concat=hidden_first"});
  CHECK(refusal([&] { validate_resumed(before, config); }) ==
        "mtp.concat: the run that is resumed has \"embedding_first\", found \"hidden_first\" (--set "
        "mtp.concat=hidden_first)");
  config = before;
  apply_sets(config, {"model.hidden_size=64"});
  CHECK(refusal([&] { validate_resumed(before, config); }) ==
        "model.hidden_size: the run that is resumed has 128, found 64 (--set model.hidden_size=64)");
}

TEST_CASE("a GPU that this build cannot use is refused before a run starts") {
  const Config config = config_of("[run]\ndevice = \"cuda\"");
  if constexpr (with_cuda)
    CHECK_NOTHROW(validate(config));
  else
    CHECK(refusal([&] { validate(config); }) ==
          "run: device \"cuda\": this program was built without a CUDA backend (t.toml:2)");
}
