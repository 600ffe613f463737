#include "parallel/flight/flight_record.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/enum_names.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::string_view heading = "foretoken flight record 2";
constexpr int most_ranks = 1 << 20;
constexpr std::uintmax_t most_bytes = 64 << 20;  // a larger file is not a record

std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

/// Parses one line word by word.
class Line {
 public:
  Line(std::string_view text, std::string place) : rest_(text), place_(std::move(place)) {}

  std::string_view word() {
    const std::size_t end = rest_.find(' ');
    const std::string_view word = rest_.substr(0, end);
    if (word.empty()) fail("a word is missing");
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    return word;
  }
  template <class Number>
  Number number(Number least, Number most) {
    const std::string_view text = word();
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= least && value <= most))
      fail(fmt::format("\"{}\" is not a number from {} to {}", text, least, most));
    return value;
  }
  std::uint64_t count() { return number<std::uint64_t>(0, ~std::uint64_t{0} - 1); }
  double seconds() { return number<double>(-1, 1e12); }
  FlightRecord::Kind kind() {
    const std::string_view text = word();
    if (const auto kind = enum_named<FlightRecord::Kind>(text)) return *kind;
    fail(fmt::format("\"{}\" is not a kind of operation", text));
  }
  const std::string& place() const { return place_; }
  std::string rest() { return one_line(std::string(rest_)); }
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError("flight record: {}: {}", place_, one_line(what));
  }

 private:
  std::string_view rest_;
  std::string place_;
};

void append(std::string& text, const FlightRecord::Operation& operation) {
  text += fmt::format("operation {} {} {} {} {} {} {} {} {:.6f} {:.6f}\n", operation.number,
                      operation.name.empty() ? "?" : operation.name, name_of(operation.kind),
                      operation.channel, operation.sequence, operation.bytes, operation.peer, operation.tag,
                      operation.started, operation.finished);
}

FlightRecord::Operation parse_operation(Line& line, const FlightRecord& record) {
  FlightRecord::Operation operation;
  operation.number = line.count();
  operation.name = one_line(std::string(line.word()));
  operation.kind = line.kind();
  if (record.channels.empty()) line.fail("an operation before the channels");
  operation.channel = line.number<int>(0, static_cast<int>(record.channels.size()) - 1);
  const auto& members = record.channels[static_cast<std::size_t>(operation.channel)].ranks;
  operation.sequence = line.count();
  operation.bytes = line.count();
  const bool message = operation.kind != FlightRecord::Kind::collective;
  operation.peer = line.number<int>(message ? 0 : -1, static_cast<int>(members.size()) - 1);
  operation.tag = line.number<int>(-1, 1 << 30);
  operation.started = line.seconds();
  operation.finished = line.seconds();
  return operation;
}

FlightRecord::Channel parse_channel(Line& line, int size) {
  FlightRecord::Channel channel;
  channel.collectives = line.count();
  const std::string members(line.word());
  std::size_t at = 0;
  while (at <= members.size()) {
    const std::size_t end = std::min(members.find(',', at), members.size());
    Line member(std::string_view(members).substr(at, end - at), line.place());
    channel.ranks.push_back(member.number<int>(0, size - 1));
    at = end + 1;
  }
  channel.name = line.rest();
  return channel;
}

}  // namespace

std::string flight_file_name(int rank) {
  return fmt::format("rank_{:05}.txt", rank);
}

std::string to_text(const FlightFile& file) {
  const FlightRecord& record = file.record;
  std::string text = fmt::format("{}\nrank {} of {}\nstart {}\n", heading, record.rank, record.size,
                                 record.start_utc.empty() ? "?" : record.start_utc);
  text += fmt::format("now {:.6f} last-activity {:.6f}\n", record.now, record.last_activity);
  if (file.pause)
    text += fmt::format("pause {:.6f} ended {:.6f}\n", file.pause->seconds, file.pause->before_record);
  text += "reason " + one_line(file.reason) + "\n";
  text += "# identity: rank pid host label\n";
  for (std::size_t r = 0; r < file.ranks.size(); ++r)
    text += fmt::format("identity {} {} {} {}\n", r, file.ranks[r].pid,
                        file.ranks[r].host.empty() ? "?" : one_line(file.ranks[r].host),
                        one_line(file.ranks[r].label));
  text += "# process: rank pid state, on this host\n";
  for (const LocalProcess& process : file.processes)
    text += fmt::format("process {} {} {}\n", process.rank, process.pid, process.state);
  text += "# channel: collectives started, world ranks, name\n";
  for (const FlightRecord::Channel& channel : record.channels)
    text += fmt::format("channel {} {} {}\n", channel.collectives, fmt::join(channel.ranks, ","),
                        one_line(channel.name));
  text += "# messages: channel direction peer tag count\n";
  for (const auto& [key, count] : record.messages)
    text +=
        fmt::format("messages {} {} {} {} {}\n", key.channel, name_of(key.kind), key.peer, key.tag, count);
  text +=
      "# operation: number name kind channel sequence bytes peer tag started finished (seconds; -1: not)\n";
  for (const FlightRecord::Operation& operation : record.operations) append(text, operation);
  if (record.waiting) text += fmt::format("waiting {}\n", record.waiting->number);
  return text + "end\n";
}

