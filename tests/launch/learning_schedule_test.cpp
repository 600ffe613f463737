// Warnings about a changed train.steps in a run that resumes.
#include "launch/config/learning_schedule.h"

#include "launch/config/config_loader.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

Config config_of(const std::vector<std::string>& sets) {
  Config config;
  apply_sets(config, sets);
  return config;
}

}  // namespace

TEST_CASE("more steps under a cosine schedule give a warning with both learning rates") {
  const Config before = config_of({"train.steps=100", "optimizer.lr=3e-3", "optimizer.warmup_steps=0"});
  Config now = before;
  CHECK(resume_warnings(before, now, 100).empty());
  now.train.steps = 200;
  const std::vector<std::string> warnings = resume_warnings(before, now, 100);
  REQUIRE(warnings.size() == 1);
  CHECK_THAT(warnings[0], contains("train.steps 200 instead of 100") &&
                              contains("the learning rate of step 101 is 1.63e-03, not 3.00e-04"));
}

TEST_CASE("more steps that do not change the learning rate give no warning") {
  for (const char* schedule : {"optimizer.schedule=constant", "optimizer.decay_steps=50"}) {
    const Config before = config_of({"train.steps=100", schedule});
    Config now = before;
    now.train.steps = 200;
    now.optimizer.lr *= 2;  // a changed learning rate gives no warning
    CHECK(resume_warnings(before, now, 60).empty());
  }
}

TEST_CASE("fewer steps than the checkpoint's give a warning that no step is left") {
  const Config before = config_of({"train.steps=100"});
  const std::vector<std::string> warnings = resume_warnings(before, config_of({"train.steps=20"}), 30);
  REQUIRE(warnings.size() == 1);
  CHECK_THAT(warnings[0], contains("train.steps is 20, but the checkpoint is at step 30"));
}
