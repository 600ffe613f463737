#include "runtime/thread_pool.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/error.h"

namespace foretoken {

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable start;
  std::condition_variable finish;
  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::int64_t count = 0;
  std::int64_t chunk = 0;
  std::uint64_t generation = 0;
  int running = 0;
  bool stopping = false;
  std::exception_ptr failure;
  std::vector<std::thread> workers;

  void run_range(std::int64_t index) {
    const std::int64_t begin = index * chunk;
    const std::int64_t end = std::min(count, begin + chunk);
    if (begin >= end) return;
    try {
      (*body)(begin, end);
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  void work(std::int64_t index) {
    std::uint64_t seen = 0;
    while (true) {
      {
        std::unique_lock lock(mutex);
        start.wait(lock, [&] { return stopping || generation != seen; });
        if (stopping) return;
        seen = generation;
      }
      run_range(index);
      std::lock_guard lock(mutex);
      if (--running == 0) finish.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 1) throw UsageError("threads: {} asked for, at least 1 is needed", threads);
  for (int i = 1; i < threads; ++i)
    state_->workers.emplace_back([state = state_.get(), i] { state->work(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->start.notify_all();
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
  {
    std::lock_guard lock(state_->mutex);
    state_->body = &body;
    state_->count = count;
    state_->chunk = chunk;
    state_->failure = nullptr;
    state_->running = static_cast<int>(state_->workers.size());
    ++state_->generation;
  }
  state_->start.notify_all();
  state_->run_range(0);
  std::unique_lock lock(state_->mutex);
  state_->finish.wait(lock, [&] { return state_->running == 0; });
  if (state_->failure) std::rethrow_exception(state_->failure);
}

}  // namespace foretoken
