// Sweep files: the points that they describe, and errors.
#include <filesystem>

#include "launch/study/study_plan.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using Catch::Matchers::StartsWith;
using foretoken::testing::contains;

namespace {

struct Files {
  TemporaryFolder folder;

  Files() { folder.write("base.toml", "[data]\npath = \"d.h5\"\n[train]\nsteps = 50\nseed = 3\n"); }
  Sweep read(const std::string& text, const std::vector<std::string>& sets = {}) const {
    return read_sweep(folder.write("sweep.toml", text).string(), sets, best_layout);
  }
  std::string refusal(const std::string& text) const {
    try {
      read(text);
    } catch (const UsageError& error) {
      const std::string path = (folder / "").string();
      std::string message = error.what();
      for (std::size_t at = message.find(path); at != std::string::npos; at = message.find(path))
        message.erase(at, path.size());
      return message;
    }
    FAIL("accepted: " << text);
    return "";
  }
};

const std::string study = "[study]\nbase = \"base.toml\"\n";

}  // namespace

TEST_CASE("a sweep has every combination of its axes, and its points") {
  const Files files;
  const Sweep sweep = files.read(study + R"(ranks = 2
directory = "somewhere"
launcher = "srun -n {ranks}"

[train]
steps = 40

[axes]
mtp.kind = ["parallel", "linear"]
"mtp.depths" = [1, 3]

[[points]]
name = "no heads"
ranks = 4
parallel.pp = 2
mtp.depths = 0
)");
  CHECK(sweep.title == "sweep");
  CHECK(sweep.directory == "somewhere");
  CHECK(sweep.launcher == "srun -n {ranks}");
  std::vector<std::string> names;
  for (const SweepPoint& point : sweep.points) names.push_back(point.name);
  CHECK(names == std::vector<std::string>{"kind=parallel,depths=1", "kind=parallel,depths=3",
                                          "kind=linear,depths=1", "kind=linear,depths=3", "no heads"});
  CHECK(sweep.points[2].config.mtp.kind == MtpConfig::Kind::linear);
  CHECK(sweep.points[1].config.mtp.depths == 3);
  CHECK(sweep.points[1].config.train.steps == 40);
  CHECK(sweep.points[1].config.train.seed == 3);
  CHECK(sweep.points[0].ranks == 2);
  CHECK(sweep.points[4].ranks == 4);
  CHECK(sweep.points[4].config.parallel.pp == 2);
  CHECK(sweep.swept == std::vector<std::string>{"mtp.kind", "mtp.depths", "parallel.pp", "ranks"});
  CHECK(sweep.points[2].settings.at("mtp.kind") == "linear");
  CHECK(sweep.points[4].settings.at("ranks") == "4");
}

TEST_CASE("a sweep has defaults, flags for every point, and names of settings that differ") {
  const Files files;
  const Sweep sweep =
      files.read("data.path = \"x.h5\"\nmtp.depths = 2\n[axes]\nranks = [1, 2]\nmtp.loss_weight = [0.1]\n",
                 {"train.steps=33", "optimizer.warmup_steps=3"});
  CHECK(sweep.directory == "runs/sweep");
  CHECK(sweep.launcher == "mpirun -n {ranks}");
  REQUIRE(sweep.points.size() == 2);
  CHECK(sweep.points[1].name == "ranks=2,loss_weight=0.1");
  CHECK(sweep.points[1].ranks == 2);
  CHECK(sweep.points[0].config.train.steps == 33);
  CHECK(sweep.swept == std::vector<std::string>{"ranks"});
}

