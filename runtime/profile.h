#pragma once
// Where the time of a step goes, by operator. Off unless a stream is given a profile.

#include <chrono>
#include <map>
#include <string>

#include "runtime/stream.h"

namespace foretoken {

class Profile {
 public:
  struct Entry {
    std::int64_t calls = 0;
    double seconds = 0;
  };

  /// True for the outermost operator: one that another calls counts as part of it.
  bool enter() { return depth_++ == 0; }
  void leave() { --depth_; }
  void add(const char* name, double seconds) {
    Entry& entry = entries_[name];
    ++entry.calls;
    entry.seconds += seconds;
  }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  void clear() { entries_.clear(); }

 private:
  std::map<std::string, Entry> entries_;
  int depth_ = 0;
};

/// Every operator opens one: its time until the scope ends is added under the operator's name.
class ProfileScope {
 public:
  ProfileScope(Stream& stream, const char* name) : profile_(stream.profile()), name_(name) {
    if (!profile_) return;
    outermost_ = profile_->enter();
    start_ = Clock::now();
  }
  ~ProfileScope() {
    if (!profile_) return;
    profile_->leave();
    if (outermost_) profile_->add(name_, std::chrono::duration<double>(Clock::now() - start_).count());
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  Profile* profile_;
  const char* name_;
  bool outermost_ = false;
  Clock::time_point start_;
};

}  // namespace foretoken
