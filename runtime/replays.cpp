#include "runtime/replays.h"

#if FORETOKEN_WITH_CUDA
#include <map>
#include <optional>

#include "runtime/cuda/context.h"
#include "runtime/cuda/graph.h"
#endif

namespace foretoken {

#if FORETOKEN_WITH_CUDA

constexpr std::size_t most_keys = 512;  // bounds memory: at this number all graphs are dropped

struct Replays::Graphs {
  std::map<Key, std::optional<cuda::Graph>> by_key;  // nullopt: has run once, not captured yet
};

void Replays::run(const Key& key, const std::function<void()>& enqueue) {
  if (stream_.device() == DeviceKind::cpu || stream_.profile() || stream_.timeline()) return enqueue();
  if (graphs_->by_key.size() >= most_keys) {
    stream_.synchronize();
    graphs_->by_key.clear();
  }
  // The first run selects algorithms and grows the workspace, which is impossible during capture.
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
