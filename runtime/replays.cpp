#include "runtime/replays.h"

#if FORETOKEN_WITH_CUDA
#include <map>
#include <optional>

#include "runtime/cuda/context.h"
#include "runtime/cuda/graph.h"
#endif

namespace foretoken {

#if FORETOKEN_WITH_CUDA

constexpr std::size_t most_keys = 512;  // then all begin anew, so that memory for them is bounded

struct Replays::Graphs {
  std::map<Key, std::optional<cuda::Graph>> by_key;  // nothing: has run once
};

void Replays::run(const Key& key, const std::function<void()>& enqueue) {
  if (stream_.device() == DeviceKind::cpu || stream_.profile() || stream_.timeline()) return enqueue();
  if (graphs_->by_key.size() >= most_keys) {
    stream_.synchronize();
    graphs_->by_key.clear();
  }
  // The first run finds algorithms and makes the workspace large enough, which a recording cannot.
  const auto [found, first] = graphs_->by_key.try_emplace(key);
  if (first) return enqueue();
  std::optional<cuda::Graph>& graph = found->second;
  if (!graph || !graph->valid()) graph.emplace(stream_.cuda(), enqueue);
  graph->launch();
}

#else

struct Replays::Graphs {};

void Replays::run(const Key&, const std::function<void()>& enqueue) {
  enqueue();
}

#endif

Replays::Replays(Stream& stream) : stream_(stream), graphs_(std::make_unique<Graphs>()) {}
Replays::~Replays() = default;

}  // namespace foretoken