TEST_CASE("an invalid sweep is refused with file and line") {
  const Files files;
  CHECK(files.refusal(study) == "no points: expected [axes] or [[points]] (sweep.toml)");
  CHECK(files.refusal(study + "[axes]\nmtp.depths = []\n") ==
        "axis mtp.depths: expected at least one value, found none (sweep.toml:4)");
  CHECK(files.refusal(study + "[axes]\n") == "[axes]: expected at least one axis, found none (sweep.toml:3)");
  CHECK(files.refusal(study + "[axes]\nmtp.depths = 2\n") ==
        "axis mtp.depths: expected a list of values, found an integer (sweep.toml:4)");
  CHECK(files.refusal(study + "[axes]\nmtp.depth = [2]\n") ==
        "unknown key mtp.depth in [axes]; did you mean mtp.depths? (sweep.toml:4)");
  CHECK(files.refusal(study + "[axes]\n\"mtp.depth\" = [2]\n") ==
        "unknown key mtp.depth in [axes]; did you mean mtp.depths? (sweep.toml:4)");
  CHECK(files.refusal(study + "[axes]\ndepths = [2]\n") ==
        "unknown key depths in [axes], expected ranks or section.key (sweep.toml:4)");
  CHECK(files.refusal(study + "[axes]\nmtp.depths = [2, \"three\"]\n") ==
        "mtp.depths: expected integer, 0 to 64, found a string (sweep.toml:4)");
  CHECK(files.refusal(study + "[axes]\nranks = [0]\n") ==
        "axis ranks: expected an integer, 1 to 65536 (sweep.toml:4)");
  CHECK(files.refusal("[study]\nbases = \"x\"\n") ==
        "unknown key study.bases, expected base, ranks, directory, launcher or sbatch (sweep.toml:2)");
  CHECK(files.refusal("[study]\nlauncher = \"\"\n") == "study.launcher: is empty (sweep.toml:2)");
  CHECK(files.refusal("[study]\nlauncher = 2\n") ==
        "study.launcher: expected text, found an integer (sweep.toml:2)");
  CHECK_THAT(files.refusal("[study]\nbase = \"none.toml\"\n"),
             StartsWith("none.toml: the configuration cannot"));
  CHECK(files.refusal(study + "[tran]\nsteps = 3\n") ==
        "unknown section [tran]; did you mean [train]? (sweep.toml:3)");
  CHECK(files.refusal(study + "[[points]]\nmtp.depths = 1\n") ==
        "[[points]]: the name is missing (sweep.toml:3)");
  CHECK(files.refusal(study + "[[points]]\nname = \"a\"\n[[points]]\nname = \"a\"\n") ==
        "two points are named \"a\" (sweep.toml:5)");
  CHECK_THAT(files.refusal(study + "[[points]]\nname = \"a/b\"\n"), contains("cannot name a folder"));
  CHECK(files.refusal(study + "[[points]]\nname = \"a\"\nmtp.depthz = 1\n") ==
        "unknown key mtp.depthz; did you mean mtp.depths? (sweep.toml:5)");
  CHECK(files.refusal(study + "[points]\nname = \"a\"\n") ==
        "points: expected tables [[points]], found a table (sweep.toml:3)");
  const std::string misfit =
      files.refusal(study + "[[points]]\nname = \"three\"\nranks = 3\nparallel.pp = 2\n");
  CHECK_THAT(misfit, StartsWith("point \"three\": ") && contains("pp 2 does not divide the world of 3") &&
                         Catch::Matchers::EndsWith(" (sweep.toml:6)"));
  CHECK_THAT(files.refusal(study + "[[points]]\nname = \"no place\"\nranks = 7\n"),
             StartsWith("point \"no place\": ") && Catch::Matchers::EndsWith(" (sweep.toml:3)"));
}

TEST_CASE("a scaling study runs every legal number of ranks once before it repeats any") {
  const Files files;
  const Sweep sweep = files.read(study + R"(
[scaling]
mode = "strong"
ranks = [1, 2]
repeats = 2
warmup_steps = 3
[axes]
parallel.pp = [1, 2]
)");
  std::vector<std::string> names;
  for (const SweepPoint& point : sweep.points) names.push_back(point.name);
  CHECK(names == std::vector<std::string>{"ranks=1,pp=1,repeat=1", "ranks=1,pp=2", "ranks=2,pp=1,repeat=1",
                                          "ranks=2,pp=2,repeat=1", "ranks=1,pp=1,repeat=2",
                                          "ranks=2,pp=1,repeat=2", "ranks=2,pp=2,repeat=2", "ranks=4,pp=1",
                                          "ranks=4,pp=2", "ranks=8,pp=1", "ranks=8,pp=2", "ranks=16,pp=2"});
  REQUIRE(sweep.scaling.has_value());
  CHECK(sweep.scaling->warmup_steps == 3);
  CHECK(sweep.points[5].group == "ranks=2,pp=1");
  CHECK(sweep.points[5].repeat == 2);
  CHECK_THAT(sweep.points[1].illegal, StartsWith("parallel: pp 2 does not divide the world of 1 rank"));
  CHECK(sweep.points[0].illegal.empty());
  CHECK_FALSE(sweep.points[6].projected);
  CHECK(sweep.points[7].projected);  // 2, 4 and 8 times the most ranks, if they are legal
}

