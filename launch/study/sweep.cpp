#include "launch/study/sweep.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>

#include <fmt/format.h>

#include "launch/config/config_loader.h"
#include "launch/config/config_toml.h"
#include "launch/config/config_validator.h"
#include "launch/config/options.h"
#include "launch/study/scaling_section.h"
#include "runtime/error.h"

namespace foretoken {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_points = 1000;

/// One list of [axes]: the values of a setting, numbers of ranks, or the layouts of a scaling study.
struct Axis {
  std::string section;  // empty: ranks or layout
  std::string key;
  const toml::array* values = nullptr;

  std::string name() const { return section.empty() ? key : section + "." + key; }
};

class SweepReader {
 public:
  SweepReader(const std::string& path, const std::vector<std::string>& sets, const LayoutChoice& best)
      : path_(path), sets_(sets), best_(best), file_(parse_toml(read_toml_file(path), path)) {}

  Sweep read() {
    sweep_.title = fs::path(path_).stem().string();
    sweep_.directory = "runs/" + sweep_.title;
    sweep_.launcher = default_launcher;
    read_study();
    sweep_.scaling = read_scaling(file_, path_);
    apply_table(common_, file_, path_, {"study", "scaling", "axes", "points"});
    add_combinations();
    if (sweep_.scaling)
      repeat_points();
    else
      add_points();
    if (sweep_.points.empty()) throw UsageError("no points: expected [axes] or [[points]] ({})", path_);
    state_settings();
    return std::move(sweep_);
  }

 private:
  [[noreturn]] void refuse(const toml::node& node, const std::string& what) const {
    throw UsageError("{} ({})", what, line_of(path_, node));
  }

  std::string text_of(const toml::node& node, const std::string& what) const {
    const auto text = node.value_exact<std::string>();
    if (!text) refuse(node, what + ": expected text, found " + type_in_words(node));
    if (text->empty()) refuse(node, what + ": is empty");
    return *text;
  }

  int ranks_of(const toml::node& node, const std::string& what) const {
    const auto ranks = node.value_exact<std::int64_t>();
    if (!ranks || *ranks < 1 || *ranks > most_ranks)
      refuse(node, fmt::format("{}: expected an integer, 1 to {}", what, most_ranks));
    return static_cast<int>(*ranks);
  }

  int study_ranks(const toml::node& node, const std::string& where) const {
    if (file_.contains("scaling")) refuse(node, "study.ranks: scaling.ranks lists the ranks");
    return ranks_of(node, where);
  }

  void read_study() {
    const toml::node* study = file_.get("study");
    if (study == nullptr) return;
    if (!study->is_table()) refuse(*study, "[study]: expected a table, found " + type_in_words(*study));
    for (const auto& [key_view, node] : *study->as_table()) {
      const std::string key(key_view.str()), where = "study." + key;
      if (key == "base")
        apply_toml_file(common_, (fs::path(path_).parent_path() / text_of(node, where)).string());
      else if (key == "ranks")
        ranks_ = study_ranks(node, where);
      else if (key == "directory")
        sweep_.directory = text_of(node, where);
      else if (key == "launcher")
        sweep_.launcher = text_of(node, where);
      else if (key == "sbatch")
        read_sbatch(node);
      else
        refuse(node, "unknown key study." + key + ", expected base, ranks, directory, launcher or sbatch");
    }
  }

  void read_sbatch(const toml::node& node) {
    const toml::array* list = node.as_array();
    if (list == nullptr) refuse(node, "study.sbatch: expected a list of options such as \"--time=00:30:00\"");
    for (const toml::node& entry : *list) {
      sweep_.sbatch.push_back(text_of(entry, "study.sbatch"));
      const std::string& option = sweep_.sbatch.back();
      if (!option.starts_with('-') || option.find('\n') != std::string::npos)
        refuse(entry, "study.sbatch: expected an option such as \"--time=00:30:00\"");
    }
  }

  void add_axis(std::vector<Axis>& axes, Axis axis, const toml::node& node) const {
    const std::string name = axis.name();
    if (!axis.section.empty() && find_option(axis.section, axis.key) == nullptr)
      refuse(node, fmt::format("unknown key {} in [axes]{}", name, suggestion(axis.section, axis.key)));
    axis.values = node.as_array();
    if (axis.values == nullptr)
      refuse(node, fmt::format("axis {}: expected a list of values, found {}", name, type_in_words(node)));
    if (axis.values->empty())
      refuse(node, fmt::format("axis {}: expected at least one value, found none", name));
    axes.push_back(std::move(axis));
  }

