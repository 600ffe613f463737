// Configurations: values, and errors that name the place of a mistake.
#include "launch/config/config_loader.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>

#include "launch/config/options.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;

namespace {

/// The error message for the text; fails the test if the text is accepted.
std::string refusal(const std::string& text) {
  Config config;
  try {
    apply_toml(config, text, "train.toml");
  } catch (const UsageError& error) {
    return error.what();
  }
  FAIL("accepted: " << text);
  return "";
}

std::string set_refusal(const std::vector<std::string>& sets) {
  Config config;
  try {
    apply_sets(config, sets);
  } catch (const UsageError& error) {
    return error.what();
  }
  FAIL("accepted: " << sets.front());
  return "";
}

}  // namespace

TEST_CASE("a file sets the options that it names, and the others keep their defaults") {
  Config config;
  apply_toml(config,
             "[model]\nhidden_size = 64\nrope_theta = 50000\ntie_word_embeddings = true\n"
             "[mtp]\ndepths = 2\nconcat = \"hidden_first\"\n"
             "[parallel]\nblocks_per_stage = [1, 2.5, 0.5]\n[train]\nseed = 9223372036854775807\n",
             "train.toml");
  CHECK(config.model.hidden_size == 64);
  CHECK(config.model.rope_theta == 50000.0);
  CHECK(config.model.tie_word_embeddings);
  CHECK(config.mtp.depths == 2);
  CHECK(config.mtp.concat == MtpConfig::Concat::hidden_first);
  CHECK(config.parallel.blocks_per_stage == std::vector<double>{1, 2.5, 0.5});
  CHECK(config.train.seed == 9223372036854775807ULL);
  CHECK(config.model.num_hidden_layers == ModelConfig{}.num_hidden_layers);
  CHECK(config.origins.at("mtp.depths") == "train.toml:6");
  CHECK(config.origins.count("optimizer.lr") == 0);
}

TEST_CASE("a printed configuration loads back to the same configuration") {
  Config config;
  apply_sets(config, {"optimizer.lr=0.1", "model.rms_norm_eps=1e-30", "data.path=a \"b\"\\c\td",
                      "run.device=cpu", "parallel.blocks_per_stage=[]", "mtp.trunk_hidden=raw",
                      "train.seed=7", "mtp.depth_weights=0.3, 1e-3", "mtp.schedule=[0, 0.3], [1e13, 0.1]"});
  Config again;
  apply_toml(again, to_toml(config), "printed");
  for (const Option& option : options()) {
    INFO(option.name());
    CHECK(option.get(again) == option.get(config));
  }
  CHECK(to_toml(again) == to_toml(config));
  CHECK(config.data.path == (std::filesystem::current_path() / "a \"b\"\\c\td").string());
  CHECK(config.mtp.depth_weights == std::vector<double>{0.3, 1e-3});
  CHECK(config.mtp.schedule == std::vector<NumberPair>{{0, 0.3}, {1e13, 0.1}});
}

TEST_CASE("every option's default lies within its own bounds and survives a round trip") {
  Config config, defaults;
  defaults.run.directory = absolute_path(defaults.run.directory);
  for (const Option& option : options()) {
    INFO(option.name());
    CHECK_NOTHROW(apply_sets(config, {option.name() + "=" + to_toml(option.get(Config{}))}));
    CHECK_FALSE(option.help.empty());
    CHECK(find_option(option.section, option.key) == &option);
  }
  CHECK(to_toml(config) == to_toml(defaults));
}

