#include "parallel/flight/flight_recorder.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

FlightRecorder::FlightRecorder(std::size_t capacity) : ring_(capacity) {
  if (capacity == 0) throw DefectError("flight recorder: the capacity is 0, expected at least 1");
}

std::size_t FlightRecorder::KeyHash::operator()(const FlightRecord::MessageKey& key) const {
  std::uint64_t bits = static_cast<std::uint64_t>(key.channel) << 40 |
                       static_cast<std::uint64_t>(key.peer) << 18 | static_cast<std::uint64_t>(key.tag) << 2 |
                       static_cast<std::uint64_t>(key.kind);
  bits *= 0x9e3779b97f4a7c15u;  // Fibonacci hashing
  return static_cast<std::size_t>(bits ^ bits >> 32);
}

double FlightRecorder::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

int FlightRecorder::add_channel(const std::string& name, std::vector<int> world_ranks) {
  const std::lock_guard lock(mutex_);
  const auto is_taken = [&](const std::string& candidate) {
    return std::any_of(channels_.begin(), channels_.end(),
                       [&](const auto& c) { return c.name == candidate; });
  };
  std::string own = name;
  for (int i = 2; is_taken(own); ++i) own = fmt::format("{} ({})", name, i);
  channels_.push_back({.name = std::move(own), .ranks = std::move(world_ranks)});
  return static_cast<int>(channels_.size()) - 1;
}

std::uint64_t FlightRecorder::start(const char* operation, int channel, Kind kind, std::uint64_t bytes,
                                    int peer, int tag) {
  const std::lock_guard lock(mutex_);
  std::uint64_t& started = kind == Kind::collective
                               ? channels_.at(static_cast<std::size_t>(channel)).collectives
                               : messages_[{.channel = channel, .kind = kind, .peer = peer, .tag = tag}];
  last_activity_ = now();
  ring_[next_ % ring_.size()] = {.number = next_,
                                 .operation = operation,
                                 .kind = kind,
                                 .channel = channel,
                                 .sequence = started++,
                                 .bytes = bytes,
                                 .peer = peer,
                                 .tag = tag,
                                 .started = last_activity_};
  return next_++;
}

void FlightRecorder::finish(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  last_activity_ = now();
  Entry& entry = ring_[number % ring_.size()];
  if (entry.number == number) entry.finished = last_activity_;  // otherwise a later operation has replaced it
}

FlightRecorder::Wait::Wait(FlightRecorder& recorder, std::uint64_t number,
                           std::chrono::duration<double> limit)
    : recorder_(recorder), exceptions_(std::uncaught_exceptions()) {
  const std::lock_guard lock(recorder_.mutex_);
  recorder_.waiting_ = {.number = number, .since = recorder_.now(), .limit = limit.count()};
}

FlightRecorder::Wait::~Wait() {
  if (std::uncaught_exceptions() > exceptions_) return;
  const std::lock_guard lock(recorder_.mutex_);
  recorder_.waiting_.reset();
  recorder_.last_activity_ = recorder_.now();
}

std::optional<double> FlightRecorder::overdue() const {
  const std::lock_guard lock(mutex_);
  if (!waiting_) return std::nullopt;
  return now() - waiting_->since - waiting_->limit;
}

double FlightRecorder::idle() const {
  const std::lock_guard lock(mutex_);
  return now() - last_activity_;
}

FlightRecord::Operation FlightRecorder::operation_of(const Entry& entry) const {
  return {.number = entry.number,
          .name = entry.operation,
          .kind = entry.kind,
          .channel = entry.channel,
          .sequence = entry.sequence,
          .bytes = entry.bytes,
          .peer = entry.peer,
          .tag = entry.tag,
          .started = entry.started,
          .finished = entry.finished};
}

FlightRecord FlightRecorder::record() const {
  const std::lock_guard lock(mutex_);
  FlightRecord record;
  record.start_utc =
      fmt::format("{:%Y-%m-%dT%H:%M:%S}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(begin_utc_)));
  record.now = now();
  record.channels = channels_;
  record.messages.insert(messages_.begin(), messages_.end());
  record.last_activity = last_activity_;
  const std::uint64_t count = std::min<std::uint64_t>(next_, ring_.size());
  for (std::uint64_t n = next_ - count; n < next_; ++n)
    record.operations.push_back(operation_of(ring_[n % ring_.size()]));
  if (!waiting_) return record;
  const auto& operations = record.operations;
  const auto found = std::find_if(operations.begin(), operations.end(), [&](const auto& operation) {
    return waiting_->number == oldest_unfinished ? operation.finished < 0
                                                 : operation.number == waiting_->number;
  });
  if (found != operations.end()) record.waiting = *found;
  return record;
}

}  // namespace foretoken