FlightFile parse_flight_file(const std::string& text, const std::string& origin) {
  FlightFile file;
  FlightRecord& record = file.record;
  std::istringstream lines(text);
  std::string content;
  bool ended = false;
  for (int number = 1; std::getline(lines, content); ++number) {
    Line line(content, fmt::format("{}: line {}", origin, number));
    if (number == 1) {
      if (content != heading) line.fail(fmt::format("\"{}\" expected", heading));
      continue;
    }
    if (content.empty() || content.front() == '#') continue;
    if (ended) line.fail("text after the end");
    const std::string_view item = line.word();
    if ((item == "rank") != (number == 2)) line.fail("expected the rank in line 2 and in no other line");
    if (item == "rank") {
      record.rank = line.number<int>(0, most_ranks - 1);
      line.word();
      record.size = line.number<int>(record.rank + 1, most_ranks);
    } else if (item == "start" || item == "begun") {
      record.start_utc = line.rest();
    } else if (item == "now") {
      record.now = line.seconds();
      line.word();
      record.last_activity = line.seconds();
    } else if (item == "pause") {
      Pause& pause = file.pause.emplace();
      pause.seconds = line.seconds();
      line.word();
      pause.before_record = line.seconds();
    } else if (item == "reason") {
      file.reason = line.rest();
    } else if (item == "identity") {
      const int rank = line.number<int>(0, record.size - 1);
      if (rank != static_cast<int>(file.ranks.size())) line.fail("identities are not in the order of ranks");
      RankIdentity& identity = file.ranks.emplace_back();
      identity.pid = line.number<int>(0, 1 << 30);
      identity.host = one_line(std::string(line.word()));
      identity.label = line.rest();
    } else if (item == "process") {
      LocalProcess& process = file.processes.emplace_back();
      process.rank = line.number<int>(0, record.size - 1);
      process.pid = line.number<int>(0, 1 << 30);
      process.state = one_line(std::string(line.word()))[0];
    } else if (item == "channel") {
      record.channels.push_back(parse_channel(line, record.size));
    } else if (item == "messages") {
      FlightRecord::MessageKey key;
      if (record.channels.empty()) line.fail("messages before the channels");
      key.channel = line.number<int>(0, static_cast<int>(record.channels.size()) - 1);
      key.kind = line.kind();
      const auto& members = record.channels[static_cast<std::size_t>(key.channel)].ranks;
      key.peer = line.number<int>(0, static_cast<int>(members.size()) - 1);
      key.tag = line.number<int>(-1, 1 << 30);
      record.messages[key] = line.count();
    } else if (item == "operation") {
      record.operations.push_back(parse_operation(line, record));
    } else if (item == "waiting") {
      const std::uint64_t waiting = line.count();
      for (const auto& operation : record.operations)
        if (operation.number == waiting) record.waiting = operation;
      if (!record.waiting) line.fail("waits for an operation that is not listed");
    } else if (item == "end") {
      ended = true;
    } else {
      line.fail(fmt::format("\"{}\" is not an item of a flight record", one_line(std::string(item))));
    }
  }
  if (!ended) throw DataError("flight record: {}: the end is missing", origin);
  return file;
}

void write_flight_file(const std::filesystem::path& folder, const FlightFile& file) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::filesystem::path path = folder / flight_file_name(file.record.rank);
  const std::filesystem::path temporary = path.string() + fmt::format(".{}.tmp", getpid());
  errno = 0;
  std::ofstream out(temporary, std::ios::binary);
  out << to_text(file);
  out.close();
  if (!out) {
    const int reason = errno;
    std::filesystem::remove(temporary, error);
    throw DataError("flight record: {}: cannot be written: {}", path.string(),
                    reason != 0 ? std::strerror(reason) : "the stream failed");
  }
  std::filesystem::rename(temporary, path, error);
  if (error) throw DataError("flight record: {}: cannot be written: {}", path.string(), error.message());
}

std::vector<FlightFile> read_flight_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator i(folder, error), end; !error && i != end; i.increment(error)) {
    const std::string name = i->path().filename().string();
    if (name.starts_with("rank_") && name.ends_with(".txt")) paths.push_back(i->path());
  }
  if (error) throw DataError("flight record: {}: cannot be listed: {}", folder.string(), error.message());
  std::vector<FlightFile> files;
  for (const std::filesystem::path& path : paths) {
    const std::uintmax_t bytes = std::filesystem::file_size(path, error);
    if (error || bytes > most_bytes)
      throw DataError(
          "flight record: {}: {}", path.string(),
          error ? error.message() : fmt::format("{} bytes, expected at most {}", bytes, most_bytes));
    std::ifstream in(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in) throw DataError("flight record: {}: cannot be read", path.string());
    files.push_back(parse_flight_file(text, path.string()));
  }
  std::sort(files.begin(), files.end(),
            [](const FlightFile& a, const FlightFile& b) { return a.record.rank < b.record.rank; });
  return files;
}

}  // namespace foretoken
