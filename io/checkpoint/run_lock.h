#pragma once
// Allows one job at a time in a run's folder, on any file system that creates files exclusively; flock is
// not needed.
//
// The lock is the file run.lock. It names its holder: host, process id, start time of the process, time of
// locking. A thread of the holder renews the file's time stamp every `heartbeat`. A lock is stale, and is
// taken over, if its holder was a process of this host that has ended, or if its holder is on another host
// and the last heartbeat is older than `expiry`. Ages are differences of the file system's own time stamps,
// so the clocks of hosts may differ.
//
// If several jobs find a stale lock, exactly one wins: the right to replace lock L is itself a lock, the
// file "run.lock.<id of L>", which only one job can create.

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace foretoken {

struct RunLockOptions {
  std::chrono::milliseconds heartbeat = std::chrono::seconds(5);
  std::chrono::milliseconds expiry = std::chrono::seconds(60);
  /// Receives one console line: a takeover, or a wait for the expiry of a silent holder.
  std::function<void(const std::string&)> log;
};

class RunLock {
 public:
  /// Takes the lock of an existing folder. If there is a live holder, throws a UsageError that names its
  /// host, process and time of locking, without waiting. If the holder is on another host and has missed
  /// three heartbeats, waits for its next heartbeat or its expiry. Throws a DataError if the folder cannot be
  /// written.
  explicit RunLock(const std::filesystem::path& folder, RunLockOptions options = {});
  /// Releases the lock.
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// Throws a DataError that names the new holder if another job has taken over the lock because this one was
  /// silent for too long; nothing may be written then. Reads the file. Callable from any thread.
  void require_held() const;

 private:
  void heartbeat();

  std::filesystem::path folder_;
  std::filesystem::path file_;
  RunLockOptions options_;
  std::string text_;  // the lock's content while this object holds it
  std::thread thread_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;  // guarded by mutex_
};

/// Watches a lock because of which RunLock refused the folder, to learn whether the holder, a process of
/// another host, may be dead. Returns true once the holder has missed three heartbeats or has released the
/// lock: another RunLock can then succeed. Returns false once the holder sends a heartbeat. Returns false
/// immediately if the holder is a process of this host, if there is no lock, or once `cancelled` returns
/// true.
bool holder_falls_silent(const std::filesystem::path& folder, const std::function<bool()>& cancelled = {},
                         const RunLockOptions& options = {});

}  // namespace foretoken
