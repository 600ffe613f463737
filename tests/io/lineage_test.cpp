// The checkpoints that a run continues from after it went back.
#include "io/checkpoint/lineage.h"

#include <fstream>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/files/durable_file.h"
#include "io/files/text_file.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/fault_injection.h"
#include "tests/support/temporary_folder.h"

namespace foretoken {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

/// Saves steps as one job does, on the lineage that continue_from() returned.
void save_steps(const fs::path& directory, std::initializer_list<std::int64_t> steps, const Lineage& lineage,
                CheckpointInfo::Parent parent = {}, int keep = 10) {
  const std::vector<RankPieces> cut = cut_evenly(1, 1);
  CheckpointWriter writer(directory, 0, 1, {.keep = keep, .parent = parent, .lineage = lineage});
  for (const std::int64_t step : steps) {
    writer.save(test_info(step, 1), cut[0].pieces, {});
    writer.finish();
  }
}

CheckpointInfo info_at(const fs::path& path) {
  return Checkpoint::open(path).info();
}

CheckpointInfo::Parent parent_at(const fs::path& path) {
  const CheckpointInfo info = info_at(path);
  return {.id = info.id, .step = info.step};
}

Lineage go_on(const fs::path& directory, const fs::path& path) {
  const Lineage lineage = continue_from(directory, path, info_at(path), "# settings\n");
  finish_branch(directory);
  return lineage;
}

Names listed(const fs::path& directory) {
  Names names;
  for (const fs::path& path : list_checkpoints(directory))
    names.push_back(fs::relative(path, directory).string());
  return names;
}

TEST_CASE("each checkpoint names the one before it as its parent") {
  const TemporaryFolder folder;
  save_steps(folder / "c", {5, 10}, {});
  const CheckpointInfo first = info_at(folder / "c/step_00000005"),
                       second = info_at(folder / "c/step_00000010");
  CHECK(first.parent.step == -1);
  CHECK(first.id.size() == 32);
  CHECK(second.id != first.id);
  CHECK(second.parent.id == first.id);
  CHECK(second.parent.step == 5);
  CHECK(second.lineage == Lineage{});
}

TEST_CASE("a run that went back never loads the later checkpoints that it abandoned") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10, 15, 20, 30}, {});
  const Lineage lineage = go_on(c, c / "step_00000010");
  CHECK(lineage == Lineage{.branch = 2, .ancestors = {{.branch = 1, .until = 10}}});
  CHECK(listed(c) == Names{"step_00000010", "step_00000005"});  // before the first save of the new branch
  save_steps(c, {15}, lineage, parent_at(c / "step_00000010"));
  CHECK(listed(c) == Names{"step_00000015", "step_00000010", "step_00000005"});
  CHECK(info_at(c / "step_00000015").lineage == lineage);
  CHECK(info_at(c / "step_00000015").parent.id == info_at(c / "step_00000010").id);
  CHECK(checkpoints_at(folder / "c").front() == c / "step_00000015");
  for (const char* step : {"step_00000015", "step_00000020", "step_00000030"})
    CHECK(difference(Checkpoint::open(c / "abandoned/branch_1" / step), 1) == "");
}

TEST_CASE("continuing from the newest checkpoint starts no branch") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10}, {});
  CHECK(go_on(c, c / "step_00000010") == Lineage{});
  CHECK_FALSE(fs::exists(c / "branch.json"));
  const Lineage second = go_on(c, c / "step_00000005");
  save_steps(c, {7}, second);
  CHECK(go_on(c, c / "step_00000007") == second);
  CHECK(go_on(c, c / "step_00000007") == second);
}

TEST_CASE("abandoned checkpoints are neither counted nor removed when old ones are retired") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10, 15, 20}, {});
  const Lineage lineage = go_on(c, c / "step_00000005");
  save_steps(c, {6, 7, 8}, lineage, {}, 2);
  CHECK(listed(c) == Names{"step_00000008", "step_00000007"});
  CHECK(complete_checkpoints(c / "abandoned/branch_1").size() == 3);
}

TEST_CASE("a run that returns to an abandoned branch gets that branch's checkpoints back") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10, 15}, {});
  save_steps(c, {7}, go_on(c, c / "step_00000005"));
  const Lineage third = go_on(c, c / "abandoned/branch_1/step_00000015");
  CHECK(third == Lineage{.branch = 3, .ancestors = {{.branch = 1, .until = 15}}});
  CHECK(listed(c) == Names{"step_00000015", "step_00000010", "step_00000005"});
  CHECK(complete_checkpoints(c / "abandoned/branch_2").size() == 1);
  CHECK_FALSE(fs::exists(c / "abandoned/branch_1"));
  save_steps(c, {20}, third);
  const Lineage fourth = go_on(c, c / "step_00000015");
  CHECK(fourth == Lineage{.branch = 4, .ancestors = {{.branch = 1, .until = 15}}});
  CHECK(listed(c) == Names{"step_00000015", "step_00000010", "step_00000005"});
}

