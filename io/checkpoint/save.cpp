#include "io/checkpoint/save.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sys/stat.h>
#include <thread>
#include <utility>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/checkpoint_shard.h"
#include "io/files/durable_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace fs = std::filesystem;

namespace {

constexpr const char* id_file = "save_id";

}  // namespace

void SaveDirectory::write_id(const std::string& id) const {
  write_durably(path_ / id_file, id);
}

void SaveDirectory::remove_id() const {
  fs::remove(path_ / id_file);
}

void SaveDirectory::abandon() const noexcept {
  std::error_code ignored;
  fs::remove(path_ / id_file, ignored);
  discard_checkpoint(path_);
}

std::string SaveDirectory::read_id() const {
  std::string id;
  std::ifstream(path_ / id_file) >> id;
  return id;
}

std::string SaveDirectory::await_id() const {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point limit = Clock::now() + std::chrono::seconds(30);
  while (true) {
    if (std::string id = read_id(); !id.empty()) return id;
    if (Clock::now() > limit)
      throw DataError(
          "checkpoint {}: rank 0 created it, but this rank cannot see it: all ranks must share the "
          "directory",
          path_.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

void SaveDirectory::write_vote(int rank, const ShardVote& vote) const {
  write_durably(path_ / vote_name(rank), vote_text(vote));
}

bool SaveDirectory::has_vote(int rank) const {
  std::error_code ignored;
  return fs::exists(path_ / vote_name(rank), ignored);
}

std::optional<ShardVote> SaveDirectory::vote(int rank, const std::string& id) const {
  const fs::path file = path_ / vote_name(rank);
  std::error_code error;
  const bool exists = fs::exists(file, error);
  if (error && error.value() != ESTALE)  // the disk failed: no vote will be seen
    throw DataError("checkpoint {}: cannot be read: {}", file.string(), error.message());
  if (!exists) return std::nullopt;
  ShardVote vote = read_vote(file);
  if (vote.save_id != id) return std::nullopt;  // the vote belongs to an earlier save of this step
  return vote;
}

std::int64_t SaveDirectory::bytes_on_disk() const {
  std::int64_t bytes = 0;
  std::error_code error;
  for (fs::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
    struct stat status {};
    if (::stat(it->path().c_str(), &status) == 0) bytes += std::int64_t{512} * status.st_blocks + 1;
  }
  return bytes;
}

bool SaveProgress::stalled() {
  const Clock::time_point now = Clock::now();
  if (now - looked_ < std::min(limit_ / 4, std::chrono::milliseconds(1000))) return false;
  looked_ = now;
  if (const std::int64_t bytes = directory_.bytes_on_disk(); std::exchange(bytes_, bytes) != bytes)
    moved_ = now;
  return now - moved_ > limit_;
}

}  // namespace foretoken