TEST_CASE("an error about a file names file and line") {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"[model]\n\nhidden_sizes = 3",
       "unknown key model.hidden_sizes; did you mean model.hidden_size? (train.toml:3)"},
      {"[data]\nlr = 1", "unknown key data.lr; did you mean optimizer.lr? (train.toml:2)"},
      {"[data]\nqwertyuiop = 1", "unknown key data.qwertyuiop (train.toml:2)"},
      {"[modle]\nhidden_size = 3", "unknown section [modle]; did you mean [model]? (train.toml:1)"},
      {"\nsteps = 3",
       "steps: expected a [section], found an integer; did you mean train.steps? (train.toml:2)"},
      {"[[model]]", "model: expected a [section], found a list (train.toml:1)"},
      {"[train]\nsteps = \"3\"", "train.steps: expected integer, at least 1, found a string (train.toml:2)"},
      {"[train]\nsteps = 3.5",
       "train.steps: expected integer, at least 1, found a number with a fraction (train.toml:2)"},
      {"[train]\nsteps = true", "train.steps: expected integer, at least 1, found a boolean (train.toml:2)"},
      {"[train]\nsteps = 0", "train.steps: 0 is out of range, expected integer, at least 1 (train.toml:2)"},
      {"[train]\nseed = -1", "train.seed: -1 is out of range, expected integer, at least 0 (train.toml:2)"},
      {"[parallel]\nvirtual_stages = 4294967297",
       "parallel.virtual_stages: 4294967297 is out of range, expected integer, 1 to 1024 (train.toml:2)"},
      {"[parallel]\ntimeout_seconds = 2147483648",
       "parallel.timeout_seconds: 2147483648 is out of range, expected integer, at least 1 (train.toml:2)"},
      {"[optimizer]\nlr = 0", "optimizer.lr: 0 is out of range, expected number, positive (train.toml:2)"},
      {"[optimizer]\nlr = inf",
       "optimizer.lr: inf is out of range, expected number, positive (train.toml:2)"},
      {"[optimizer]\nbeta2 = 1.0",
       "optimizer.beta2: 1 is out of range, expected number, at least 0 and below 1 (train.toml:2)"},
      {"[parallel]\nschedule = \"1f2b\"",
       "parallel.schedule: expected one of gpipe, 1f1b, interleaved_1f1b, zero_bubble_h1, found \"1f2b\" "
       "(train.toml:2)"},
      {"[parallel]\nblocks_per_stage = [1, \"2\"]",
       "parallel.blocks_per_stage: expected list of numbers, multiples of 0.5, 0 to 65536, found a string "
       "(train.toml:2)"},
      {"[parallel]\nblocks_per_stage = [1, -2]",
       "parallel.blocks_per_stage: -2 is out of range, expected list of numbers, multiples of 0.5, 0 to "
       "65536 (train.toml:2)"},
      {"[parallel]\nblocks_per_stage = [1.25]",
       "parallel.blocks_per_stage: 1.25 is out of range, expected list of numbers, multiples of 0.5, 0 to "
       "65536 (train.toml:2)"},
      {"[mtp]\ndepth_weights = 0.3",
       "mtp.depth_weights: expected list of numbers, at least 0, found a number with a fraction "
       "(train.toml:2)"},
      {"[mtp]\ndepth_weights = [0.3, -1]",
       "mtp.depth_weights: -1 is out of range, expected list of numbers, at least 0 (train.toml:2)"},
      {"[mtp]\nsample_probabilities = [1, 0]",
       "mtp.sample_probabilities: 0 is out of range, expected list of numbers, above 0 and at most 1 "
       "(train.toml:2)"},
      {"[mtp]\nschedule = [0, 1]",
       "mtp.schedule: expected list of pairs [a, b] of numbers, at least 0, found an integer (train.toml:2)"},
      {"[mtp]\nschedule = [[0, 1], [5]]",
       "mtp.schedule: expected list of pairs [a, b] of numbers, at least 0, found a list of 1 value "
       "(train.toml:2)"},
      {"[mtp]\nschedule = [[0, \"1\"]]",
       "mtp.schedule: expected list of pairs [a, b] of numbers, at least 0, found a string (train.toml:2)"},
      {"[parallel]\nsharded_optimizer = 1",
       "parallel.sharded_optimizer: expected boolean, found an integer (train.toml:2)"},
      {"[data]\npath = 1979-05-27", "data.path: expected text, found a date or time (train.toml:2)"},
  };
  for (const auto& [text, message] : mistakes) CHECK(refusal(text) == message);
}

TEST_CASE("a file that is not TOML is refused with file and line") {
  const std::vector<std::pair<std::string, int>> mistakes = {
      {"[train]\nsteps = 3\nsteps = 4", 3},
      {"[train\n", 1},
      {"[train]\nsteps = 99999999999999999999", 2},
      {"[data]\npath = \"\xff\xfe\"", 2},
      {std::string(100000, '['), 1},
  };
  for (const auto& [text, line] : mistakes)
    CHECK_THAT(refusal(text),
               StartsWith("not TOML: ") && EndsWith(" (train.toml:" + std::to_string(line) + ")"));
}

