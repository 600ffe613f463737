#pragma once
// Measures the time of a step by operator. Off unless a stream has a profile.

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "runtime/stream.h"

namespace foretoken {

class Profile {
 public:
  struct Entry {
    std::int64_t calls = 0;
    double seconds = 0;
  };

  Profile();
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// Times by operator. On a GPU, a time is measured between two events in the stream; waits for pending
  /// events.
  const std::map<std::string, Entry>& entries();

 private:
  friend class ProfileScope;
  struct Marks;  // events in a GPU's stream that have not been read yet

  void begin(Stream& stream);
  void end(Stream& stream, const char* name);
  void add(const char* name, double seconds);

  using Clock = std::chrono::steady_clock;
  std::map<std::string, Entry> entries_;
  int depth_ = 0;  // a nested operator counts as part of its caller
  Clock::time_point start_;
  std::unique_ptr<Marks> marks_;
};

/// Every operator creates one at its start. Adds the time until the scope ends under the operator's name,
/// which must be a string literal.
class ProfileScope {
 public:
  ProfileScope(Stream& stream, const char* name) : stream_(stream), name_(name) {
    if (stream_.profile()) stream_.profile()->begin(stream_);
  }
  ~ProfileScope() {
    if (stream_.profile()) stream_.profile()->end(stream_, name_);
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  Stream& stream_;
  const char* name_;
};

}  // namespace foretoken
