#include "io/report/trace.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "io/files/bounded_json.h"
#include "io/files/durable_file.h"
#include "io/files/text_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Json = nlohmann::ordered_json;
using Kind = TimelineSpan::Kind;
using Interval = std::pair<double, double>;

const char* name_of(Kind kind) {
  return kind == Kind::compute ? "compute" : kind == Kind::communication ? "communication" : "receive";
}

Json name_event(const char* what, int rank, int lane, const std::string& name) {
  return {{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", lane}, {"args", {{"name", name}}}};
}

/// The union of the spans of a kind, as ascending disjoint intervals.
std::vector<Interval> covered(std::span<const TimelineSpan> spans, Kind kind) {
  std::vector<Interval> all, merged;
  for (const TimelineSpan& span : spans)
    if (span.kind == kind) all.emplace_back(span.begin, span.end);
  std::sort(all.begin(), all.end());
  for (const Interval& next : all) {
    if (merged.empty() || next.first > merged.back().second)
      merged.push_back(next);
    else
      merged.back().second = std::max(merged.back().second, next.second);
  }
  return merged;
}

double length_of(const std::vector<Interval>& intervals) {
  double length = 0;
  for (const auto& [begin, end] : intervals) length += end - begin;
  return length;
}

double common_length(const std::vector<Interval>& a, const std::vector<Interval>& b) {
  double length = 0;
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    length += std::max(0.0, std::min(i->second, j->second) - std::max(i->first, j->first));
    (i->second < j->second) ? ++i : ++j;
  }
  return length;
}

/// A number that fits an int.
std::int64_t whole(const Json& event, const char* name) {
  const Json& value = event.at(name);
  const std::int64_t number = value.is_number_integer() ? value.get<std::int64_t>() : -1;
  if (number < 0 || number > std::numeric_limits<int>::max())
    throw DataError("{} is {}, expected a whole number", name, brief(value));
  return number;
}

}  // namespace

std::string trace_events(int rank, const std::string& name, std::span<const TimelineSpan> spans) {
  std::map<std::string, int> lanes{{"compute", 0}};
  for (const TimelineSpan& span : spans) lanes.try_emplace(span.lane, static_cast<int>(lanes.size()));
  std::string events = name_event("process_name", rank, 0, name).dump();
  for (const auto& [lane, number] : lanes)
    events += ",\n" + name_event("thread_name", rank, number, lane).dump();
  for (const TimelineSpan& span : spans)
    events += ",\n" + Json({{"ph", "X"},
                            {"name", span.name},
                            {"cat", name_of(span.kind)},
                            {"pid", rank},
                            {"tid", lanes.at(span.lane)},
                            {"ts", span.begin * 1e6},
                            {"dur", (span.end - span.begin) * 1e6}})
                          .dump();
  return events;
}

void write_trace(const std::filesystem::path& file, std::span<const std::string> events_of_ranks) {
  std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  for (std::size_t rank = 0; rank < events_of_ranks.size(); ++rank)
    text += (rank > 0 ? ",\n" : "") + events_of_ranks[rank];
  write_durably(file, text + "\n]}\n");
}

std::vector<TracedRank> read_trace(const std::filesystem::path& file) try {
  constexpr std::int64_t most_bytes = std::int64_t{1} << 28;
  const Json trace = parse_json_bounded<Json>(read_text_file(file, most_bytes));
  std::map<std::int64_t, TracedRank> ranks;
  std::map<std::pair<std::int64_t, std::int64_t>, std::string> lanes;
  for (const Json& event : trace.at("traceEvents")) {
    const std::int64_t rank = whole(event, "pid"), lane = whole(event, "tid");
    if (event.at("name") == "thread_name")
      lanes[{rank, lane}] = event.at("args").at("name").get<std::string>();
    if (event.at("ph") != "X") continue;
    const std::string kind = event.at("cat");
    const double begin = event.at("ts").get<double>() / 1e6;
    TracedRank& of = ranks[rank];
    of.rank = static_cast<int>(rank);
    of.spans.push_back({.kind = kind == "compute"         ? Kind::compute
                                : kind == "communication" ? Kind::communication
                                                          : Kind::receive,
                        .lane = lanes[{rank, lane}],
                        .name = event.at("name").get<std::string>(),
                        .begin = begin,
                        .end = begin + event.at("dur").get<double>() / 1e6});
  }
  std::vector<TracedRank> result;
  for (auto& [rank, traced] : ranks) result.push_back(std::move(traced));
  return result;
} catch (const std::exception& error) {
  throw DataError("trace: {}: is not a trace: {}", file.string(), error.what());
}

TraceOverlap overlap_of(std::span<const TimelineSpan> spans) {
  if (spans.empty()) return {};
  const auto by_begin = [](const auto& a, const auto& b) { return a.begin < b.begin; };
  const auto by_end = [](const auto& a, const auto& b) { return a.end < b.end; };
  const std::vector<Interval> compute = covered(spans, Kind::compute),
                              communication = covered(spans, Kind::communication);
  return {.length = std::max_element(spans.begin(), spans.end(), by_end)->end -
                    std::min_element(spans.begin(), spans.end(), by_begin)->begin,
          .compute = length_of(compute),
          .communication = length_of(communication),
          .hidden = common_length(compute, communication)};
}

}  // namespace foretoken
