#include "parallel/flight_recorder.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

FlightRecorder::FlightRecorder(std::size_t capacity) : ring_(capacity) {
  if (capacity == 0) throw DefectError("flight recorder: a capacity of 0");
}

double FlightRecorder::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

std::uint64_t FlightRecorder::start(const char* operation, std::string_view communicator, std::uint64_t bytes,
                                    int peer) {
  Entry& entry = ring_[next_ % ring_.size()];
  entry = {.sequence = next_, .operation = operation, .bytes = bytes, .peer = peer, .started = now()};
  std::copy_n(communicator.begin(), std::min(communicator.size(), entry.communicator.size() - 1),
              entry.communicator.begin());
  return next_++;
}

void FlightRecorder::finish(std::uint64_t sequence) {
  Entry& entry = ring_[sequence % ring_.size()];
  if (entry.sequence == sequence) entry.finished = now();  // else later ones took its place
}

std::vector<FlightRecorder::Entry> FlightRecorder::entries() const {
  std::vector<Entry> kept;
  const std::uint64_t count = std::min<std::uint64_t>(next_, ring_.size());
  for (std::uint64_t s = next_ - count; s < next_; ++s) kept.push_back(ring_[s % ring_.size()]);
  return kept;
}

void FlightRecorder::dump(const std::filesystem::path& file) const {
  std::ofstream out(file);
  out << fmt::format("# seconds since {:%Y-%m-%dT%H:%M:%S}Z; dumped at {:.6f}\n",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(begin_utc_)), now())
      << "# sequence operation communicator bytes peer start end\n";
  for (const Entry& entry : entries())
    out << fmt::format("{} {} \"{}\" {} {} {:.6f} {}\n", entry.sequence, entry.operation,
                       entry.communicator.data(), entry.bytes,
                       entry.peer < 0 ? "all" : std::to_string(entry.peer), entry.started,
                       entry.finished < 0 ? "under-way" : fmt::format("{:.6f}", entry.finished));
  out.close();
  if (!out) throw DataError("flight recorder: {} cannot be written", file.string());
}

}  // namespace foretoken
