#include "io/checkpoint/run_lock.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/files/durable_file.h"
#include "runtime/error.h"
#include "runtime/host/utc_time.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Seconds = std::chrono::duration<double>;

constexpr const char* lock_name = "run.lock";
constexpr std::size_t longest_lock = 4096;
constexpr int silent_heartbeats = 3;

struct Holder {
  std::string id;
  std::string host;
  std::string boot;           // boot id of the host's kernel
  std::string pid_namespace;  // process ids are valid inside it only
  std::int64_t pid = 0;
  std::string process_start;  // clock ticks since boot
  std::string since;          // UTC
};

std::string word_of(const char* path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

struct ProcessState {
  char state = '?';
  std::string start;
};

/// Read from /proc; empty if there is no such process.
std::optional<ProcessState> state_of(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = text.rfind(')');  // the name may contain any character
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  ProcessState state;
  fields >> state.state;
  for (int field = 4; field <= 22; ++field) fields >> state.start;
  return state;
}

std::string pid_namespace() {
  std::error_code error;
  return fs::read_symlink("/proc/self/ns/pid", error).string();
}

std::string own_text() {
  std::random_device random;
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  const auto self = state_of(::getpid());
  return Json{{"id", fmt::format("{:08x}{:08x}", random(), random())},
              {"host", host},
              {"boot", word_of("/proc/sys/kernel/random/boot_id")},
              {"pid_namespace", pid_namespace()},
              {"pid", ::getpid()},
              {"process_start", self ? self->start : ""},
              {"since", utc_time()}}
             .dump() +
         "\n";
}

/// The holder that the text names; empty if no RunLock wrote the text, for example if the file is empty.
std::optional<Holder> holder_of(const std::string& text) try {
  const Json json = Json::parse(text);
  Holder holder{.id = json.at("id"),
                .host = json.at("host"),
                .boot = json.at("boot"),
                .pid_namespace = json.at("pid_namespace"),
                .pid = json.at("pid"),
                .process_start = json.at("process_start"),
                .since = json.at("since")};
  if (holder.id.empty() || holder.id.find_first_not_of("0123456789abcdef") != std::string::npos)
    return std::nullopt;
  return holder;
} catch (const Json::exception&) {
  return std::nullopt;
}

/// Whether the holder is a process of this host, in this pid namespace.
bool is_here(const Holder& holder) {
  static const std::string boot = word_of("/proc/sys/kernel/random/boot_id"), names = pid_namespace();
  return !boot.empty() && !names.empty() && holder.boot == boot && holder.pid_namespace == names;
}

std::string describe_holder(const std::optional<Holder>& holder) {
  if (!holder) return "an unknown job (its lock file is unreadable)";
  return fmt::format("pid {} on {}, since {}", holder->pid, holder->host, holder->since);
}

struct LockFile {
  std::string text;
  double time = 0;  // time of the last heartbeat by the file system's clock
};

double modified(const struct stat& status) {
  return static_cast<double>(status.st_mtim.tv_sec) + 1e-9 * static_cast<double>(status.st_mtim.tv_nsec);
}

/// Empty if the file does not exist. Opening it makes a network file system ask its server.
std::optional<LockFile> read_lock(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) {
    if (errno == ENOENT || errno == ESTALE) return std::nullopt;
    throw DataError("{}: cannot be opened: {}", file.string(), std::strerror(errno));
  }
  LockFile lock;
  lock.text.resize(longest_lock);
  const ssize_t bytes = ::read(descriptor, lock.text.data(), lock.text.size());
  struct stat status {};
  const bool known = ::fstat(descriptor, &status) == 0;
  const int error = errno;
  ::close(descriptor);
  if (bytes < 0 || !known) throw DataError("{}: cannot be read: {}", file.string(), std::strerror(error));
  lock.text.resize(static_cast<std::size_t>(bytes));
  lock.time = modified(status);
  return lock;
}

enum class HolderState { alive, ended, silent };

/// One attempt to take a lock. It writes a temporary file, which link() makes the lock. The time stamp of
/// this file also gives the file system's current time.
class Attempt {
 public:
  Attempt(const fs::path& file, const std::string& text, const RunLockOptions& options)
      : own_(file), text_(text), options_(options) {
    AppendedFile out(own_.path());
    out.append(std::string_view(text).substr(0, text.size() - 1));  // without its newline
    out.sync();  // after a power loss the lock must still name its holder, whose process has ended
  }

  /// Returns the lock that keeps this job from `file`; empty if this job now holds it.
  std::optional<LockFile> take(const fs::path& file) {
    for (int i = 0; i < attempts; ++i) {
      if (create(file)) return std::nullopt;
      const std::optional<LockFile> found = read_lock(file);
      if (!found) continue;  // the lock was released after create()
      if (holder_state(*found) != HolderState::ended) return found;
      const std::optional<Holder> holder = holder_of(found->text);
      const fs::path claim = file.string() + "." + (holder ? holder->id : "unnamed");
      if (const auto other = take(claim)) return other;
      // Only the holder of the claim may replace this lock, and only if no earlier holder of the claim has
      // already replaced it and its own holder has not sent a heartbeat in the meantime.
      const std::optional<LockFile> now = read_lock(file);
      if (now && now->text == found->text && now->time == found->time) {
        if (::rename(claim.c_str(), file.c_str()) != 0)
          throw DataError("{}: cannot be replaced: {}", file.string(), std::strerror(errno));
        if (options_.log && file.filename() == lock_name)
          options_.log(fmt::format("run lock   {}: taken over from {}: {}", file.parent_path().string(),
                                   describe_holder(holder), reason(*found)));
        return std::nullopt;
      }
      ::unlink(claim.c_str());
    }
    throw DataError("{}: its holder changes too often", file.string());
  }