TEST_CASE("named layouts of a scaling study are an axis, and asked-for projections are kept if illegal") {
  const Files files;
  const std::string text = study + R"(
[train]
global_batch = 16
microbatch = 2
[scaling]
mode = "strong"
ranks = [1, 2]
projected_ranks = [3, 4]
repeats = 1
[[scaling.layouts]]
name = "replicas"
[[scaling.layouts]]
name = "interleaved"
parallel.pp = 2
parallel.virtual_stages = 2
parallel.schedule = "interleaved_1f1b"
)";
  const Sweep sweep = files.read(text);
  std::vector<std::string> names;
  for (const SweepPoint& point : sweep.points)
    names.push_back(point.name + (point.illegal.empty() ? "" : " illegal") +
                    (point.projected ? " projected" : ""));
  CHECK(names == std::vector<std::string>{"ranks=1,layout=replicas", "ranks=1,layout=interleaved illegal",
                                          "ranks=2,layout=replicas", "ranks=2,layout=interleaved",
                                          "ranks=3,layout=replicas illegal projected",
                                          "ranks=3,layout=interleaved illegal projected",
                                          "ranks=4,layout=replicas projected",
                                          "ranks=4,layout=interleaved projected"});
  CHECK(sweep.points[3].config.parallel.virtual_stages == 2);
  CHECK(sweep.points[3].settings.at("layout") == "interleaved");
  CHECK(sweep.swept == std::vector<std::string>{"ranks", "layout"});
  CHECK_THAT(files.refusal(text + "[axes]\nparallel.pp = [1]\n"),
             contains("[[scaling.layouts]] lists the layouts"));
}

TEST_CASE("a weak study's batch grows with the ranks, and a batch that would not be whole is illegal") {
  const Files files;
  const Sweep sweep = files.read(study + R"(
[train]
global_batch = 24
microbatch = 4
[scaling]
mode = "weak"
ranks = [2, 3, 4, 5]
projected_ranks = []
repeats = 1
)");
  REQUIRE(sweep.points.size() == 4);
  CHECK(sweep.points[0].name == "ranks=2");
  CHECK(sweep.points[0].config.train.global_batch == 24);
  CHECK(sweep.points[1].config.train.global_batch == 36);
  CHECK(sweep.points[2].config.train.global_batch == 48);
  CHECK(sweep.points[3].config.train.global_batch == 60);
  CHECK(sweep.points[3].illegal.empty());
  const Sweep odd = files.read(study +
                               "[train]\nglobal_batch = 3\nmicrobatch = 1\n[scaling]\nmode = \"weak\"\n"
                               "ranks = [2, 3]\nrepeats = 1\nwarmup_steps = 5\n[parallel]\npp = 2\ndp = 1\n");
  CHECK_THAT(odd.points[1].illegal, contains("3 · 3 / 2 is not a whole number of rows"));
}

TEST_CASE("the best layout uses all ranks even if the configured layout fits") {
  const Files files;
  const Sweep sweep = files.read(study + R"(
[train]
global_batch = 7
microbatch = 7
[model]
num_hidden_layers = 4
[scaling]
mode = "strong"
ranks = [1, 2, 64]
layout = "best"
repeats = 1
)");
  CHECK(sweep.points[0].config.parallel.pp == 1);
  CHECK(sweep.points[1].config.parallel.pp == 2);  // 7 rows cannot be divided
  CHECK(sweep.points[1].config.parallel.dp == 1);
  CHECK_THAT(sweep.points[2].illegal, contains("no layout of 64 ranks is legal"));
}

