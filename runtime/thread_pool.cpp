#include "runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/error.h"

namespace foretoken {

namespace {

// An operator takes microseconds and the next one follows at once, so waiting begins with a short spin. Then
// the thread lets others have its core, for what it waits for may be one of them: where more is running than
// there are cores, threads of one pool meet on one. At last it sleeps.
constexpr int spins = 400, yields = 200;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Returns when value is no longer `old`.
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
  // Written by the caller before it raises the generation, read by the workers after.
  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::int64_t count = 0;
  std::int64_t chunk = 0;
  bool stopping = false;
  std::atomic<std::uint64_t> generation = 0;
  std::atomic<int> running = 0;
  std::mutex failure_mutex;
  std::exception_ptr failure;
  std::vector<std::thread> workers;

  void run_range(std::int64_t index) {
    const std::int64_t begin = index * chunk;
    const std::int64_t end = std::min(count, begin + chunk);
    if (begin >= end) return;
    try {
      (*body)(begin, end);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  void raise_generation() {
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
  }

  void work(std::int64_t index) {
    for (std::uint64_t seen = 0;; ++seen) {
      wait_for_change(generation, seen);
      if (stopping) return;
      run_range(index);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 1) throw UsageError("threads: {} asked for, at least 1 is needed", threads);
  for (int i = 1; i < threads; ++i)
    state_->workers.emplace_back([state = state_.get(), i] { state->work(i); });
}

ThreadPool::~ThreadPool() {
  state_->stopping = true;
  state_->raise_generation();
  for (std::thread& worker : state_->workers) worker.join();
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
  state_->running.store(static_cast<int>(state_->workers.size()), std::memory_order_relaxed);
  state_->raise_generation();
  state_->run_range(0);
  for (int left; (left = state_->running.load(std::memory_order_acquire)) != 0;)
    wait_for_change(state_->running, left);
  if (state_->failure) std::rethrow_exception(state_->failure);
}

}  // namespace foretoken
