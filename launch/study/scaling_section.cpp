#include "launch/study/scaling_section.h"

#include <algorithm>
#include <filesystem>

#include "runtime/error.h"

namespace foretoken {

namespace {

class ScalingReader {
 public:
  explicit ScalingReader(const std::string& path) : path_(path) {}

  ScalingStudy read(const toml::table& table) {
    for (const auto& [key, node] : table) {
      if (key == "mode")
        scaling_.mode = mode_of(node);
      else if (key == "ranks")
        read_ranks(list(node, "scaling.ranks", 1), "scaling.ranks", scaling_.ranks);
      else if (key == "projected_ranks")
        read_ranks(list(node, "scaling.projected_ranks", 0), "scaling.projected_ranks", scaling_.projected);
      else if (key == "layout")
        scaling_.best_layout = is_best(node);
      else if (key == "layouts")
        check_layouts(node);
      else if (key == "device")
        scaling_.device = text_of(node, "scaling.device");
      else if (key == "profile")
        read_profiles(node);
      else if (key == "per_node")
        scaling_.per_node = static_cast<int>(integer(node, "scaling.per_node", 1, most_ranks));
      else if (key == "repeats")
        scaling_.repeats = static_cast<int>(integer(node, "scaling.repeats", 1, 100));
      else if (key == "warmup_steps")
        scaling_.warmup_steps = integer(node, "scaling.warmup_steps", 0, 1'000'000);
      else
        refuse(node, fmt::format("unknown key scaling.{}, expected mode, ranks, projected_ranks, layout, "
                                 "layouts, device, profile, per_node, repeats or warmup_steps",
                                 key.str()));
    }
    for (const char* key : {"mode", "ranks"})
      if (!table.contains(key)) refuse(table, fmt::format("[scaling]: {} is missing", key));
    if (scaling_.best_layout && table.contains("layouts"))
      refuse(*table.get("layouts"), "[[scaling.layouts]]: scaling.layout = \"best\" chooses the layouts");
    if (const toml::node* node = table.get("projected_ranks"))
      require_more(*node);
    else
      for (const int factor : {2, 4, 8})
        if (scaling_.ranks.back() <= most_ranks / factor)
          scaling_.projected.push_back(factor * scaling_.ranks.back());
    return std::move(scaling_);
  }

  [[noreturn]] void refuse(const toml::node& node, const std::string& what) const {
    throw UsageError("{} ({})", what, line_of(path_, node));
  }

 private:
  std::int64_t integer(const toml::node& node, const char* name, std::int64_t low, std::int64_t high) const {
    const auto value = node.value_exact<std::int64_t>();
    if (!value || *value < low || *value > high)
      refuse(node, fmt::format("{}: expected an integer, {} to {}", name, low, high));
    return *value;
  }

  ScalingStudy::Mode mode_of(const toml::node& node) const {
    const auto text = node.value_exact<std::string>();
    if (text == "strong") return ScalingStudy::Mode::strong;
    if (text == "weak") return ScalingStudy::Mode::weak;
    refuse(node, "scaling.mode: expected \"strong\" or \"weak\"");
  }

  bool is_best(const toml::node& node) const {
    if (node.value_exact<std::string>() == "best") return true;
    refuse(node,
           "scaling.layout: expected \"best\"; [axes] varies layouts, for example parallel.pp = [1, 2]");
  }

  std::string text_of(const toml::node& node, const char* name) const {
    const auto text = node.value_exact<std::string>();
    if (!text || text->empty()) refuse(node, fmt::format("{}: expected text", name));
    return *text;
  }

  void read_profiles(const toml::node& node) {
    const auto add = [&](const toml::node& entry) {
      const std::string file = text_of(entry, "scaling.profile");
      scaling_.profiles.push_back((std::filesystem::path(path_).parent_path() / file).string());
    };
    if (const toml::array* list = node.as_array())
      for (const toml::node& entry : *list) add(entry);
    else
      add(node);
  }

  void check_layouts(const toml::node& node) const {
    const toml::array* list = node.as_array();
    if (list == nullptr || list->empty() || !list->is_array_of_tables())
      refuse(node, "scaling.layouts: expected tables [[scaling.layouts]]");
    for (const toml::node& entry : *list)
      if (const toml::node* name = entry.as_table()->get("name"))
        text_of(*name, "[[scaling.layouts]] name");
      else
        refuse(entry, "[[scaling.layouts]]: the name is missing");
  }

  const toml::array& list(const toml::node& node, const char* name, std::size_t least) const {
    const toml::array* list = node.as_array();
    if (list == nullptr || list->size() < least)
      refuse(node,
             fmt::format("{}: expected a list of {}", name, least > 0 ? "at least one number" : "numbers"));
    return *list;
  }

  void read_ranks(const toml::array& list, const char* name, std::vector<int>& into) const {
    for (const toml::node& entry : list) {
      const auto ranks = static_cast<int>(integer(entry, name, 1, most_ranks));
      if (!into.empty() && ranks <= into.back())
        refuse(entry,
               fmt::format("{}: expected ascending numbers, found {} after {}", name, ranks, into.back()));
      into.push_back(ranks);
    }
  }

  void require_more(const toml::node& node) const {
    if (!scaling_.projected.empty() && scaling_.projected.front() <= scaling_.ranks.back())
      refuse(node, fmt::format("scaling.projected_ranks: expected more than scaling.ranks' {}, found {}",
                               scaling_.ranks.back(), scaling_.projected.front()));
  }

  const std::string& path_;
  ScalingStudy scaling_;
};

}  // namespace

std::optional<ScalingStudy> read_scaling(const toml::table& file, const std::string& path) {
  const toml::node* node = file.get("scaling");
  if (node == nullptr) return std::nullopt;
  ScalingReader reader(path);
  if (!node->is_table()) reader.refuse(*node, "[scaling]: expected a table, found " + type_in_words(*node));
  if (const toml::node* points = file.get("points"))
    reader.refuse(*points, "[[points]]: a scaling study has no single points, expected [axes]");
  return reader.read(*node->as_table());
}

const toml::array* scaling_ranks(const toml::table& file) {
  return file.get("scaling")->as_table()->get("ranks")->as_array();
}

const toml::array* scaling_layouts(const toml::table& file) {
  const toml::node* layouts = file.get("scaling")->as_table()->get("layouts");
  return layouts == nullptr ? nullptr : layouts->as_array();
}

void scale(const ScalingStudy& scaling, int ranks, const LayoutChoice& best, Config& config) {
  if (scaling.mode == ScalingStudy::Mode::weak) {
    const std::int64_t batch = config.train.global_batch, fewest = scaling.ranks.front();
    std::int64_t rows = 0;
    if (__builtin_mul_overflow(batch, ranks, &rows) || rows % fewest != 0)
      throw UsageError(
          "train.global_batch {} of {} ranks cannot grow to {} ranks: {} · {} / {} is not a whole "
          "number of rows",
          batch, fewest, ranks, batch, ranks, fewest);
    config.train.global_batch = rows / fewest;
  }
  if (scaling.best_layout) config = best(scaling, config, ranks);
}

void require_measured_steps(const ScalingStudy& scaling, const Config& config, const std::string& path) {
  if (config.train.steps <= scaling.warmup_steps)
    throw UsageError("scaling.warmup_steps {}: none of the {} steps of train.steps is measured ({})",
                     scaling.warmup_steps, config.train.steps, path);
}

}  // namespace foretoken