TEST_CASE("an invalid [scaling] is refused with file and line") {
  const Files files;
  const std::string legal = study + "[scaling]\nmode = \"strong\"\nranks = [1, 2]\n";
  CHECK(files.refusal(study + "scaling = 2\n") ==
        "unknown key study.scaling, expected base, ranks, directory, launcher or sbatch (sweep.toml:3)");
  CHECK(files.refusal("[study]\nsbatch = 3\n") ==
        "study.sbatch: expected a list of options such as \"--time=00:30:00\" (sweep.toml:2)");
  CHECK(files.refusal("[study]\nsbatch = [\"gpu\"]\n") ==
        "study.sbatch: expected an option such as \"--time=00:30:00\" (sweep.toml:2)");
  CHECK(files.refusal("scaling = 2\n") == "[scaling]: expected a table, found an integer (sweep.toml:1)");
  CHECK(files.refusal(study + "[scaling]\nranks = [1]\n") == "[scaling]: mode is missing (sweep.toml:3)");
  CHECK(files.refusal(study + "[scaling]\nmode = \"weak\"\n") ==
        "[scaling]: ranks is missing (sweep.toml:3)");
  CHECK(files.refusal(study + "[scaling]\nmode = \"week\"\n") ==
        "scaling.mode: expected \"strong\" or \"weak\" (sweep.toml:4)");
  CHECK(files.refusal(study + "[scaling]\nranks = [2, 1]\n") ==
        "scaling.ranks: expected ascending numbers, found 1 after 2 (sweep.toml:4)");
  CHECK(files.refusal(study + "[scaling]\nranks = [0]\n") ==
        "scaling.ranks: expected an integer, 1 to 65536 (sweep.toml:4)");
  CHECK(files.refusal(study + "[scaling]\nranks = []\n") ==
        "scaling.ranks: expected a list of at least one number (sweep.toml:4)");
  CHECK(files.refusal(legal + "repeat = 2\n") ==
        "unknown key scaling.repeat, expected mode, ranks, projected_ranks, layout, layouts, "
        "device, profile, per_node, repeats or warmup_steps (sweep.toml:6)");
  CHECK(files.refusal(legal + "projected_ranks = [2]\n") ==
        "scaling.projected_ranks: expected more than scaling.ranks' 2, found 2 (sweep.toml:6)");
  CHECK(files.refusal(legal + "profile = [3]\n") == "scaling.profile: expected text (sweep.toml:6)");
  CHECK(files.refusal(legal + "layouts = 2\n") ==
        "scaling.layouts: expected tables [[scaling.layouts]] (sweep.toml:6)");
  CHECK(files.refusal(legal + "[[scaling.layouts]]\nparallel.pp = 1\n") ==
        "[[scaling.layouts]]: the name is missing (sweep.toml:6)");
  CHECK_THAT(files.refusal(legal + "layout = \"best\"\n[[scaling.layouts]]\nname = \"a\"\n"),
             contains("scaling.layout = \"best\" chooses the layouts"));
  CHECK(files.refusal(legal + "repeats = 0\n") ==
        "scaling.repeats: expected an integer, 1 to 100 (sweep.toml:6)");
  CHECK(files.refusal(legal + "warmup_steps = 50\n") ==
        "scaling.warmup_steps 50: none of the 50 steps of train.steps is measured (sweep.toml)");
  CHECK_THAT(files.refusal(legal + "layout = \"good\"\n"), StartsWith("scaling.layout: expected \"best\""));
  CHECK(files.refusal(legal + "layout = \"best\"\n[axes]\nparallel.pp = [1]\n") ==
        "axis parallel.pp: scaling.layout = \"best\" chooses it (sweep.toml:8)");
  CHECK(files.refusal(legal + "[axes]\nranks = [1]\n") ==
        "axis ranks: scaling.ranks lists the ranks already (sweep.toml:7)");
  CHECK(files.refusal(study + "ranks = 2\n[scaling]\nmode = \"weak\"\nranks = [1]\n") ==
        "study.ranks: scaling.ranks lists the ranks (sweep.toml:3)");
  CHECK(files.refusal(legal + "[[points]]\nname = \"a\"\n") ==
        "[[points]]: a scaling study has no single points, expected [axes] (sweep.toml:6)");
  CHECK_THAT(files.refusal(legal + "[parallel]\npp = 64\n"),
             StartsWith("every point is illegal; the first, \"ranks=1\": "));
}
