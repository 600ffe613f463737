#include "runtime/host/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "runtime/error.h"

namespace foretoken {

namespace {

// An operator takes microseconds and the next one follows immediately, so a waiting thread spins briefly
// first. Then it yields its core: if more threads run than there are cores, the thread that it waits for may
// need that core. Finally it sleeps.
constexpr int spins = 400, yields = 200;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Returns when `value` differs from `old`.
template <class T>
void wait_for_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  for (int i = 0; i < yields; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

struct ThreadPool::State {
  /// Each thread has its own counter of orders to start, so that threads without work stay asleep.
  struct alignas(64) Worker {
    std::atomic<std::uint32_t> orders = 0;
    std::thread thread;
  };

  // Written by the caller before it issues orders, read by the workers afterwards.
  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::int64_t count = 0;
  std::int64_t chunk = 0;
  bool stopping = false;
  std::atomic<int> running = 0;
  std::mutex failure_mutex;
  std::exception_ptr failure;
  std::deque<Worker> workers;

  void run_range(std::int64_t index) {
    const std::int64_t begin = index * chunk;
    const std::int64_t end = std::min(count, begin + chunk);
    try {
      (*body)(begin, end);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  static void give_order(Worker& worker) {
    worker.orders.fetch_add(1, std::memory_order_release);
    worker.orders.notify_one();
  }

  void work(const Worker& self, std::int64_t index) {
    for (std::uint32_t seen = 0;; ++seen) {
      wait_for_change(self.orders, seen);
      if (stopping) return;
      run_range(index);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 1) throw UsageError("threads: {} asked for, at least 1 is needed", threads);
  for (int i = 1; i < threads; ++i) {
    State::Worker& worker = state_->workers.emplace_back();
    worker.thread = std::thread([state = state_.get(), &worker, i] { state->work(worker, i); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping = true;
  for (State::Worker& worker : state_->workers) State::give_order(worker);
  for (State::Worker& worker : state_->workers) worker.thread.join();
}

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::parallel_for(std::int64_t count, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (count <= 0) return;
  const std::int64_t chunk = std::max(grain, (count + threads() - 1) / threads());
  if (chunk >= count) return body(0, count);
  state_->body = &body;
  state_->count = count;
  state_->chunk = chunk;
  state_->failure = nullptr;
  const auto others = static_cast<std::size_t>((count - 1) / chunk);  // number of ranges that workers run
  state_->running.store(static_cast<int>(others), std::memory_order_relaxed);
  for (std::size_t i = 0; i < others; ++i) State::give_order(state_->workers[i]);
  state_->run_range(0);
  for (int left; (left = state_->running.load(std::memory_order_acquire)) != 0;)
    wait_for_change(state_->running, left);
  if (state_->failure) std::rethrow_exception(state_->failure);
}

}  // namespace foretoken