  /// The axes in the order of the file. TOML tables do not keep that order.
  std::vector<Axis> read_axes() const {
    std::vector<Axis> axes;
    const toml::node* node = file_.get("axes");
    if (node == nullptr) return axes;
    if (!node->is_table()) refuse(*node, "[axes]: expected a table, found " + type_in_words(*node));
    for (const auto& [key_view, value] : *node->as_table()) {
      const std::string key(key_view.str());
      const std::size_t dot = key.find('.');
      if (key == "ranks") {
        add_axis(axes, {.section = "", .key = key}, value);
      } else if (dot != std::string::npos) {  // a quoted key such as "mtp.depths"
        add_axis(axes, {.section = key.substr(0, dot), .key = key.substr(dot + 1)}, value);
      } else if (const toml::table* section = value.as_table()) {
        for (const auto& [inner, values] : *section)
          add_axis(axes, {.section = key, .key = std::string(inner.str())}, values);
      } else {
        refuse(value, fmt::format("unknown key {} in [axes], expected ranks or section.key", key));
      }
    }
    if (axes.empty()) refuse(*node, "[axes]: expected at least one axis, found none");
    std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) {
      const auto place = [](const Axis& axis) {
        const toml::source_position begin = axis.values->source().begin;
        return std::pair(begin.line, begin.column);
      };
      return place(a) < place(b);
    });
    return axes;
  }

  void add_combinations() {
    std::vector<Axis> axes = read_axes();
    if (!sweep_.scaling) {
      if (!axes.empty()) add_combinations(axes, *axes.front().values);
      return;
    }
    const ScalingStudy& scaling = *sweep_.scaling;
    require_other_axes(axes);
    vary("ranks");
    if (const toml::array* layouts = scaling_layouts(file_))
      axes.insert(axes.begin(), {.section = "", .key = "layout", .values = layouts});
    for (const std::vector<int>* list : {&scaling.ranks, &scaling.projected})
      for (const int ranks : *list) {
        ranks_ = ranks;
        projected_ = list == &scaling.projected;
        add_combinations(axes, *scaling_ranks(file_));
      }
  }

  void add_combinations(const std::vector<Axis>& axes, const toml::node& place) {
    const std::size_t repeats = sweep_.scaling ? static_cast<std::size_t>(sweep_.scaling->repeats) : 1;
    std::size_t combinations = 1;
    for (const Axis& axis : axes)
      if (combinations *= axis.values->size(); combinations * repeats > most_points)
        refuse(*axis.values, fmt::format("[axes]: the combinations are more than {} points", most_points));
    for (std::size_t number = 0; number < combinations; ++number) {
      SweepPoint point{.name = "", .ranks = ranks_, .config = common_, .projected = projected_};
      if (sweep_.scaling) point.name = fmt::format("ranks={}", ranks_);
      std::size_t rest = number, block = combinations;
      for (const Axis& axis : axes) {
        block /= axis.values->size();
        set(point, axis, *axis.values->get(rest / block));
        rest %= block;
      }
      if (sweep_.points.size() * repeats > most_points)
        refuse(place, fmt::format("the study has more than {} points", most_points));
      add(std::move(point), place);
    }
  }

  void set(SweepPoint& point, const Axis& axis, const toml::node& value) {
    if (axis.name() == "layout") {
      const toml::table& table = *value.as_table();
      apply_table(point.config, table, path_, {"name"});
      point.settings["layout"] = text_of(*table.get("name"), "[[scaling.layouts]] name");
    } else if (axis.section.empty()) {
      point.ranks = ranks_of(value, "axis ranks");
    } else {
      apply_key(point.config, axis.section, axis.key, value, path_);
    }
    vary(axis.name());
    point.name +=
        fmt::format("{}{}={}", point.name.empty() ? "" : ",", axis.key, value_of(point, axis.name()));
  }

  void add_points() {
    const toml::node* node = file_.get("points");
    if (node == nullptr) return;
    const toml::array* points = node->as_array();
    if (points == nullptr || !points->is_array_of_tables())
      refuse(*node, "points: expected tables [[points]], found " + type_in_words(*node));
    for (const toml::node& entry : *points) {
      const toml::table& table = *entry.as_table();
      if (!table.contains("name")) refuse(entry, "[[points]]: the name is missing");
      SweepPoint point{
          .name = text_of(*table.get("name"), "[[points]] name"), .ranks = ranks_, .config = common_};
      if (const toml::node* ranks = table.get("ranks")) point.ranks = ranks_of(*ranks, "[[points]] ranks");
      const std::set<std::string_view> own{"name", "ranks"};
      apply_table(point.config, table, path_, own);
      for (const auto& [section, keys] : table)
        if (!own.contains(section.str()))
          for (const auto& [key, unused] : *keys.as_table())
            vary(std::string(section.str()) + "." + std::string(key.str()));
      add(std::move(point), entry);
    }
  }

  void vary(const std::string& name) {
    if (std::find(swept_.begin(), swept_.end(), name) == swept_.end()) swept_.push_back(name);
  }

  void add(SweepPoint point, const toml::node& node) {
    if (point.name.front() == '.' || point.name.find_first_of("/\n") != std::string::npos)
      refuse(node,
             fmt::format("point \"{}\": cannot name a folder: expected no '/' and no '.' at the beginning",
                         point.name));
    for (const SweepPoint& other : sweep_.points)
      if (other.name == point.name) refuse(node, fmt::format("two points are named \"{}\"", point.name));
    apply_sets(point.config, sets_);
    point.config.run.directory = absolute_path(point.config.run.directory);  // as the point's run stores it
    if (sweep_.scaling) require_measured_steps(*sweep_.scaling, point.config, path_);
    try {
      if (sweep_.scaling) scale(*sweep_.scaling, point.ranks, best_, point.config);
      validate(point.config);
      resolve_grid(point.config, point.ranks);
    } catch (const UsageError& error) {
      if (sweep_.scaling) {
        point.illegal = error.what();
        sweep_.points.push_back(std::move(point));
        return;
      }
      const std::string what = fmt::format("point \"{}\": {}", point.name, error.what());
      if (what.ends_with(')')) throw UsageError("{}", what);  // ends with the places of its settings
      refuse(node, what);
    }
    sweep_.points.push_back(std::move(point));
  }

  void require_other_axes(const std::vector<Axis>& axes) const {
    for (const Axis& axis : axes) {
      if (axis.section.empty()) refuse(*axis.values, "axis ranks: scaling.ranks lists the ranks already");
      if (sweep_.scaling->best_layout && is_layout_setting(axis.name()))
        refuse(*axis.values, fmt::format("axis {}: scaling.layout = \"best\" chooses it", axis.name()));
      if (scaling_layouts(file_) != nullptr && is_layout_setting(axis.name()))
        refuse(*axis.values, fmt::format("axis {}: [[scaling.layouts]] lists the layouts", axis.name()));
    }
  }

  /// Replaces each legal combination by its repeats. An illegal projection that the file does not ask for is
  /// left out.
  void repeat_points() {
    std::vector<SweepPoint> groups = std::move(sweep_.points);
    const bool asked = file_.get("scaling")->as_table()->contains("projected_ranks");
    std::erase_if(
        groups, [&](const SweepPoint& point) { return point.projected && !point.illegal.empty() && !asked; });
    if (std::none_of(groups.begin(), groups.end(), std::mem_fn(&SweepPoint::is_run)))
      throw UsageError("every point is illegal; the first, \"{}\": {} ({})", groups.front().name,
                       groups.front().illegal, path_);
    const int repeats = sweep_.scaling->repeats;
    sweep_.points.clear();
    const auto add_repeat = [&](SweepPoint point, int repeat) {
      point.group = point.name;
      point.repeat = repeat;
      if (point.is_run() && repeats > 1) point.name += fmt::format(",repeat={}", repeat);
      sweep_.points.push_back(std::move(point));
    };
    for (int repeat = 1; repeat <= repeats; ++repeat)
      for (const SweepPoint& point : groups)
        if (!point.projected && (point.is_run() || repeat == 1)) add_repeat(point, repeat);
    for (const SweepPoint& point : groups)
      if (point.projected) add_repeat(point, 1);
  }

  /// The point's value of the setting; a string is without TOML's quotes.
  static std::string value_of(const SweepPoint& point, const std::string& name) {
    if (name == "ranks") return std::to_string(point.ranks);
    if (name == "layout") return point.settings.at(name);
    const std::size_t dot = name.find('.');
    const OptionValue value = find_option(name.substr(0, dot), name.substr(dot + 1))->get(point.config);
    const auto* text = std::get_if<std::string>(&value);
    return text != nullptr ? *text : to_toml(value);
  }

  void state_settings() {
    vary("ranks");
    for (const std::string& name : swept_) {
      std::set<std::string> values;
      for (const SweepPoint& point : sweep_.points) values.insert(value_of(point, name));
      if (values.size() < 2) continue;
      sweep_.swept.push_back(name);
      for (SweepPoint& point : sweep_.points) point.settings[name] = value_of(point, name);
    }
  }

  std::string path_;
  std::vector<std::string> sets_;
  const LayoutChoice& best_;
  toml::table file_;
  Sweep sweep_;
  Config common_;
  int ranks_ = 1;
  bool projected_ = false;
  std::vector<std::string> swept_;  // options that a point or an axis sets
};

}  // namespace

Sweep read_sweep(const std::string& path, const std::vector<std::string>& sets, const LayoutChoice& best) {
  return SweepReader(path, sets, best).read();
}

}  // namespace foretoken
