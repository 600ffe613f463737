#pragma once
// The threads of one rank. Operators divide their work among them.

#include <cstdint>
#include <functional>
#include <memory>

namespace foretoken {

class ThreadPool {
 public:
  /// `threads` counts the caller: 1 starts no thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  /// Calls body(begin, end) over disjoint ranges that cover [0, count), each of at least `grain` items except
  /// the last, and returns when all calls have returned. The ranges depend only on count, grain and
  /// threads(). Rethrows an exception of `body`.
  void parallel_for(std::int64_t count, std::int64_t grain,
                    const std::function<void(std::int64_t, std::int64_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace foretoken
