// What the program reads from the registry of head kinds: settings, their help, and stored conventions.
#include "model/heads/head_kinds.h"

#include <set>

#include "launch/config/options.h"
#include "launch/session/resume.h"
#include "model/heads/head_facts.h"
#include "runtime/enum_names.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

using Conventions = std::map<std::string, std::string>;

Conventions conventions_of(const MtpConfig& mtp) {
  Config config;
  config.mtp = mtp;
  return foretoken::conventions_of(config);
}

}  // namespace

TEST_CASE("a checkpoint stores the choices of its kind of heads, and the flags that are set") {
  using Kind = MtpConfig::Kind;
  CHECK(conventions_of({.depths = 2}) == Conventions{{"mtp.kind", "sequential"},
                                                     {"mtp.depths", "2"},
                                                     {"mtp.concat", "embedding_first"},
                                                     {"mtp.trunk_hidden", "normed"},
                                                     {"mtp.recycled_hidden", "normed"}});
  CHECK(conventions_of({.depths = 2, .repeat = true}).at("mtp.repeat") == "true");
  CHECK(conventions_of({.kind = Kind::parallel, .depths = 1}) ==
        Conventions{{"mtp.kind", "parallel"}, {"mtp.depths", "1"}});
  CHECK(conventions_of({.kind = Kind::residual, .depths = 1, .own_output = true}) ==
        Conventions{{"mtp.kind", "residual"},
                    {"mtp.depths", "1"},
                    {"mtp.residual_form", "mlp"},
                    {"mtp.own_output", "true"}});
  CHECK(conventions_of({.kind = Kind::linear, .depths = 1}) ==
        Conventions{{"mtp.kind", "linear"}, {"mtp.depths", "1"}});
}

TEST_CASE("every kind of heads is a choice of mtp.kind, in its help, and owns settings that exist") {
  const Option& option = *find_option("mtp", "kind");
  CHECK(option.choices.size() == enumerators<MtpConfig::Kind>().size());
  std::set<std::string> owned;
  for (const auto kind : enumerators<MtpConfig::Kind>()) {
    INFO(name_of(kind));
    Config config;
    option.set(config, std::string(name_of(kind)));
    CHECK(config.mtp.kind == kind);
    CHECK(std::get<std::string>(option.get(config)) == name_of(kind));
    const HeadFacts& row = head_facts(kind);
    CHECK_THAT(option.help, contains(row.description));
    CHECK(!row.noun(config.mtp).empty());
    CHECK(row.in_turn == head_kind(kind).in_turn);
    for (const char* key : row.settings) {
      INFO(key);
      CHECK(find_option("mtp", key) != nullptr);
      CHECK(owned.insert(key).second);  // of one kind alone
    }
  }
}