  HolderState holder_state(const LockFile& lock) const {
    const std::optional<Holder> holder = holder_of(lock.text);
    if (holder && is_here(*holder)) return is_running(*holder) ? HolderState::alive : HolderState::ended;
    const double age = age_of(lock);
    if (age > Seconds(options_.expiry).count()) return HolderState::ended;
    return age > silent_heartbeats * Seconds(options_.heartbeat).count() ? HolderState::silent
                                                                         : HolderState::alive;
  }

  /// Example: "pid 4242 on node7, since 2026-11-28T05:00:00Z, last heartbeat 3 s ago".
  std::string describe(const LockFile& lock) const {
    const std::optional<Holder> holder = holder_of(lock.text);
    if (holder && is_here(*holder)) return describe_holder(holder);
    return fmt::format("{}, last heartbeat {:.0f} s ago", describe_holder(holder), age_of(lock));
  }

 private:
  static constexpr int attempts = 100;

  /// Seconds since the lock's last heartbeat.
  double age_of(const LockFile& lock) const {
    struct stat status {};
    if (::utimensat(AT_FDCWD, own_.path().c_str(), nullptr, 0) != 0 ||
        ::stat(own_.path().c_str(), &status) != 0)
      throw DataError("{}: the file system's time cannot be read: {}", own_.path().string(),
                      std::strerror(errno));
    return modified(status) - lock.time;
  }

  static bool is_running(const Holder& holder) {
    const auto state = state_of(holder.pid);
    return state && state->start == holder.process_start && state->state != 'Z' && state->state != 'X';
  }

  std::string reason(const LockFile& lock) const {
    const std::optional<Holder> holder = holder_of(lock.text);
    if (holder && is_here(*holder)) return "that process has ended";
    return fmt::format("no heartbeat for {:.0f} s, limit {:.0f} s", age_of(lock),
                       Seconds(options_.expiry).count());
  }

  /// Returns false if the file exists. link() is exclusive on every file system; if links are not supported,
  /// O_EXCL is used.
  bool create(const fs::path& file) const {
    if (::link(own_.path().c_str(), file.c_str()) == 0) return true;
    if (errno == EEXIST) {  // a server's answer may get lost, and the repeated call then finds its own link
      const std::optional<LockFile> found = read_lock(file);
      return found && found->text == text_;
    }
    const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0 && errno == EEXIST) return false;
    if (descriptor < 0) throw DataError("{}: cannot be created: {}", file.string(), std::strerror(errno));
    const ssize_t written = ::write(descriptor, text_.data(), text_.size());
    int error = written < 0 ? errno : written < static_cast<ssize_t>(text_.size()) ? ENOSPC : 0;
    // As before link(): after a power loss the lock must still name its holder.
    if (error == 0 && ::fsync(descriptor) != 0) error = errno;
    ::close(descriptor);
    if (error == 0) return true;
    ::unlink(file.c_str());
    throw DataError("{}: cannot be written: {}", file.string(), std::strerror(error));
  }

  PendingFile own_;
  const std::string& text_;
  const RunLockOptions& options_;
};

}  // namespace

RunLock::RunLock(const fs::path& folder, RunLockOptions options)
    : folder_(folder), file_(folder / lock_name), options_(std::move(options)), text_(own_text()) {
  Attempt attempt(file_, text_, options_);
  bool logged = false;
  while (const std::optional<LockFile> other = attempt.take(file_)) {
    if (attempt.holder_state(*other) == HolderState::alive)
      throw UsageError("run directory: {}: in use by {}; end that job first or use another folder",
                       folder.string(), attempt.describe(*other));
    if (!logged && options_.log)
      options_.log(fmt::format("run lock   {}: held by {}; waiting for its next heartbeat, at most {:.0f} s",
                               folder.string(), attempt.describe(*other), Seconds(options_.expiry).count()));
    logged = true;
    std::this_thread::sleep_for(options_.heartbeat / 5);
  }
  thread_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, options_.heartbeat, [this] { return stopping_; })) heartbeat();
  });
}

RunLock::~RunLock() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  try {
    if (const auto now = read_lock(file_); now && now->text == text_) ::unlink(file_.c_str());
  } catch (const DataError&) {  // the lock then becomes stale
  }
}

void RunLock::heartbeat() try {
  // Never renews another job's lock: it may have been taken over just now.
  if (const auto now = read_lock(file_); now && now->text == text_)
    ::utimensat(AT_FDCWD, file_.c_str(), nullptr, 0);
} catch (const DataError&) {  // the next heartbeat may reach the file again
}

void RunLock::require_held() const {
  const std::optional<LockFile> now = read_lock(file_);
  if (now && now->text == text_) return;
  throw DataError(
      "run directory: {}: this job sent no heartbeat for more than {:.0f} s, and {} has taken over the run",
      folder_.string(), Seconds(options_.expiry).count(),
      now ? describe_holder(holder_of(now->text)) : "another job");
}

bool holder_falls_silent(const fs::path& folder, const std::function<bool()>& cancelled,
                         const RunLockOptions& options) {
  const std::optional<LockFile> refused = read_lock(folder / lock_name);
  if (!refused) return false;
  if (const auto holder = holder_of(refused->text); holder && is_here(*holder)) return false;
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start <= silent_heartbeats * options.heartbeat) {
    if (cancelled && cancelled()) return false;
    std::this_thread::sleep_for(
        std::min<std::chrono::milliseconds>(options.heartbeat / 5, std::chrono::milliseconds(200)));
    const std::optional<LockFile> now = read_lock(folder / lock_name);
    if (!now) return true;
    if (now->text != refused->text || now->time != refused->time) return false;
  }
  return true;
}

}  // namespace foretoken