TEST_CASE("branch folders without a checkpoint are removed, and no file of the user") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10}, {});
  fs::create_directories(c / "abandoned/branch_7");
  fs::create_directories(c / "abandoned/branch_8/mine");
  fs::create_directories(c / "abandoned/mine");
  restore_branches(c);
  CHECK_FALSE(fs::exists(c / "abandoned/branch_7"));
  CHECK(fs::exists(c / "abandoned/branch_8/mine"));
  CHECK(fs::exists(c / "abandoned/mine"));
  fs::remove_all(c / "abandoned/branch_8/mine");
  fs::remove_all(c / "abandoned/mine");
  restore_branches(c);
  CHECK_FALSE(fs::exists(c / "abandoned"));
}

TEST_CASE("a job that is killed while it goes back leaves the branch that it had recorded") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10, 15, 20, 25}, {});
  continue_from(c, c / "step_00000010", info_at(c / "step_00000010"), "# new settings\n");
  // The state if a job is killed after branch.json was written and one of three folders was moved.
  for (const char* step : {"step_00000015", "step_00000020"})
    fs::rename(c / "abandoned/branch_1" / step, c / step);
  CHECK(listed(c) == Names{"step_00000010", "step_00000005"});
  CHECK(branches_of(c).unfinished_config == "# new settings\n");
  restore_branches(c);
  CHECK(complete_checkpoints(c).size() == 2);
  CHECK(complete_checkpoints(c / "abandoned/branch_1").size() == 3);
  finish_branch(c);
  CHECK_FALSE(branches_of(c).unfinished_config);
  CHECK(branches_of(c).current.branch == 2);
}

TEST_CASE("an abandoned checkpoint that was copied back beside the current ones stays abandoned") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10, 15}, {});
  save_steps(c, {7}, go_on(c, c / "step_00000005"));
  fs::copy(c / "abandoned/branch_1/step_00000015", c / "step_00000015", fs::copy_options::recursive);
  CHECK(listed(c) == Names{"step_00000007", "step_00000005"});
  restore_branches(c);  // the name exists in abandoned/ already: neither checkpoint is lost
  CHECK(fs::exists(c / "abandoned/branch_1/step_00000015"));
  CHECK(fs::exists(c / "abandoned/branch_1/step_00000015.2"));
}

TEST_CASE("a lost or damaged branch.json is replaced by what the manifests record") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10, 15}, {});
  save_steps(c, {7}, go_on(c, c / "step_00000005"));
  for (const char* text : {"", "{", "{\"format\": 2}", "[]"}) {
    write_durably(c / "branch.json", text);
    CHECK(listed(c) == Names{"step_00000007", "step_00000005"});
  }
  fs::remove(c / "branch.json");
  CHECK(listed(c) == Names{"step_00000007", "step_00000005"});
}

TEST_CASE("a damaged branch.json restores no abandoned checkpoint, and a new branch replaces it") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10, 15}, {});
  go_on(c, c / "step_00000010");  // killed before branch 2 has a checkpoint
  CHECK(branch_error(c).empty());
  const std::string text = read_text_file(c / "branch.json", 1 << 20);
  std::string damaged = text;
  damaged[damaged.find("10")] = '3';  // "until" becomes 30
  write_durably(c / "branch.json", damaged);
  CHECK_THAT(branch_error(c), foretoken::testing::contains("branch.json: damaged: digest differs"));
  restore_branches(c);
  CHECK(listed(c) == Names{"step_00000010", "step_00000005"});
  CHECK(go_on(c, c / "step_00000010").branch == 2);
  CHECK(branch_error(c).empty());
  CHECK(listed(c) == Names{"step_00000010", "step_00000005"});
}

TEST_CASE("an unreadable newest checkpoint is set aside when the run continues from an earlier one") {
  const TemporaryFolder folder;
  const fs::path c = folder / "c";
  save_steps(c, {5, 10}, {});
  std::ofstream(c / "step_00000010/manifest.json") << "torn";
  const Lineage lineage = go_on(c, c / "step_00000005");
  CHECK(lineage.branch == 2);
  save_steps(c, {10}, lineage);
  CHECK(listed(c) == Names{"step_00000010", "step_00000005"});
  CHECK(fs::exists(c / "abandoned/branch_1/step_00000010/manifest.json"));
}

// On a network disk (tests/support/network_disk.cpp) a cache keeps the name that another process has removed.
TEST_CASE("a checkpoint that another process has removed has vanished") {
  const TemporaryFolder folder;
  const fs::path checkpoint = folder / "c/step_00000001";
  fs::create_directories(checkpoint);
  std::error_code ignored;
  REQUIRE(fs::exists(checkpoint, ignored));
  CHECK_FALSE(has_vanished(checkpoint));
  CHECK_FALSE(has_vanished(checkpoint / ""));
  wait_for(start_child([&] { fs::remove(checkpoint); }));
  CHECK(has_vanished(checkpoint));
  CHECK(has_vanished(checkpoint / ""));
}

}  // namespace
}  // namespace foretoken
