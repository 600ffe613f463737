#pragma once
// The last communications of this rank, kept so that a hang or a lost peer can be understood afterwards: the
// dumps of all ranks side by side show who waits for whom.

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace foretoken {

class FlightRecorder {
 public:
  struct Entry {
    std::uint64_t sequence = 0;           // from 0, of this rank
    const char* operation = "";           // a literal: "send", "all-reduce"
    std::array<char, 32> communicator{};  // its name, cut to fit
    std::uint64_t bytes = 0;              // of this rank's tensor
    int peer = -1;                        // rank in the communicator, -1 where all take part
    double started = 0;                   // seconds since the recorder's construction
    double finished = -1;                 // -1 while under way
  };

  explicit FlightRecorder(std::size_t capacity = 1024);

  /// Notes a start and returns its sequence number; `operation` must be a literal.
  std::uint64_t start(const char* operation, std::string_view communicator, std::uint64_t bytes, int peer);
  void finish(std::uint64_t sequence);

  /// The entries that are kept, oldest first.
  std::vector<Entry> entries() const;

  /// Writes them as text, a line each: sequence operation communicator bytes peer start end, times in seconds
  /// since the UTC time of the heading. A DataError where the file cannot be written.
  void dump(const std::filesystem::path& file) const;

 private:
  double now() const;

  std::chrono::system_clock::time_point begin_utc_ = std::chrono::system_clock::now();
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::uint64_t next_ = 0;
  std::vector<Entry> ring_;
};

}  // namespace foretoken
