#include "model/unit_id.h"

#include "model/layout.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;
using Kind = UnitId::Kind;

TEST_CASE("the name of a parameter unit converts back to its identity") {
  for (const UnitId& id :
       {UnitId{Kind::embedding}, UnitId{Kind::layer, 0}, UnitId{Kind::layer, 31}, UnitId{Kind::attention, 7},
        UnitId{Kind::mlp, 7}, UnitId{Kind::final_norm}, UnitId{Kind::mtp, 2}, UnitId{Kind::head}})
    CHECK(unit_named(to_string(id)) == id);
  CHECK(to_string(UnitId{Kind::attention, 7}) == "layer 7 attention");
  for (const char* name :
       {"", "layer", "layer 07", "layer 7 ", "layer 7 norm", "layer -1", "mtp 99999999999", "heads"})
    CHECK_FALSE(unit_named(name));
  CHECK_THROWS_AS(id_of(ParameterUnit{.name = "own", .specs = {}}), DefectError);
}

TEST_CASE("every unit of a rank has the identity of a part of the model that the rank holds") {
  const ModelConfig model;
  MtpConfig mtp;
  mtp.depths = 2;
  const ModelLayout layout{.grid = {.pp = 2},
                           .halves_per_stage = {3, static_cast<int>(2 * model.num_hidden_layers) - 3}};
  std::vector<UnitId> first, last;
  for (const ParameterUnit& unit : units_of(model, mtp, layout, 0)) first.push_back(id_of(unit));
  for (const ParameterUnit& unit : units_of(model, mtp, layout, 1)) last.push_back(id_of(unit));
  CHECK(first == std::vector<UnitId>{{Kind::embedding}, {Kind::layer, 0}, {Kind::attention, 1}});
  REQUIRE(last.size() > 6);
  CHECK(last[1] == UnitId{Kind::mlp, 1});
  CHECK(std::vector<UnitId>(last.end() - 4, last.end()) ==
        std::vector<UnitId>{{Kind::final_norm}, {Kind::mtp, 1}, {Kind::mtp, 2}, {Kind::head}});
}
