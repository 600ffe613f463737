#include "io/report/tensorboard.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <set>
#include <string_view>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "io/files/bounded_json.h"
#include "io/files/crc32c.h"
#include "io/files/line_reader.h"
#include "io/files/sealed_text.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::string_view prefix = "events.out.tfevents.";
constexpr std::size_t history_chunk = std::size_t{1} << 20;

// Protobuf's wire format. A field is its number and wire type, then its value.

enum class Wire { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

template <class Unsigned>
void put_little_endian(std::string& out, Unsigned value) {
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>((value >> (8 * i)) & 0xff);
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

void put_key(std::string& out, std::uint64_t field, Wire wire) {
  put_varint(out, field << 3 | static_cast<std::uint64_t>(wire));
}

void put_bytes(std::string& out, std::uint64_t field, std::string_view bytes) {
  put_key(out, field, Wire::bytes);
  put_varint(out, bytes.size());
  out += bytes;
}

std::string event_at(double seconds, std::int64_t step) {
  std::string event;
  put_key(event, 1, Wire::fixed64);
  put_little_endian(event, std::bit_cast<std::uint64_t>(seconds));
  put_key(event, 2, Wire::varint);
  put_varint(event, static_cast<std::uint64_t>(step));
  return event;
}

std::uint32_t masked_crc(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

std::string record_of(std::string_view event) {
  std::string record;
  put_little_endian(record, std::uint64_t{event.size()});
  put_little_endian(record, masked_crc(record));
  record += event;
  put_little_endian(record, masked_crc(event));
  return record;
}

/// The value of a number, also of one that JSON cannot hold and is written as "<name>_text".
std::optional<double> number_in(const Json& line, const std::string& name, const Json& value) {
  if (value.is_number()) return value.get<double>();
  const auto text = line.find(name + "_text");
  if (!value.is_null() || text == line.end()) return std::nullopt;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return *text == "inf" ? infinity : *text == "-inf" ? -infinity : std::nan("");
}

/// The record of a line; empty if it has no number to show.
std::string record_of_line(const Json& line, double seconds) {
  const std::string kind = line.value("kind", "");
  // A depth that the step did not train has no loss.
  const bool finite = line.contains("loss") && line.at("loss").is_number();
  std::string summary;
  for (const auto& [name, value] : line.items()) {
    const std::string tag = tensorboard_tag(kind, name);
    if (tag.empty()) continue;
    const std::optional<double> number = number_in(line, name, value);
    if (!number || (finite && std::isnan(*number))) continue;
    std::string scalar;
    put_bytes(scalar, 1, tag);
    put_key(scalar, 2, Wire::fixed32);
    put_little_endian(scalar, std::bit_cast<std::uint32_t>(static_cast<float>(*number)));
    put_bytes(summary, 1, scalar);
  }
  if (summary.empty()) return {};
  std::string event = event_at(seconds, line.at("step").get<std::int64_t>());
  put_bytes(event, 5, summary);
  return record_of(event);
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Reads "2026-11-22T00:33:56Z"; 0 for other texts.
double seconds_of(const std::string& time) {
  std::tm utc{};
  const char* end = ::strptime(time.c_str(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return end && *end == '\0' ? static_cast<double>(::timegm(&utc)) : 0;
}

/// The times in the names of the folder's event files.
std::set<std::int64_t> file_times(const fs::path& folder) {
  std::set<std::int64_t> times;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    std::int64_t time = 0;
    if (name.starts_with(prefix) &&
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), time).ec == std::errc{})
      times.insert(time);
  }
  return times;
}

fs::path new_file(const fs::path& folder, std::int64_t& from) try {
  fs::create_directories(folder);
  const std::set<std::int64_t> times = file_times(folder);
  if (times.empty()) from = 0;
  const std::int64_t time =
      std::max(static_cast<std::int64_t>(now()), times.empty() ? 0 : *times.rbegin() + 1);
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return folder / fmt::format("{}{:010}.{}.{}", prefix, time, host.data(), ::getpid());
} catch (const fs::filesystem_error& error) {
  throw DataError("tensorboard: {}: cannot be opened: {}", folder.string(), error.code().message());
}

}  // namespace

std::string tensorboard_tag(const std::string& kind, const std::string& name) {
  static const std::set<std::string_view> not_shown = {"kind", "step",    "steps",       "seconds_left",
                                                       "time", "check",   "branch",      "slowest_rank",
                                                       "rows", "skipped", "samples_seen"};
  if (not_shown.contains(name) || name.ends_with("_text")) return {};
  const std::string group = kind == "evaluation" ? "evaluation/" : "";
  if (name == "loss") return group + "loss/objective";
  const std::size_t depth = name.find('_');
  const bool of_depth = name.starts_with("main_") ||
                        (name.starts_with("mtp") && depth != std::string::npos && depth > 3 &&
                         std::all_of(name.begin() + 3, name.begin() + static_cast<std::ptrdiff_t>(depth),
                                     [](char digit) { return digit >= '0' && digit <= '9'; }));
  return of_depth ? group + name.substr(depth + 1) + "/" + name.substr(0, depth) : group + name;
}

TensorboardSink::TensorboardSink(const fs::path& folder, const fs::path& history, std::int64_t from,
                                 std::function<void(const std::string&)> warn)
    : warn_(std::move(warn)), file_(new_file(folder, from)) {
  std::string version = event_at(now(), 0), start = event_at(now(), from), status;
  put_bytes(version, 3, "brain.Event:2");
  put_key(status, 1, Wire::varint);
  put_varint(status, 1);
  put_bytes(start, 7, status);
  header_ = record_of(version) + record_of(start);
  write_history(history, from);
}

void TensorboardSink::write_history(const fs::path& history, std::int64_t from) try {
  if (!fs::exists(history)) return;
  LineReader lines(history);
  std::string records;
  for (std::string text; lines.next(text);) {
    if (!line_error(text).empty()) continue;
    try {
      const Json line = parse_json_bounded<Json>(text);
      if (line.at("step").get<std::int64_t>() < from) continue;
      records += record_of_line(line, seconds_of(line.value("time", "")));
    } catch (const Json::exception&) {  // not a line of metrics
    }
    if (records.size() > history_chunk) append(std::exchange(records, {}));
  }
  append(records);
} catch (const DataError& error) {
  warn_once(error.what());
}

void TensorboardSink::append(const std::string& records) try {
  if (records.empty()) return;
  file_.append_bytes(header_ + records);
  header_.clear();
} catch (const DataError& error) {
  warn_once(error.what());
}

void TensorboardSink::warn_once(const char* message) {
  if (!std::exchange(warned_, true)) warn_(fmt::format("tensorboard: {}", message));
}

void TensorboardSink::write(const Json& line, double seconds) {
  append(record_of_line(line, seconds));
}

}  // namespace foretoken