TEST_CASE("text that toml++ crashes on is refused before it is parsed") {
  CHECK(refusal("[train]\nseed = \xe3\x80") == "not TOML: byte 0xe3 is not UTF-8 (train.toml:2)");
  for (const char* text : {"[train]\n[5a.a\xcc\x9e.C]\n", "[train]\nseed = [5a'.a\xcc\x9e.a]a\n"})
    CHECK_THAT(refusal(text), EndsWith(" (train.toml:2)"));
  CHECK(refusal("\n[run]\nname = \"a\x1b[31m\"") ==
        "not TOML: control character 0x1b: TOML allows none, write an escape (train.toml:3)");
  CHECK(refusal("\n[\nmodel]\n") == "not TOML: a key is missing after [ or [[ (train.toml:2)");
  CHECK(refusal("[[\n") == "not TOML: a key is missing after [ or [[ (train.toml:1)");
  std::string parts = "a";
  for (int i = 0; i < 200'000; ++i) parts += ".a";
  CHECK(refusal("[" + parts + "]\n") == "not TOML: a key of more than 17 parts (train.toml:1)");
  CHECK(refusal("# " + parts + "\n" + parts + " = 1\n") ==
        "not TOML: a key of more than 17 parts (train.toml:2)");
  Config config;
  const std::string dots(100, '.');
  apply_toml(config,
             "# " + dots + "\n[data]\npath = \"" + dots + "\"\n[optimizer]\nlr = 0.5 # " + dots +
                 "\n[mtp]\ndepths = 20\ndepth_weights = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, "
                 "0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]\n",
             "dots.toml");
  CHECK(config.data.path == dots);
}

TEST_CASE("a configuration that is a pipe is refused without waiting") {
  const TemporaryFolder folder;
  REQUIRE(mkfifo((folder / "pipe.toml").c_str(), 0600) == 0);
  Config config;
  try {
    apply_toml_file(config, folder / "pipe.toml");
    FAIL("accepted");
  } catch (const UsageError& error) {
    CHECK_THAT(error.what(),
               EndsWith("pipe.toml: the configuration cannot be read: is a pipe, expected a file"));
  }
}

TEST_CASE("an error about an unreadable file names the file") {
  Config config;
  for (const std::string path : {"/nowhere/train.toml", "/"}) {
    try {
      apply_toml_file(config, path);
      FAIL("accepted: " << path);
    } catch (const UsageError& error) {
      CHECK_THAT(error.what(), StartsWith(path + ": the configuration cannot be read: "));
    }
  }
}

TEST_CASE("an empty file is a valid configuration") {
  Config config;
  CHECK_NOTHROW(apply_toml(config, "", "empty.toml"));
  CHECK(to_toml(config) == to_toml(Config{}));
}

TEST_CASE("flags set values of every type") {
  Config config;
  apply_sets(config, {"run.name=two words", "data.path=\"quoted.h5\"", "parallel.schedule=gpipe",
                      "parallel.blocks_per_stage=3,1.5", "model.tie_word_embeddings=true", "optimizer.lr=1",
                      "train.steps=1_000", "data.validation_path=a=b"});
  CHECK(config.run.name == "two words");
  CHECK(config.data.path == absolute_path("quoted.h5"));
  CHECK(config.data.validation_path == absolute_path("a=b"));
  CHECK(config.parallel.schedule == "gpipe");
  CHECK(config.parallel.blocks_per_stage == std::vector<double>{3, 1.5});
  CHECK(config.model.tie_word_embeddings);
  CHECK(config.optimizer.lr == 1.0);
  CHECK(config.train.steps == 1000);
  CHECK(config.origins.at("run.name") == "--set run.name=two words");
}

TEST_CASE("a flag overrides the file and becomes the value's origin") {
  Config config;
  apply_toml(config, "[train]\nsteps = 5\n", "train.toml");
  apply_sets(config, {"train.steps=6"});
  CHECK(config.train.steps == 6);
  CHECK(origin_of(config, {"train.steps", "train.seed"}) == " (--set train.steps=6)");
  CHECK(origin_of(config, {"train.seed"}) == "");
}

TEST_CASE("if two flags set one key, the last one wins") {
  Config config;
  apply_sets(config, {"train.steps=1", "train.seed=3", "train.steps=2"});
  CHECK(config.train.steps == 2);
  CHECK(config.train.seed == 3);
  CHECK(origin_of(config, {"train.steps"}) == " (--set train.steps=2)");
}

TEST_CASE("a path in a file is relative to the file's folder, a path in a flag to the working directory") {
  const TemporaryFolder folder;
  const auto file = folder.write("configs/train.toml",
                                 "[data]\npath = \"../data/d.h5\"\nvalidation_path = \"v.h5\"\n"
                                 "[run]\ndirectory = \"/runs\"\nname = \"a\"\n");
  Config config;
  apply_toml_file(config, file.string());
  const std::filesystem::path root = std::filesystem::canonical(folder.path());
  CHECK(config.data.path == (root / "data/d.h5").string());
  CHECK(config.data.validation_path == (folder / "configs/v.h5").string());
  CHECK(config.run.directory == "/runs");
  CHECK(config.run.name == "a");
  CHECK(config.train.init_from.empty());
  setenv("HOME", "/home/someone", 1);
  apply_sets(config, {"data.path=~/d.h5", "data.validation_path=./v.h5", "train.init_from=~", "run.name=~"});
  CHECK(config.data.path == "/home/someone/d.h5");
  CHECK(config.data.validation_path == (std::filesystem::current_path() / "v.h5").string());
  CHECK(config.train.init_from == "/home/someone");
  CHECK(config.run.name == "~");
  // A configuration that a run wrote has absolute paths. Relative paths of an older run stay as they are.
  Config again;
  apply_toml(again, to_toml(config), "runs/a/config.toml");
  CHECK(again.data.path == config.data.path);
  apply_toml(again, "[data]\npath = \"d.h5\"\n", "runs/a/config.toml");
  CHECK(again.data.path == "d.h5");
}

TEST_CASE("sizes of the model that are not set follow from sizes that are") {
  Config config;
  apply_toml(config, "[model]\nnum_attention_heads = 8\nhidden_size = 512\n", "train.toml");
  CHECK(config.model.head_dim == 64);
  CHECK(config.model.num_key_value_heads == 8);
  CHECK(config.model.intermediate_size == 1408);
  CHECK_THAT(to_toml(config), testing::contains("head_dim = 64\n"));
  apply_sets(config, {"model.num_key_value_heads=2", "model.hidden_size=256", "model.intermediate_size=700"});
  CHECK(config.model.head_dim == 32);
  CHECK(config.model.num_key_value_heads == 2);
  CHECK(config.model.intermediate_size == 700);
  // The default sizes are those that follow from the default hidden_size and num_attention_heads.
  Config defaults;
  apply_sets(defaults, {"model.hidden_size=128", "model.num_attention_heads=4"});
  CHECK(to_toml(defaults) == to_toml(Config{}));
  Config printed;
  apply_toml(printed, "[model]\nhead_dim = 16\nhidden_size = 512\n", "printed");
  CHECK(printed.model.head_dim == 16);
}

TEST_CASE("an error about a flag quotes the flag") {
  CHECK(set_refusal({"steps=3"}) == "expected section.key=value (--set steps=3)");
  CHECK(set_refusal({"train.steps"}) == "expected section.key=value (--set train.steps)");
  CHECK(set_refusal({"train.step=3"}) ==
        "unknown key train.step; did you mean train.steps? (--set train.step=3)");
  CHECK(set_refusal({"train.steps=many"}) ==
        "train.steps: expected integer, at least 1, found \"many\" (--set train.steps=many)");
  CHECK(set_refusal({"train.steps="}) ==
        "train.steps: expected integer, at least 1, found \"\" (--set train.steps=)");
  CHECK(set_refusal({"train.steps=1\nseed=2"}) ==
        "train.steps: expected one value, found several (--set train.steps=1\nseed=2)");
  CHECK(set_refusal({"parallel.blocks_per_stage=1,x"}) ==
        "parallel.blocks_per_stage: expected list of numbers, multiples of 0.5, 0 to 65536, found \"1,x\" "
        "(--set parallel.blocks_per_stage=1,x)");
  CHECK_THAT(set_refusal({"data.path=\xff"}),
             StartsWith("data.path: byte 0xff is not UTF-8 (--set data.path="));
}
