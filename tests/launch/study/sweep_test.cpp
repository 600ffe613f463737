// Sweep files: the points that they describe, and errors.
#include "launch/study/sweep.h"

#include <filesystem>

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
    return read_sweep(folder.write("sweep.toml", text).string(), sets);
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
        "unknown key study.bases, expected base, ranks, directory or launcher (sweep.toml:2)");
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
